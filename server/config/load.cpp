// Walks the file and the environment, goes on behind every mistake, and says all of them in one run.
#include "server/config/load.hpp"
#include "server/config/checks.hpp"
#include "server/config/fill.hpp"
#include "server/config/values.hpp"
#include <algorithm>
#include <cctype>
#include <filesystem>

extern char** environ;

namespace server {

namespace {

class loader {
public:
  explicit loader(const std::string& file) : modules_(modules::all()), values_(file, all_keys(modules_)), file_(file) {}

  loaded run(const environment& env, const load_options& how) {
    source_ = read_source(values_.file());
    if (!source_.unreadable.empty())
      add({}, "", source_.unreadable, "a readable TOML file", source_.remedy);
    for (auto& b : source_.broken)
      say_broken(b);
    walk(source_.table, "", "");
    for (auto& [name, text] : env)
      take_environment(name, text);
    if (auto& data = values_.get("data").v.text; !how.hosts_folder.empty() || !(data.empty() || values_.is_refused("data")))
      read_added_hosts(how.hosts_folder.empty() ? hosts_folder_in(data) : how.hosts_folder, how.instead);
    fill(out_, values_, modules_, named_hosts_);
    if (how.checks_machine)
      check_machine(out_, how.checks_ports, values_);
    auto& all = out_.problems;
    auto place = [&](const problem& p) { return std::pair{values_.is_added(p.file) ? p.file : std::string{}, p.line}; };
    std::stable_sort(all.begin(), all.end(), [&](auto& a, auto& b) { return place(a) < place(b); });
    std::vector<problem> once; // what holds for all hosts was found for each
    for (auto& p : all)
      if (std::find(once.begin(), once.end(), p) == once.end())
        once.push_back(std::move(p));
    all = std::move(once);
    return std::move(out_);
  }

private:
  using position = toml::source_position;

  // --- the files

  /// Hosts that were added at run time: a file each, named after the domain, with what could stand under
  /// [host."…"].
  void read_added_hosts(const std::string& folder, const std::optional<host_file>& instead) {
    std::error_code ec;
    std::map<std::string, std::string> files; // domain: path
    for (std::filesystem::directory_iterator i{folder, ec}, end; !ec && i != end; i.increment(ec))
      if (i->path().extension() == ".toml")
        files[i->path().stem().string()] = i->path().string();
    if (ec && ec != std::errc::no_such_file_or_directory && ec != std::errc::not_a_directory) // that is said of `data`
      out_.problems.push_back({folder, 0, 0, "", "a folder that cannot be read: " + ec.message(), "a folder with a file for each added host",
                               "be the server's user: sudo -u covey covey …", {}});
    if (instead && !instead->text)
      files.erase(instead->domain);
    else if (instead)
      files[instead->domain] = folder + '/' + instead->domain + ".toml";
    for (auto& [domain, path] : files) {
      values_.add_host(domain, path);
      file_ = path;
      file_host_ = domain;
      source_ = instead && instead->domain == domain ? read_text(*instead->text) : read_source(path);
      if (!source_.unreadable.empty())
        add({}, "", source_.unreadable, "a readable TOML file", source_.remedy);
      for (auto& b : source_.broken)
        say_broken(b);
      walk(source_.table, "", domain);
    }
  }

  void walk(const toml::table& t, const std::string& prefix, const std::string& host) {
    for (auto&& [k, node] : t) {
      auto at = k.source().begin;
      if (prefix.empty() && host == file_host_) {
        if (auto* again = alias(k.str())) {
          walk_path(*again, node, at);
          continue;
        }
        if (k.str() == "host" && host.empty()) {
          walk_hosts(node, at);
          continue;
        }
      }
      step(prefix + std::string{k.str()}, node, at, host);
    }
  }

  /// One key, or the table of that name.
  void step(const std::string& name, const toml::node& node, const position& at, const std::string& host) {
    auto* declared = values_.find(name);
    bool is_table_name = std::any_of(values_.keys().begin(), values_.keys().end(), [&](auto& x) { return x.name.starts_with(name + '.'); });
    if (node.is_table() && is_table_name)
      return walk(*node.as_table(), name + '.', host);
    if (declared && node.is_table())
      return add(at, name, "a table", allowed_text(*declared), assignment(at, name, example_of(*declared)));
    if (!declared && is_table_name)
      return add(at, name, text_of(node), "a table of keys", '[' + name + ']');
    if (!declared)
      return say_unknown(at, name, host, node.is_table());
    if (!host.empty() && declared->scope == key_scope::node)
      return add(at, name, "a key of the whole node under a host", "this key at the top of " + (file_host_.empty() ? "the file" : values_.file()) + ", above the first [table]", name + " = " + text_of(node));
    if (!file_host_.empty() && values_.has(host, name) && values_.get(name, host).file != file_)
      return add(at, name, "a second value: " + text_of(node), "each key once", "remove this line, or that in " + values_.get(name, host).origin);
    auto v = convert(*declared, node);
    if (!v) {
      values_.mark_refused(name);
      return add(at, name, text_of(node), allowed_text(*declared), assignment(at, name, mended(*declared, text_of(node))));
    }
    values_.put(host, name, {std::move(*v), without_passwords(text_of(node), true), file_ + ':' + std::to_string(at.line), file_, at.line, at.column, left_of(at, name)});
  }

  void walk_hosts(const toml::node& node, const position& at) {
    auto* all = node.as_table();
    if (!all)
      return add(at, "host", text_of(node), "a table named after a domain", R"([host."example.org"])");
    for (auto&& [domain, inner] : *all)
      walk_host(std::string{domain.str()}, inner, domain.source().begin);
  }

  void walk_host(const std::string& text, const toml::node& inner, const position& at) {
    auto domain = xmpp::parse_jid(text);
    if (!domain || !(*domain)->is_domain() || !(*domain)->is_bare() || !inner.is_table())
      return add(at, "host", inner.is_table() ? in_quotes(text) : in_quotes(text) + ", which is no table", "a table named after a domain",
                 R"([host."example.org"])");
    auto* t = inner.as_table();
    if (auto whole = unquoted_host(text, *t); whole != text)
      return add(at, "host", "[host." + whole + "] without quotes", "a table named after a domain", "[host." + in_quotes(whole) + ']');
    std::string d{(*domain)->domain()};
    named_hosts_.push_back({d, at.line, at.column});
    walk(*inner.as_table(), "", d);
  }

  /// `[host.a.org]` is a table org in a table a: the name that was meant.
  std::string unquoted_host(std::string name, const toml::table& t) const {
    auto all = names("x"); // those of a host
    for (auto* at = &t; at && at->size() == 1;) {
      const toml::table* next = nullptr;
      for (auto&& [k, inner] : *at)
        if (inner.is_table() && std::find(all.begin(), all.end(), k.str()) == all.end() && !nearest(k.str(), all)) {
          name += '.' + std::string{k.str()};
          next = inner.as_table();
        }
      at = next;
    }
    return name;
  }

  const table_path* alias(std::string_view name) const {
    for (auto& a : source_.aliases)
      if (a.name == name)
        return &a.path;
    return nullptr;
  }

  /// A table under the name that its broken header seems to have.
  void walk_path(const table_path& path, const toml::node& node, const position& at) {
    auto* t = node.as_table();
    if (!t || t->empty())
      return;
    if (path.empty())
      return walk(*t, "", file_host_);
    auto first = path.begin();
    std::string host = file_host_, name;
    if (*first == "host" && host.empty()) {
      if (path.size() < 2)
        return walk_hosts(node, at);
      auto domain = xmpp::parse_jid(path[1]);
      if (!domain || !(*domain)->is_domain())
        return walk_host(path[1], node, at);
      host = (*domain)->domain();
      first += 2;
    }
    for (auto i = first; i != path.end(); ++i)
      name += (name.empty() ? "" : ".") + *i;
    if (name.empty())
      walk(*t, "", host);
    else
      step(name, node, at, host);
  }

  // --- what is said of a line

  void add(const position& at, std::string key, std::string found, std::string allowed, std::string remedy, std::string meant = {}) {
    out_.problems.push_back({file_, at.line, at.column, std::move(key), without_passwords(std::move(found)), std::move(allowed),
                             without_passwords(std::move(remedy)), std::move(meant)});
  }

  std::optional<std::pair<std::string, std::string>> written_at(const position& at) const {
    return at.line == 0 || at.line > source_.lines.size() ? std::nullopt : split_assignment(source_.lines[at.line - 1]);
  }
  /// What stands before '=': within a table that is less than the whole key.
  std::string left_of(const position& at, const std::string& name) const {
    auto a = written_at(at);
    return a && name.ends_with(a->first) ? a->first : name;
  }
  std::string assignment(const position& at, const std::string& name, const std::string& text) const { return left_of(at, name) + " = " + text; }

  std::vector<std::string> names(const std::string& host) const {
    std::vector<std::string> all;
    for (auto& k : values_.keys())
      if (host.empty() || k.scope == key_scope::host) {
        all.push_back(k.name);
        for (auto dot = k.name.find('.'); dot != k.name.npos; dot = k.name.find('.', dot + 1))
          if (auto table = k.name.substr(0, dot); std::find(all.begin(), all.end(), table) == all.end())
            all.push_back(table); // may be misspelt, too
      }
    if (host.empty())
      all.push_back("host");
    return all;
  }

  void say_unknown(const position& at, const std::string& name, const std::string& host, bool is_table) {
    auto meant = nearest(name, names(host));
    std::string remedy = is_table ? "remove this table" : "remove this line";
    if (meant) {
      auto a = written_at(at);
      auto line = at.line && at.line <= source_.lines.size() ? source_.lines[at.line - 1] : std::string{};
      if (a && name.ends_with(a->first)) {
        auto table = name.substr(0, name.size() - a->first.size());
        remedy = (meant->starts_with(table) ? meant->substr(table.size()) : *meant) + " = " + a->second;
      } else if (is_table && line.find('[') != line.npos) {
        remedy = '[' + (host.empty() ? "" : "host." + in_quotes(host) + '.') + *meant + ']';
      } else {
        remedy = *meant;
      }
    }
    add(at, name, is_table ? "an unknown table" : "an unknown key", "a key of docs/configuration.md (covey config docs)", remedy, meant.value_or(""));
  }

  void say_broken(const broken_line& b) {
    std::string name, host;
    auto first = b.path.begin();
    if (b.path.size() > 1 && *first == "host") {
      host = *(first + 1);
      first += 2;
    }
    for (auto i = first; i != b.path.end(); ++i)
      name += (name.empty() ? "" : ".") + *i;
    auto* k = values_.find(name);
    if (k)
      values_.mark_refused(name);
    position at{b.line, b.column};
    if (b.is_again)
      return add(at, name.empty() ? b.text : name, b.key.empty() ? "a table that was begun before: " + b.text : "a second value: " + b.text,
                 b.key.empty() ? "each table once" : "each key once", "remove this line" + std::string{b.key.empty() ? ", and move what follows to the first one" : ""});
    auto allowed = b.is_unfinished ? "a value that ends" : k ? allowed_text(*k) : "TOML: key = value, with texts in quotes";
    std::string remedy = "key = \"value\"";
    if (k)
      remedy = b.key + " = " + mended(*k, b.rest);
    else if (!b.key.empty())
      remedy = b.key + " = " + in_quotes(b.rest);
    else if (b.text.starts_with('['))
      remedy = '[' + (host.empty() ? "" : "host." + in_quotes(host) + (name.empty() ? "" : ".")) + name + ']';
    else if (auto end = b.text.find_first_of(": "); end != b.text.npos)
      if (auto* meant = values_.find(b.text.substr(0, end)))
        remedy = meant->name + " = " + mended(*meant, trimmed_value(b.text.substr(end + 1)));
    add(at, name, b.text + " (" + b.why + ')', allowed, remedy);
  }

  static std::string trimmed_value(std::string s) {
    auto from = s.find_first_not_of(" :=");
    return from == s.npos ? std::string{} : s.substr(from);
  }

  // --- the environment: COVEY_LIMITS__ROSTER=500

  void take_environment(const std::string& name, const std::string& text) {
    constexpr std::string_view prefix = "COVEY_";
    if (!name.starts_with(prefix) || name == "COVEY_CONFIG")
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
    auto* k = values_.find(dotted);
    if (!k) {
      auto meant = nearest(dotted, names(""));
      bool is_key = meant && values_.find(*meant);
      out_.problems.push_back({"environment", 0, 0, name, "a variable that names no key", "COVEY_ and a key, with __ for each dot",
                               is_key ? variable_of(*meant) + "='" + without_passwords(text) + '\'' : "unset " + name, is_key ? variable_of(*meant) : ""});
      return;
    }
    auto parsed = toml::parse("x = " + text);
    auto* node = parsed && parsed.table().size() == 1 ? parsed.table().get("x") : nullptr;
    auto v = node ? convert(*k, *node) : std::nullopt;
    std::string as_written = node ? text_of(*node) : in_quotes(text);
    if (!v && !(node && node->is_string())) { // a bare word, a path, a number that is meant as a text
      toml::value<std::string> bare{text};
      v = convert(*k, bare);
      as_written = in_quotes(text);
    }
    if (!v) {
      values_.mark_refused(dotted);
      out_.problems.push_back({"environment", 0, 0, name, text.empty() ? "nothing" : without_passwords(text), allowed_text(*k),
                               without_passwords(name + "='" + mended(*k, text) + '\''), {}});
      return;
    }
    values_.put("", dotted, {std::move(*v), without_passwords(as_written, true), "environment", {}, 0, 0, dotted});
  }

  std::vector<std::unique_ptr<modules::module>> modules_;
  value_table values_;
  std::string file_, file_host_; // what is read now; the host is that of its own file
  source source_;
  std::vector<named_host> named_hosts_;
  loaded out_;
};

} // namespace

loaded load_config(const std::string& file, const environment& env, const load_options& how) { return loader{file}.run(env, how); }

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
  out += "found " + p.found;
  if (!p.meant.empty())
    out += " (did you mean " + p.meant + "?)";
  out += "; allowed is " + p.allowed;
  if (!p.remedy.empty())
    out += "\n    " + p.remedy;
  return out;
}

} // namespace server
