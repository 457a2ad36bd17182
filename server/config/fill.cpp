// The one place where key names meet the fields of `config`.
#include "server/config/fill.hpp"
#include "base/bytes.hpp"
#include "cluster/link_rules.hpp"
#include "server/config/checks.hpp"
#include <algorithm>

namespace server {

namespace {

class filler {
public:
  filler(loaded& out, value_table& values, const std::vector<std::unique_ptr<modules::module>>& modules)
    : out_(out), values_(values), modules_(modules) {}

  void node() {
    auto& c = out_.config;
    c.data_folder = text("data");
    c.run_folder = text("run");
    if (c.run_folder.size() > longest_run_folder)
      complain("run", "", "a path of at most " + std::to_string(longest_run_folder) + " bytes (it holds a unix socket)", "\"/run/covey\"");
    for (auto* k : {"data", "run"})
      if (text(k).empty())
        complain(k, "", "a folder", in_quotes(values_.find(k)->default_value));
    c.reactors = u32("reactors");
    auto level = text("log.level");
    c.log_level = level == "debug" ? base::log::level::debug : level == "warning" ? base::log::level::warning
                  : level == "error" ? base::log::level::error : base::log::level::info;
    c.log_format = text("log.format") == "json" ? base::log::format::json : base::log::format::text;
    c.log_file = text("log.file");
    c.c2s = addresses("listen.c2s");
    c.c2s_direct = addresses("listen.c2s_direct");
    c.http = addresses("listen.http");
    c.proxied = listeners("listen.proxy_protocol");
    c.shaped = listeners("listen.shaped");
    c.trusted_proxies = networks("listen.trusted_proxies");
    if (!c.proxied.empty() && c.trusted_proxies.empty() && !is_in_question("listen.trusted_proxies"))
      say("listen.proxy_protocol", "", "listen.trusted_proxies beside it", "listen.trusted_proxies = " + example_of(*values_.find("listen.trusted_proxies")), "listen.proxy_protocol alone");
    c.proxies.time = ms("listen.proxy_timeout");
    c.ticket_rotation = ms("tls.ticket_rotation");
    c.tls.tickets = c.ticket_rotation.count() > 0 ? 1 : 0;
    c.tls.ticket_life = std::chrono::ceil<std::chrono::seconds>(c.ticket_rotation);
    c.iterations = u32("sasl.iterations");
    auto& n = c.node;
    n.logins.failures = u32("sasl.failures");
    n.logins.window = ms("sasl.failure_window");
    n.login_timeout = ms("limits.login_timeout");
    n.strangers.per_address = u32("limits.strangers_per_address");
    n.strangers.total = u32("limits.strangers");
    c.proxies.connections = n.strangers.total;
    n.clients_per_address = u32("limits.clients_per_address");
    n.listener_rates = rates("limits.rate.listener");
    n.address_rates = rates("limits.rate.address");
    n.inflate_ratio = u32("compression.ratio");
    n.compressed = u32("compression.streams");
    n.drain_timeout = ms("drain_timeout");
    n.before_login.max_size = u32("limits.stanza_before_login");
    n.after_login.max_size = u32("limits.stanza");
    n.max_output = u32("limits.output");
    n.session_limits.messages = u32("limits.session_messages");
    n.session_limits.bytes = u32("limits.session_bytes");
    n.session_limits.hard_messages = n.session_limits.messages * 4;
    n.session_limits.hard_bytes = n.session_limits.bytes * 4;
    n.max_directed_presence = u32("limits.directed_presence");
    n.spool_after = ms("delivery.spool_after");
    out_.config.write_buffer = static_cast<std::size_t>(values_.get("storage.write_buffer").v.number);
    out_.config.block_cache = static_cast<std::size_t>(values_.get("storage.cache").v.number);
    c.database_readers = u32("storage.connections");
    c.database_patience = ms("storage.patience");
    c.cluster_listen = text("cluster.listen");
    c.cluster_address = text("cluster.address");
    c.cluster_seeds = values_.get("cluster.seeds").v.list;
    for (auto* k : {"cluster.listen", "cluster.address"})
      if (auto& at = text(k); !at.empty() && !cluster::wire::is_node_address(at) && !is_in_question(k))
        complain(k, "", "HOST:PORT", in_quotes(values_.find(k)->example));
    for (auto& seed : c.cluster_seeds)
      if (!cluster::wire::is_node_address(seed))
        complain("cluster.seeds", "", "a list of HOST:PORT", values_.find("cluster.seeds")->example, in_quotes(seed));
    n.ack_timeout = ms("management.ack_timeout");
    n.idle_entities = u32("limits.idle_entities");
    n.storage_timeout = ms("storage.timeout");
    if (n.max_output < n.after_login.max_size)
      complain("limits.output", "", "at least limits.stanza (" + size_text(n.after_login.max_size) + ')', in_quotes(size_text(4LL * n.after_login.max_size)));
    out_.effective = values_.effective();
  }

  void hosts(const std::vector<named_host>& named) {
    auto& c = out_.config;
    if (auto& d = text("domain"); !d.empty())
      add_host(d, "domain");
    for (auto& d : values_.get("domains").v.list)
      add_host(d, "domains");
    for (auto& [d, file] : values_.added_hosts())
      add_added_host(d, file);
    for (auto& n : named)
      if (!is_host(n.domain)) {
        auto meant = nearest_host(n.domain);
        out_.problems.push_back({values_.file(), n.line, n.column, "host." + in_quotes(n.domain), "settings of a host that is not served",
                                 "a domain of `domain` or `domains`",
                                 meant ? "[host." + in_quotes(*meant) + ']' : "domains = [" + in_quotes(n.domain) + "]   # at the top of the file",
                                 meant.value_or("")});
      }
    if (c.hosts.empty() && !is_in_question("domain") && !is_in_question("domains"))
      out_.problems.push_back({values_.file(), 0, 0, "domain", "no domain", "the domain that this server serves", R"(domain = "example.org")", {}});
    for (auto& h : c.hosts)
      host(h);
  }

private:
  static constexpr std::size_t longest_run_folder = 90; // sockaddr_un has 108 bytes for folder and file

  const std::string& text(const char* k, const std::string& h = {}) { return values_.get(k, h).v.text; }
  bool flag(const std::string& k, const std::string& h) { return values_.get(k, h).v.number != 0; }
  std::uint32_t u32(const char* k, const std::string& h = {}) { return static_cast<std::uint32_t>(values_.get(k, h).v.number); }
  std::chrono::milliseconds ms(const char* k, const std::string& h = {}) { return std::chrono::milliseconds{values_.get(k, h).v.number}; }
  std::chrono::seconds seconds(const char* k, const std::string& h) { return std::chrono::ceil<std::chrono::seconds>(ms(k, h)); }

  net::rates rates(const std::string& of, const std::string& h = {}) {
    auto rate = [&](const char* what) {
      auto k = of + '.' + what;
      return base::rate{u32(k.c_str(), h), u32((k + "_burst").c_str(), h)};
    };
    return {rate("bytes"), rate("stanzas")};
  }

  /// `instead`: the value to write, as it is written in a file.
  void complain(const std::string& key, const std::string& h, std::string allowed, const std::string& instead, std::string found = {}, std::string meant = {}) {
    say(key, h, std::move(allowed), values_.line_for(key, h, instead), std::move(found), std::move(meant));
  }
  void say(const std::string& key, const std::string& h, std::string allowed, std::string remedy, std::string found = {}, std::string meant = {}) {
    auto p = values_.place_of(key, h);
    p.allowed = std::move(allowed);
    p.remedy = std::move(remedy);
    p.meant = std::move(meant);
    if (!found.empty())
      p.found = std::move(found);
    out_.problems.push_back(std::move(p));
  }
  bool is_in_question(std::string_view key) const {
    return values_.is_refused(key) || std::any_of(out_.problems.begin(), out_.problems.end(), [&](auto& p) { return p.key == key || p.meant == key; });
  }
  bool is_host(const std::string& d) const {
    return std::any_of(out_.config.hosts.begin(), out_.config.hosts.end(), [&](auto& h) { return h.domain == d; });
  }
  std::optional<std::string> nearest_host(std::string_view d) const {
    std::vector<std::string> all;
    for (auto& h : out_.config.hosts)
      all.push_back(h.domain);
    return nearest(d, all);
  }

  /// The list as it is, with `instead` for this entry; without it where `instead` is empty.
  std::string list_with(const std::string& key, const std::string& h, const std::string& entry, const std::string& instead) {
    std::string out;
    bool is_replaced = false;
    for (auto& e : values_.get(key, h).v.list) {
      bool is_it = !is_replaced && e == entry;
      is_replaced |= is_it;
      if (is_it && instead.empty())
        continue;
      out += (out.empty() ? "" : ", ") + in_quotes(is_it ? instead : e);
    }
    return '[' + out + ']';
  }

  std::vector<listen_at> addresses(const std::string& name) {
    constexpr auto shape = R"(addresses with a port: "0.0.0.0:5222" or "[::]:5222")";
    bool is_default = values_.get(name).origin == "default";
    std::vector<listen_at> all;
    for (auto& entry : values_.get(name).v.list) {
      auto colon = entry.rfind(':');
      auto address = colon == entry.npos ? std::string{} : entry.substr(0, colon);
      if (address.starts_with('[') && address.ends_with(']'))
        address = address.substr(1, address.size() - 2);
      else if (address.find(':') != address.npos)
        address.clear(); // which of its colons begins the port?
      auto port = colon == entry.npos ? std::nullopt : base::to_number<std::uint16_t>(entry.substr(colon + 1));
      if (!port || *port == 0 || !is_address(address)) {
        complain(name, "", shape, list_with(name, "", entry, nearest_address(entry, name)), in_quotes(entry));
        continue;
      }
      if (is_default && address == "::" && !has_ipv6())
        continue;
      bool is_v6 = address.find(':') != address.npos;
      auto overlaps = [&](const listen_at& other) {
        bool other_v6 = other.address.find(':') != other.address.npos;
        auto any = [](const std::string& a) { return a == "0.0.0.0" || a == "::"; };
        return other.port == *port && is_v6 == other_v6 && (other.address == address || any(other.address) || any(address));
      };
      for (auto& [other, at] : taken_)
        if (overlaps(at)) {
          say(name, "", "each address and port once", "take another port than " + other + " has", in_quotes(entry) + ", which " + other + " has already");
          break;
        }
      taken_.push_back({name, {address, *port}});
      all.push_back({address, *port});
    }
    return all;
  }

  /// Some of those that clients connect to, as they are written there.
  std::vector<listen_at> listeners(const std::string& name) {
    std::vector<std::string> there;
    for (auto* k : {"listen.c2s", "listen.c2s_direct"})
      for (auto& entry : values_.get(k).v.list)
        there.push_back(entry);
    std::vector<listen_at> all;
    for (auto& entry : values_.get(name).v.list) {
      if (std::find(there.begin(), there.end(), entry) == there.end()) {
        auto meant = nearest(entry, there);
        complain(name, "", "addresses that listen.c2s or listen.c2s_direct have", list_with(name, "", entry, meant.value_or(there.empty() ? "" : there.front())),
                 in_quotes(entry), meant.value_or(""));
        continue;
      }
      auto colon = entry.rfind(':');
      auto address = entry.substr(0, colon);
      if (address.starts_with('['))
        address = address.substr(1, address.size() - 2);
      all.push_back({address, base::to_number<std::uint16_t>(entry.substr(colon + 1)).value_or(0)}); // what listen.c2s is refused for is said there
    }
    return all;
  }

  std::vector<net::network> networks(const std::string& name) {
    std::vector<net::network> all;
    for (auto& entry : values_.get(name).v.list) {
      if (auto n = net::parse_network(entry))
        all.push_back(*n);
      else
        complain(name, "", R"(networks or addresses: "10.0.0.0/8", "2001:db8::1")", list_with(name, "", entry, is_address(entry.substr(0, entry.find('/'))) ? entry.substr(0, entry.find('/')) : "127.0.0.1"), in_quotes(entry));
    }
    return all;
  }

  /// What can be kept of "localhost:5222", "0.0.0.0" or "[::]:0".
  std::string nearest_address(const std::string& entry, const std::string& name) const {
    constexpr std::string_view any = "0.0.0.0";
    auto& usual = values_.find(name)->default_value;
    auto usual_port = usual.substr(usual.find(':') + 1, 4);
    auto colon = entry.rfind(':');
    bool has_port = colon != entry.npos && !is_address(entry); // else its last colon is its own
    std::uint16_t port = has_port ? base::to_number<std::uint16_t>(entry.substr(colon + 1)).value_or(0) : 0;
    auto address = has_port ? entry.substr(0, colon) : entry;
    if (address.starts_with("localhost"))
      address = "127.0.0.1";
    if (address.starts_with('[') && address.ends_with(']'))
      address = address.substr(1, address.size() - 2);
    if (!is_address(address))
      address = any;
    return (address.find(':') == address.npos ? address : '[' + address + ']') + ':' + (port ? std::to_string(port) : usual_port);
  }

  void add_host(const std::string& written, const char* key) {
    auto instead = [&](const std::string& domain) { return std::string{key} == "domains" ? list_with(key, "", written, domain) : in_quotes(domain); };
    auto j = xmpp::parse_jid(written);
    if (!j || !(*j)->is_domain() || !(*j)->is_bare() || !has_name_shape((*j)->domain()))
      return complain(key, "", "a domain name", instead("example.org"), in_quotes(written));
    std::string d{(*j)->domain()};
    if (is_host(d))
      return say(key, "", "each domain once", values_.line_for(key, "", list_with(key, "", written, "")), in_quotes(written) + " for the second time");
    out_.config.hosts.push_back({});
    out_.config.hosts.back().domain = d;
  }

  void add_added_host(const std::string& d, const std::string& file) {
    auto refuse = [&](std::string found, std::string allowed) {
      out_.problems.push_back({file, 0, 0, "host." + in_quotes(d), std::move(found), std::move(allowed), "rm " + in_quotes(file), {}});
    };
    auto j = xmpp::parse_jid(d);
    if (!j || !(*j)->is_domain() || (*j)->domain() != d || !has_name_shape(d))
      return refuse("a file that is not named after a domain", "a domain in lower case, and .toml");
    if (is_host(d))
      return refuse("a host for the second time: " + values_.file() + " names it", "each domain once");
    out_.config.hosts.push_back({});
    out_.config.hosts.back().domain = d;
    out_.config.hosts.back().file = file;
  }

  /// Labels that are not empty, no dash at their ends, nothing that a file name or a certificate could
  /// not carry. Names beyond ASCII are the profile's business.
  static bool has_name_shape(std::string_view d) {
    if (d.size() > 253)
      return false;
    for (std::size_t from = 0; from <= d.size();) {
      auto dot = std::min(d.find('.', from), d.size());
      auto label = d.substr(from, dot - from);
      if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-')
        return false;
      for (char c : label)
        if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c)) && c != '-')
          return false;
      from = dot + 1;
    }
    return true;
  }

  void host(host_config& h) {
    auto& d = h.domain;
    h.certificate = text("tls.certificate", d);
    h.key = text("tls.key", d);
    if (h.certificate.empty() != h.key.empty() && !is_in_question("tls.certificate") && !is_in_question("tls.key")) {
      auto* missing = h.certificate.empty() ? "tls.certificate" : "tls.key";
      auto* there = h.certificate.empty() ? "tls.key" : "tls.certificate";
      say(there, d, "both tls.certificate and tls.key, or neither", std::string{missing} + " = " + example_of(*values_.find(missing)), std::string{there} + " alone");
    }
    h.client_ca = text("tls.client_ca", d);
    h.engine = text("storage.engine", d);
    h.connection = text("storage.connection", d);
    if (h.engine == "postgresql" && h.connection.empty() && !is_in_question("storage.connection"))
      say("storage.engine", d, "storage.connection beside it", "storage.connection = " + example_of(*values_.find("storage.connection")), "\"postgresql\" alone");
    h.node = text("cluster.node", d);
    h.clients = text("cluster.clients", d);
    if (!h.clients.empty() && !cluster::wire::is_node_address(h.clients))
      complain("cluster.clients", d, "HOST:PORT", in_quotes(values_.find("cluster.clients")->example));
    h.require_tls = flag("tls.require", d);
    h.plain_without_tls = flag("sasl.plain_without_tls", d);
    if (h.plain_without_tls && h.require_tls)
      complain("sasl.plain_without_tls", d, "true only together with tls.require = false", "false", "true with tls.require = true");
    h.mechanisms = values_.get("sasl.mechanisms", d).v.list;
    if (h.mechanisms.empty())
      complain("sasl.mechanisms", d, "at least one mechanism", R"(["SCRAM-SHA-256"])");
    h.upgrade = values_.get("sasl.upgrade", d).v.list;
    h.has_tokens = flag("sasl.fast.on", d);
    h.token_lifetime = ms("sasl.fast.lifetime", d);
    h.token_rotation = ms("sasl.fast.rotate", d);
    h.clients_with_tokens = u32("sasl.fast.clients", d);
    if (h.token_rotation >= h.token_lifetime && !is_in_question("sasl.fast.rotate") && !is_in_question("sasl.fast.lifetime"))
      complain("sasl.fast.rotate", d, "less than sasl.fast.lifetime", in_quotes(duration_text(std::max<std::int64_t>(1'000, values_.get("sasl.fast.lifetime", d).v.number / 20))));
    auto conflict = text("resource_conflict", d);
    h.on_conflict = conflict == "refuse" ? actors::conflict_policy::refuse : conflict == "rename" ? actors::conflict_policy::rename
                                                                                                  : actors::conflict_policy::replace;
    h.max_login_attempts = static_cast<std::uint8_t>(u32("sasl.attempts_per_stream", d));
    h.max_sessions = u32("limits.sessions_per_account", d);
    h.max_roster = u32("limits.roster", d);
    h.management = {flag("management.on", d), seconds("management.window", d), seconds("management.longest_window", d)};
    h.has_client_state = flag("client_state.on", d);
    h.has_compression = flag("compression.on", d);
    h.account_rates = rates("limits.rate.account", d);
    auto by = text("keepalive.by", d);
    using enum actors::keepalive::means;
    h.keepalive.by = by == "none" ? none : by == "whitespace" ? whitespace : by == "ping" ? ping : tcp;
    h.keepalive.interval = seconds("keepalive.interval", d);
    h.keepalive.timeout = seconds("keepalive.timeout", d);
    admins(h);
    for (auto& m : modules_) {
      std::string name{m->name()}, prefix = "modules." + name + '.';
      h.modules_on[name] = flag(prefix + "on", d);
      for (auto& k : m->keys()) {
        auto& v = values_.get(prefix + k.name, d).v;
        if (k.accepts)
          for (auto& entry : v.list)
            if (!k.accepts(entry))
              complain(prefix + k.name, d, k.shape, list_with(prefix + k.name, d, entry, k.example), in_quotes(entry));
        h.modules[name][k.name] = {v.number, v.number != 0, v.text, v.list};
      }
    }
  }

  void admins(host_config& h) {
    auto& d = h.domain;
    for (auto& entry : values_.get("admins", d).v.list) {
      auto j = xmpp::parse_jid(entry);
      if (!j || (*j)->is_domain() || !(*j)->is_bare()) {
        complain("admins", d, "bare JIDs", list_with("admins", d, entry, (j && !(*j)->is_domain() ? std::string{(*j)->local()} : "admin") + '@' + d), in_quotes(entry));
        continue;
      }
      std::string of{(*j)->domain()};
      if (!is_host(of)) { // nobody of another server can be one: the name would do nothing
        auto meant = nearest_host(of);
        complain("admins", d, "JIDs of the hosts of this server", list_with("admins", d, entry, std::string{(*j)->local()} + '@' + meant.value_or(d)),
                 in_quotes(entry), meant.value_or(""));
        continue;
      }
      h.admins.emplace_back((*j)->bare());
    }
  }

  loaded& out_;
  value_table& values_;
  const std::vector<std::unique_ptr<modules::module>>& modules_;
  std::vector<std::pair<std::string, listen_at>> taken_;
};

} // namespace

void fill(loaded& out, value_table& values, const std::vector<std::unique_ptr<modules::module>>& modules, const std::vector<named_host>& hosts) {
  filler f{out, values, modules};
  f.node();
  f.hosts(hosts);
}

} // namespace server
