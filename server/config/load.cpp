// Reads the file, goes on behind every mistake, and says all of them in one run.
#include "server/config/load.hpp"
#include "server/config/checks.hpp"
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

extern char** environ;

namespace server {

namespace {

/// A value that was written somewhere.
struct written {
  value v;
  std::string text, origin;
  std::uint32_t line = 0, column = 0;
};

std::string in_quotes(std::string_view s) { return '"' + std::string{s} + '"'; }

std::string text_of(const toml::node& n) {
  std::ostringstream out;
  n.visit([&](auto& x) { out << x; });
  return out.str();
}

class loader {
public:
  loader(const std::string& file, const load_options& how) : file_(file), how_(how) {
    modules_ = modules::all();
    keys_ = all_keys(modules_);
  }

  loaded run(const environment& env) {
    if (auto text = read())
      walk(parse(std::move(*text)), "", "");
    for (auto& [name, text] : env)
      take_environment(name, text);
    fill();
    if (how_.checks_machine)
      check_machine(out_, how_.checks_ports, [this](const std::string& key, const std::string& host) { return place_of(key, host); });
    std::stable_sort(out_.problems.begin(), out_.problems.end(), [](auto& a, auto& b) { return a.line < b.line; });
    return std::move(out_);
  }

private:
  // --- the file

  std::optional<std::string> read() {
    struct stat st{};
    auto missing = [&](std::string found, std::string remedy) {
      out_.problems.push_back({file_, 0, 0, "", std::move(found), "a readable TOML file", std::move(remedy)});
      return std::nullopt;
    };
    if (stat(file_.c_str(), &st) != 0)
      return missing("there is no such file", "covey setup example.org --config " + file_);
    if (!S_ISREG(st.st_mode))
      return missing("this is not a file", "name the file itself");
    std::ifstream in{file_, std::ios::binary};
    if (!in)
      return missing("the file cannot be read", "give the server's user the right to read it");
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }

  /// toml++ stops at the first mistake; its line is blanked and the rest is read on.
  toml::table parse(std::string text) {
    constexpr int most_mistakes = 50;
    for (int n = 0; n < most_mistakes; ++n) {
      auto result = toml::parse(std::string_view{text}, file_);
      if (result)
        return std::move(result).table();
      auto& e = result.error();
      auto at = e.source().begin;
      std::string line = line_of(text, at.line);
      problem p{file_, at.line, at.column, key_of(line), line.empty() ? "the end of the file" : in_quotes(line), std::string{e.description()},
                "key = value, with texts in quotes"};
      if (p.allowed.find("redefine") != p.allowed.npos || p.allowed.find("existing") != p.allowed.npos)
        p.remedy = "remove this line: the key stands twice";
      out_.problems.push_back(std::move(p));
      if (!blank_line(text, at.line))
        return {};
    }
    return {};
  }

  static std::string line_of(const std::string& text, std::uint32_t number) {
    std::istringstream in{text};
    std::string line;
    for (std::uint32_t n = 0; n < number && std::getline(in, line); ++n) {}
    return line;
  }
  static std::string key_of(const std::string& line) {
    auto end = line.find('=');
    if (end == line.npos)
      return {};
    auto k = line.substr(0, end);
    k.erase(std::remove_if(k.begin(), k.end(), [](char c) { return std::isspace(static_cast<unsigned char>(c)); }), k.end());
    return k;
  }
  /// False: nothing left to blank. The mistake may be reported on the line after it.
  static bool blank_line(std::string& text, std::uint32_t number) {
    while (number > 0) {
      std::size_t at = 0;
      for (std::uint32_t n = 1; n < number && at != text.npos; ++n) {
        at = text.find('\n', at);
        at += at != text.npos;
      }
      if (at == text.npos || at >= text.size()) {
        --number;
        continue;
      }
      auto end = std::min(text.find('\n', at), text.size());
      bool had = std::any_of(text.begin() + static_cast<std::ptrdiff_t>(at), text.begin() + static_cast<std::ptrdiff_t>(end),
                             [](char c) { return c != ' '; });
      if (!had) {
        --number;
        continue;
      }
      std::fill(text.begin() + static_cast<std::ptrdiff_t>(at), text.begin() + static_cast<std::ptrdiff_t>(end), ' ');
      return true;
    }
    return false;
  }

  // --- keys

  const key* find_key(std::string_view name) const {
    auto i = std::find_if(keys_.begin(), keys_.end(), [&](auto& k) { return k.name == name; });
    return i == keys_.end() ? nullptr : &*i;
  }

  void walk(const toml::table& t, const std::string& prefix, const std::string& host) {
    for (auto&& [k, node] : t) {
      auto name = prefix + std::string{k.str()};
      auto at = k.source().begin;
      if (prefix.empty() && host.empty() && name == "host" && node.is_table()) {
        for (auto&& [domain, inner] : *node.as_table()) {
          auto prepared = xmpp::parse_jid(domain.str());
          if (!prepared || !(*prepared)->is_domain() || !(*prepared)->is_bare() || !inner.is_table()) {
            add(domain.source().begin, "host", in_quotes(domain.str()), "a table named after a domain: [host.\"example.org\"]", {});
            continue;
          }
          std::string d{(*prepared)->domain()};
          named_hosts_.push_back({d, domain.source().begin});
          walk(*inner.as_table(), "", d);
        }
        continue;
      }
      if (node.is_table()) {
        bool known = std::any_of(keys_.begin(), keys_.end(), [&](auto& x) { return x.name.starts_with(name + '.'); });
        if (!known)
          unknown(at, name, host);
        else
          walk(*node.as_table(), name + '.', host);
        continue;
      }
      auto* declared = find_key(name);
      if (!declared) {
        unknown(at, name, host);
        continue;
      }
      if (!host.empty() && declared->scope == key_scope::node) {
        add(at, name, "a key of the whole node under a host", "this key at the top of the file", name + " = " + text_of(node) + "   # above the first [table]");
        continue;
      }
      take(*declared, node, at, host, file_ + ':' + std::to_string(at.line));
    }
  }

  void unknown(const toml::source_position& at, const std::string& name, const std::string& host) {
    std::vector<std::string> names;
    for (auto& k : keys_)
      if (host.empty() || k.scope == key_scope::host) {
        names.push_back(k.name);
        for (auto dot = k.name.find('.'); dot != k.name.npos; dot = k.name.find('.', dot + 1))
          names.push_back(k.name.substr(0, dot)); // a misspelt table
      }
    auto meant = nearest(name, names);
    add(at, name, "an unknown key", "a key of docs/configuration.md (covey config docs)",
        meant ? "did you mean " + *meant + '?' : "remove it");
  }

  void add(const toml::source_position& at, std::string key, std::string found, std::string allowed, std::string remedy) {
    out_.problems.push_back({file_, at.line, at.column, std::move(key), std::move(found), std::move(allowed), std::move(remedy)});
  }

  static std::string example(const key& k) {
    bool is_quoted = k.type == key_type::text || k.type == key_type::duration || k.type == key_type::size;
    return k.name + " = " + (is_quoted ? in_quotes(k.default_value) : k.default_value);
  }

  /// Nothing: not of the key's type or out of its range.
  static std::optional<value> convert(const key& k, const toml::node& n) {
    value v;
    auto fits = [&](std::int64_t x) { return x >= k.least && x <= k.most; };
    switch (k.type) {
      case key_type::flag:
        if (auto b = n.value_exact<bool>()) {
          v.number = *b;
          return v;
        }
        return std::nullopt;
      case key_type::number:
        if (auto i = n.value_exact<std::int64_t>(); i && fits(*i)) {
          v.number = *i;
          return v;
        }
        return std::nullopt;
      case key_type::duration:
      case key_type::size: {
        auto s = n.value_exact<std::string>();
        auto x = s ? (k.type == key_type::duration ? parse_duration(*s) : parse_size(*s)) : std::nullopt;
        if (!x || !fits(*x))
          return std::nullopt;
        v.number = *x;
        v.text = *s;
        return v;
      }
      case key_type::text:
        if (auto s = n.value_exact<std::string>(); s && (k.allowed.empty() || std::find(k.allowed.begin(), k.allowed.end(), *s) != k.allowed.end())) {
          v.text = *s;
          return v;
        }
        return std::nullopt;
      case key_type::list:
        if (auto* a = n.as_array()) {
          for (auto& e : *a) {
            auto s = e.value_exact<std::string>();
            if (!s || (!k.allowed.empty() && std::find(k.allowed.begin(), k.allowed.end(), *s) == k.allowed.end()))
              return std::nullopt;
            v.list.push_back(*s);
          }
          return v;
        }
        return std::nullopt;
    }
    return std::nullopt;
  }

  void take(const key& k, const toml::node& n, const toml::source_position& at, const std::string& host, const std::string& origin) {
    auto v = convert(k, n);
    if (!v) {
      std::string remedy = example(k);
      if (auto s = n.value_exact<std::string>(); s && !k.allowed.empty())
        if (auto meant = nearest(*s, k.allowed))
          remedy = k.name + " = " + (k.type == key_type::list ? "[" + in_quotes(*meant) + "]" : in_quotes(*meant));
      out_.problems.push_back({origin == "environment" ? origin : file_, at.line, at.column, k.name, text_of(n), allowed_text(k), remedy});
      return;
    }
    values_[{host, k.name}] = {std::move(*v), text_of(n), origin, at.line, at.column};
  }

  // --- the environment: COVEY_LIMITS__ROSTER=500

  void take_environment(const std::string& name, const std::string& text) {
    constexpr std::string_view prefix = "COVEY_";
    if (!name.starts_with(prefix) || name == "COVEY_CONFIG" || name.starts_with("COVEY_TEST"))
      return;
    std::string dotted;
    for (std::size_t i = prefix.size(); i < name.size(); ++i) {
      if (name.compare(i, 2, "__") == 0) {
        dotted += '.';
        ++i;
      } else {
        dotted += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
      }
    }
    auto* k = find_key(dotted);
    if (!k) {
      std::vector<std::string> names;
      for (auto& x : keys_)
        names.push_back(x.name);
      auto meant = nearest(dotted, names);
      out_.problems.push_back({"environment", 0, 0, name, "a variable that names no key", "COVEY_ and the key, with __ for each dot",
                               meant ? "did you mean " + *meant + '?' : "unset " + name});
      return;
    }
    auto parsed = toml::parse("x = " + text);
    if (!parsed) // a bare word or path is a text
      parsed = toml::parse("x = '''" + text + "'''");
    if (!parsed) {
      out_.problems.push_back({"environment", 0, 0, k->name, text, allowed_text(*k), name + "='" + k->default_value + '\''});
      return;
    }
    auto* node = parsed.table().get("x");
    if (k->type == key_type::text && !node->is_string()) { // COVEY_DOMAIN=1234 is still a text
      parsed = toml::parse("x = '''" + text + "'''");
      node = parsed.table().get("x");
    }
    take(*k, *node, {}, "", "environment");
  }

  // --- from values to the configuration

  const written& get(const std::string& name, const std::string& host = {}) {
    if (!host.empty())
      if (auto i = values_.find({host, name}); i != values_.end())
        return i->second;
    if (auto i = values_.find({"", name}); i != values_.end())
      return i->second;
    auto* k = find_key(name);
    auto& d = defaults_[name];
    if (d.origin.empty()) {
      bool is_quoted = k->type == key_type::text || k->type == key_type::duration || k->type == key_type::size;
      d.text = is_quoted ? in_quotes(k->default_value) : k->default_value;
      auto parsed = toml::parse("x = " + d.text);
      d.v = *convert(*k, *parsed.table().get("x"));
      d.origin = "default";
    }
    return d;
  }

  problem place_of(const std::string& key, const std::string& host) {
    auto& w = get(key, host);
    problem p;
    p.file = w.origin == "environment" ? w.origin : file_;
    p.line = w.line;
    p.column = w.column;
    p.key = key;
    p.found = w.text;
    return p;
  }

  void complain(const std::string& key, const std::string& host, std::string allowed, std::string remedy, std::string found = {}) {
    auto p = place_of(key, host);
    p.allowed = std::move(allowed);
    p.remedy = std::move(remedy);
    if (!found.empty())
      p.found = std::move(found);
    out_.problems.push_back(std::move(p));
  }

  std::vector<listen_at> addresses(const std::string& name) {
    std::vector<listen_at> all;
    for (auto& text : get(name).v.list) {
      auto colon = text.rfind(':');
      auto address = colon == text.npos ? text : text.substr(0, colon);
      if (address.starts_with('[') && address.ends_with(']'))
        address = address.substr(1, address.size() - 2);
      auto port = colon == text.npos ? std::nullopt : base::to_number<std::uint16_t>(text.substr(colon + 1));
      if (!port || *port == 0 || !is_address(address)) {
        complain(name, "", R"(addresses with a port: "0.0.0.0:5222" or "[::]:5222")", name + R"( = ["0.0.0.0:5222"])", in_quotes(text));
        continue;
      }
      for (auto& [other, taken] : taken_ports_)
        if (taken.port == *port && (taken.address == address))
          complain(name, "", "each address and port once", "another port than " + other + " has", in_quotes(text));
      taken_ports_.push_back({name, {address, *port}});
      all.push_back({address, *port});
    }
    return all;
  }

  void fill() {
    auto& c = out_.config;
    auto ms = [&](const char* k) { return std::chrono::milliseconds{get(k).v.number}; };
    auto u32 = [&](const char* k, const std::string& host = {}) { return static_cast<std::uint32_t>(get(k, host).v.number); };
    c.data_folder = get("data").v.text;
    c.run_folder = get("run").v.text;
    c.reactors = u32("reactors");
    auto level = get("log.level").v.text;
    c.log_level = level == "debug" ? base::log::level::debug : level == "warning" ? base::log::level::warning
                  : level == "error" ? base::log::level::error : base::log::level::info;
    c.log_format = get("log.format").v.text == "json" ? base::log::format::json : base::log::format::text;
    c.log_file = get("log.file").v.text;
    c.c2s = addresses("listen.c2s");
    c.c2s_direct = addresses("listen.c2s_direct");
    c.http = addresses("listen.http");
    c.iterations = u32("sasl.iterations");
    auto& n = c.node;
    n.logins.failures = u32("sasl.failures");
    n.logins.window = ms("sasl.failure_window");
    n.login_timeout = ms("limits.login_timeout");
    n.drain_timeout = ms("drain_timeout");
    n.before_login.max_size = u32("limits.stanza_before_login");
    n.after_login.max_size = u32("limits.stanza");
    n.max_output = u32("limits.output");
    n.session_limits.messages = u32("limits.session_messages");
    n.session_limits.bytes = u32("limits.session_bytes");
    n.session_limits.hard_messages = n.session_limits.messages * 4;
    n.session_limits.hard_bytes = n.session_limits.bytes * 4;
    n.max_directed_presence = u32("limits.directed_presence");
    fill_hosts();
    for (auto& k : keys_) {
      auto& w = get(k.name);
      out_.effective.push_back({k.name, w.text, w.origin});
    }
    for (auto& [at, w] : values_)
      if (!at.first.empty())
        out_.effective.push_back({"host." + in_quotes(at.first) + '.' + at.second, w.text, w.origin});
  }

  void fill_hosts() {
    auto& c = out_.config;
    auto add_host = [&](const std::string& text, const char* key) {
      auto j = xmpp::parse_jid(text);
      if (!j || !(*j)->is_domain() || !(*j)->is_bare()) {
        complain(key, "", "a domain name", std::string{key} + R"( = "example.org")", in_quotes(text));
        return;
      }
      std::string d{(*j)->domain()};
      if (std::any_of(c.hosts.begin(), c.hosts.end(), [&](auto& h) { return h.domain == d; })) {
        complain(key, "", "each domain once", "remove " + in_quotes(text) + " here", in_quotes(text));
        return;
      }
      c.hosts.push_back({});
      c.hosts.back().domain = d;
    };
    if (auto& d = get("domain").v.text; !d.empty())
      add_host(d, "domain");
    for (auto& d : get("domains").v.list)
      add_host(d, "domains");
    for (auto& [d, at] : named_hosts_)
      if (std::none_of(c.hosts.begin(), c.hosts.end(), [&](auto& h) { return h.domain == d; }))
        add(at, "host." + in_quotes(d), "settings of a host that is not served", "a domain of `domain` or `domains`", "domains = [" + in_quotes(d) + "]");
    if (c.hosts.empty() && out_.problems.empty())
      out_.problems.push_back({file_, 0, 0, "domain", "no domain", "the domain that this server serves", R"(domain = "example.org")"});
    for (auto& h : c.hosts)
      fill_host(h);
  }

  void fill_host(host_config& h) {
    auto& d = h.domain;
    h.certificate = get("tls.certificate", d).v.text;
    h.key = get("tls.key", d).v.text;
    if (h.certificate.empty() != h.key.empty())
      complain(h.certificate.empty() ? "tls.certificate" : "tls.key", d, "both files, or neither",
               h.certificate.empty() ? "tls.certificate = \"/path/chain.pem\"" : "tls.key = \"/path/key.pem\"");
    h.engine = get("storage.engine", d).v.text;
    h.require_tls = get("tls.require", d).v.number;
    h.plain_without_tls = get("sasl.plain_without_tls", d).v.number;
    if (h.plain_without_tls && h.require_tls)
      complain("sasl.plain_without_tls", d, "true only with tls.require = false", "tls.require = false");
    h.mechanisms = get("sasl.mechanisms", d).v.list;
    if (h.mechanisms.empty())
      complain("sasl.mechanisms", d, "at least one mechanism", R"(sasl.mechanisms = ["SCRAM-SHA-256"])");
    auto conflict = get("resource_conflict", d).v.text;
    h.on_conflict = conflict == "refuse" ? actors::conflict_policy::refuse : conflict == "rename" ? actors::conflict_policy::rename
                                                                                                  : actors::conflict_policy::replace;
    h.max_login_attempts = static_cast<std::uint8_t>(get("sasl.attempts_per_stream", d).v.number);
    h.max_sessions = static_cast<std::uint32_t>(get("limits.sessions_per_account", d).v.number);
    h.max_roster = static_cast<std::uint32_t>(get("limits.roster", d).v.number);
    for (auto& text : get("admins", d).v.list) {
      auto j = xmpp::parse_jid(text);
      if (!j || (*j)->is_domain() || !(*j)->is_bare())
        complain("admins", d, "bare JIDs", "admins = [" + in_quotes("admin@" + d) + "]", in_quotes(text));
      else
        h.admins.emplace_back((*j)->bare());
    }
    for (auto& m : modules_) {
      std::string name{m->name()}, prefix = "modules." + name + '.';
      h.modules_on[name] = get(prefix + "on", d).v.number;
      for (auto& k : m->keys()) {
        auto& v = get(prefix + k.name, d).v;
        h.modules[name][k.name] = {v.number, v.number != 0, v.text, v.list};
      }
    }
  }

  const std::string file_;
  const load_options how_;
  std::vector<std::unique_ptr<modules::module>> modules_;
  std::vector<key> keys_;
  std::map<std::pair<std::string, std::string>, written> values_; // host (or ""), key
  std::map<std::string, written> defaults_;
  std::vector<std::pair<std::string, toml::source_position>> named_hosts_;
  std::vector<std::pair<std::string, listen_at>> taken_ports_;
  loaded out_;
};

} // namespace

loaded load_config(const std::string& file, const environment& env, const load_options& how) {
  return loader{file, how}.run(env);
}

environment own_environment() {
  environment all;
  for (char** e = environ; *e; ++e) {
    std::string_view s{*e};
    if (auto eq = s.find('='); eq != s.npos)
      all.emplace_back(s.substr(0, eq), s.substr(eq + 1));
  }
  return all;
}

std::string to_text(const problem& p) {
  std::string out = p.file;
  if (p.line)
    out += ':' + std::to_string(p.line) + ':' + std::to_string(p.column);
  out += ": ";
  if (!p.key.empty())
    out += p.key + ": ";
  out += "found " + p.found + "; allowed is " + p.allowed;
  if (!p.remedy.empty())
    out += "\n    " + p.remedy;
  return out;
}

} // namespace server
