// The table of configuration keys and what can be said of them.
#include "server/config/keys.hpp"
#include "base/bytes.hpp"
#include <algorithm>

namespace server {

bool is_live(const key& k) {
  // A host is built anew; of the node each value is mended in place, or it waits for the next start.
  static constexpr std::string_view live_of_node[]{
      "domain", "domains", "sasl.iterations", "sasl.failures", "sasl.failure_window", "limits.login_timeout",
      "limits.strangers_per_address", "limits.strangers", "limits.stanza_before_login", "limits.stanza", "limits.output",
      "limits.session_messages", "limits.session_bytes", "limits.directed_presence", "limits.idle_entities", "limits.clients_per_address",
      "compression.ratio", "compression.streams", "delivery.spool_after", "management.ack_timeout", "storage.timeout",
      "log.level", "log.format", "log.file", "drain_timeout"};
  if (k.scope == key_scope::host)
    return k.name != "storage.engine" && k.name != "storage.connection" && k.name != "cluster.node";
  if (k.name.starts_with("limits.rate."))
    return true;
  return std::find(std::begin(live_of_node), std::end(live_of_node), k.name) != std::end(live_of_node);
}

std::vector<key> all_keys(const std::vector<std::unique_ptr<modules::module>>& all) {
  using enum key_type;
  using enum key_scope;
  constexpr std::int64_t second = 1'000, day = 86'400 * second, kilo = 1'024, mega = kilo * kilo;
  constexpr std::int64_t most_of_rate = 1'024 * mega;
  constexpr std::int64_t most_of_module = 1'000'000'000; // fits whatever they keep it in
  std::vector<key> keys{
      {"domain", text, "", "The domain that this server serves. One such line is a complete configuration.", node, 0, 0, {}, "example.org"},
      {"domains", list, "[]", "Further domains of this node.", node, 0, 0, {}, R"(["example.net"])"},
      {"admins", list, "[]", "Administrators, as bare JIDs; they may use the announce address.", host, 0, 0, {}, R"(["admin@example.org"])"},
      {"data", text, "/var/lib/covey", "Folder of the database and of the local certificate authority.", node},
      {"run", text, "/run/covey", "Folder of the administration socket.", node},
      {"reactors", number, "0", "Threads that serve clients; 0: one per core.", node, 0, 256},
      {"resource_conflict", text, "replace", "What happens when a resource is bound twice.", host, 0, 0, {"replace", "refuse", "rename"}},
      {"storage.engine", text, "rocksdb", "Where the host's data lives: in files of this node, in PostgreSQL (docs/postgresql.md), or in memory, which forgets it at the end.", host, 0, 0, {"rocksdb", "postgresql", "memory"}},
      {"storage.connection", text, "", "Where PostgreSQL is, as libpq has it: keywords or URI, several hosts. Never shown with its password; better none in it, but a passfile.", host, 0, 0, {}, "host=db1,db2 dbname=covey user=covey"},
      {"storage.connections", number, "4", "Connections to each PostgreSQL database that read; one more writes.", node, 1, 100},
      {"storage.patience", duration, "30s", "How long a PostgreSQL database that is away is waited for before all that needs it is refused.", node, second, 600 * second},
      {"storage.write_buffer", size, "4 MB", "Memory for changes before they go into a file of their own; there are two.", node, 64 * kilo, 1'024 * mega},
      {"storage.cache", size, "4 MB", "Memory for blocks of the database that were read; the system caches files, too.", node, mega, 64 * 1'024 * mega},
      {"storage.timeout", duration, "5s", "How long a read or a commit may take before whoever needs it is told to try again; in PostgreSQL at least storage.patience and five seconds.", node, 100, 3'600 * second},
      {"listen.c2s", list, R"(["0.0.0.0:5222", "[::]:5222"])", "Client connections with STARTTLS. Where the machine has no IPv6 the default is IPv4 alone.", node},
      {"listen.c2s_direct", list, R"(["0.0.0.0:5223", "[::]:5223"])", "Client connections with TLS from the first byte (XEP-0368). IPv6 as above.", node},
      {"listen.http", list, R"(["127.0.0.1:5280"])", "/metrics, /livez and /readyz; keep it on loopback.", node},
      {"listen.proxy_protocol", list, "[]", "Listeners of the two lists above that stand behind a proxy: each connection begins with a PROXY header (version 1 or 2).", node, 0, 0, {}, R"(["0.0.0.0:5222"])"},
      {"listen.trusted_proxies", list, "[]", "Who may send one, as networks; all others are closed there.", node, 0, 0, {}, R"(["10.0.0.0/8", "2001:db8::/32"])"},
      {"listen.proxy_timeout", duration, "5s", "From accept to a whole PROXY header.", node, second, 60 * second},
      {"listen.shaped", list, "[]", "Listeners whose connections are held to limits.rate.listener.", node, 0, 0, {}, R"(["0.0.0.0:5222"])"},
      {"cluster.listen", text, "0.0.0.0:5290", "Where other nodes reach this one, if DATA/cluster has a certificate for it (docs/cluster.md).", node, 0, 0, {}, "10.0.0.1:5290"},
      {"cluster.address", text, "", "The HOST:PORT that other nodes dial; empty: that of cluster.listen, or the machine's name.", node, 0, 0, {}, "node1.example.org:5290"},
      {"cluster.seeds", list, "[]", "Nodes to begin with, as HOST:PORT; those that a join named are dialled, too.", node, 0, 0, {}, R"(["node1.example.org:5290"])"},
      {"cluster.node", text, "", "The only node that serves the host, by its name in the cluster (docs/cluster.md); empty: every node does.", host, 0, 0, {}, "node1"},
      {"cluster.clients", text, "", "Where that node's clients connect, as HOST:PORT: those that ask another node for the host are sent there.", host, 0, 0, {}, "node1.example.org:5222"},
      {"tls.certificate", text, "", "PEM file with the certificate and its chain; empty: the local authority makes one.", host, 0, 0, {}, "/etc/covey/example.org.pem"},
      {"tls.key", text, "", "PEM file with its private key.", host, 0, 0, {}, "/etc/covey/example.org.key"},
      {"tls.client_ca", text, "", "PEM file with authorities whose client certificates may log in (EXTERNAL); empty: none are asked for.", host, 0, 0, {}, "/etc/covey/clients.pem"},
      {"tls.require", flag, "true", "Nothing but STARTTLS is offered before TLS.", host},
      {"tls.ticket_rotation", duration, "12h", "Sessions can be resumed for so long; the keys of their tickets are changed as often. 0s: no tickets.", node, 0, 7 * day},
      {"compression.on", flag, "false", "zlib (XEP-0138) is offered, after login; see docs/security.md first.", host},
      {"compression.ratio", number, "100", "Most bytes that one compressed byte may become (above the first 64 kB of the last megabyte); then the stream ends.", node, 10, 1'000},
      {"compression.streams", number, "10000", "Compressed streams at a time; each takes up to 110 kB.", node, 1, 10'000'000},
      {"keepalive.by", text, "tcp", "How a silent client is asked: tcp by the kernel, whitespace by one byte, ping by XEP-0199 (proven through proxies, too).", host, 0, 0, {"none", "tcp", "whitespace", "ping"}},
      {"keepalive.interval", duration, "5m", "So much silence, then it is asked.", host, second, day},
      {"keepalive.timeout", duration, "2m", "No answer, or nothing acknowledged, for so long: the connection is dead.", host, second, 480 * second},
      {"sasl.mechanisms", list, R"(["EXTERNAL", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])",
       "Ways to log in. EXTERNAL needs tls.client_ca; ANONYMOUS lets anybody in, for one session.", host, 0, 0,
       {"EXTERNAL", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "ANONYMOUS"}},
      {"sasl.upgrade", list, R"(["SCRAM-SHA-256", "SCRAM-SHA-512"])", "Accounts that lack keys for these get them at a login with the password (XEP-0480).", host, 0, 0, {"SCRAM-SHA-256", "SCRAM-SHA-512"}},
      {"sasl.fast.on", flag, "true", "Tokens instead of passwords for clients that come again (XEP-0484).", host},
      {"sasl.fast.lifetime", duration, "21d", "How long a token is good.", host, second, 365 * day},
      {"sasl.fast.rotate", duration, "1d", "A token of this age is replaced at its next use.", host, second, 365 * day},
      {"sasl.fast.clients", number, "10", "Clients of one account that have a token; the one that came least recently goes.", host, 1, 100},
      {"sasl.plain_without_tls", flag, "false", "PLAIN without TLS: for benchmarks and tests.", host},
      {"sasl.iterations", number, "10000", "PBKDF2 rounds of new passwords.", node, 4'096, 1'000'000},
      {"sasl.attempts_per_stream", number, "8", "Failed logins on one stream before it is closed.", host, 1, 100},
      {"sasl.failures", number, "20", "Failed logins of one account or address within sasl.failure_window.", node, 1, 1'000'000},
      {"sasl.failure_window", duration, "5m", "See sasl.failures.", node, second, day},
      {"limits.login_timeout", duration, "30s", "From accept to a bound session.", node, second, 3'600 * second},
      {"limits.strangers_per_address", number, "100", "Connections of one address (IPv6: of one /64) that have not logged in.", node, 1, 1'000'000},
      {"limits.strangers", number, "20000", "The same of all addresses together.", node, 1, 10'000'000},
      {"limits.clients_per_address", number, "0", "Connections of one address that have logged in; 0: any number.", node, 0, 1'000'000},
      {"limits.stanza_before_login", size, "16 kB", "Largest element before login.", node, kilo, mega},
      {"limits.stanza", size, "256 kB", "Largest stanza after login.", node, 10 * kilo, 64 * mega},
      {"limits.output", size, "8 MB", "Bytes that wait for one client before its stream is closed.", node, 64 * kilo, 1'024 * mega},
      {"limits.session_messages", number, "4096", "Stanzas that wait for one session before messages are kept offline instead.", node, 16, 1'000'000},
      {"limits.session_bytes", size, "1 MB", "The same in bytes.", node, 64 * kilo, 256 * mega},
      {"limits.directed_presence", number, "1000", "Directed presences of one session.", node, 1, 100'000},
      {"limits.idle_entities", number, "50000", "Addresses without a session that one reactor keeps in memory; stanzas to more are refused.", node, 100, 10'000'000},
      {"limits.sessions_per_account", number, "20", "Resources of one account at a time.", host, 1, 10'000},
      {"limits.roster", number, "2000", "Contacts of one account.", host, 1, 1'000'000},
      {"delivery.spool_after", duration, "500ms", "A message that a client has not acknowledged for so long is stored, so that its sender's acknowledgement need not wait.", node, 50, 60 * second},
      {"management.on", flag, "true", "Stream management (XEP-0198): acknowledgements and resumption.", host},
      {"management.window", duration, "10m", "How long a session waits for its client to come back; 0s: no resumption.", host, 0, day},
      {"management.longest_window", duration, "1h", "The same where the client asks for another time.", host, 0, 7 * day},
      {"management.ack_timeout", duration, "60s", "A client that does not answer for so long has lost its connection.", node, second, 3'600 * second},
      {"client_state.on", flag, "true", "Presence and the like wait while a client says that nobody looks at it (XEP-0352).", host},
      {"limits.rate.listener.bytes", size, "0", "Bytes a second that each connection of a listener in listen.shaped may send; 0: any number. Who is faster is read later.", node, 0, most_of_rate},
      {"limits.rate.listener.bytes_burst", size, "256 kB", "So much of it at once, after silence.", node, kilo, most_of_rate},
      {"limits.rate.listener.stanzas", number, "0", "The same in stanzas.", node, 0, 1'000'000},
      {"limits.rate.listener.stanzas_burst", number, "200", "So many of them at once.", node, 1, 1'000'000},
      {"limits.rate.address.bytes", size, "0", "The same of all connections of one address (IPv6: of one /64) together.", node, 0, most_of_rate},
      {"limits.rate.address.bytes_burst", size, "1 MB", "So much of it at once, after silence.", node, kilo, most_of_rate},
      {"limits.rate.address.stanzas", number, "0", "The same in stanzas.", node, 0, 1'000'000},
      {"limits.rate.address.stanzas_burst", number, "1000", "So many of them at once.", node, 1, 1'000'000},
      {"limits.rate.account.bytes", size, "0", "The same of each connection after login. No rate holds for administrators.", host, 0, most_of_rate},
      {"limits.rate.account.bytes_burst", size, "256 kB", "So much of it at once, after silence.", host, kilo, most_of_rate},
      {"limits.rate.account.stanzas", number, "0", "The same in stanzas.", host, 0, 1'000'000},
      {"limits.rate.account.stanzas_burst", number, "200", "So many of them at once.", host, 1, 1'000'000},
      {"log.level", text, "info", "The least that is logged.", node, 0, 0, {"debug", "info", "warning", "error"}},
      {"log.format", text, "text", "Lines for people or for machines.", node, 0, 0, {"text", "json"}},
      {"log.file", text, "", "A file; empty: standard error.", node, 0, 0, {}, "/var/log/covey/covey.log"},
      {"drain_timeout", duration, "30s", "How long a stop may wait for what is under way.", node, 0, 3'600 * second},
  };
  for (auto& m : all) {
    auto prefix = "modules." + std::string{m->name()} + '.';
    keys.push_back({prefix + "on", flag, m->is_on_by_default() ? "true" : "false", "Whether this module runs.", host});
    for (auto& k : m->keys())
      keys.push_back({prefix + k.name, k.type, k.default_value, k.doc, host, k.least,
                      k.type == number ? std::min(k.most, most_of_module) : k.most, k.allowed});
  }
  return keys;
}

namespace {
/// The digits, and what follows them without the space between.
std::optional<std::pair<std::int64_t, std::string_view>> split_unit(std::string_view text) {
  auto end = text.find_first_not_of("0123456789");
  auto n = base::to_number<std::int64_t>(text.substr(0, end));
  if (!n)
    return std::nullopt;
  auto unit = end == text.npos ? std::string_view{} : text.substr(end);
  if (unit.starts_with(' '))
    unit.remove_prefix(1);
  return std::pair{*n, unit};
}
} // namespace

std::optional<std::int64_t> parse_duration(std::string_view text) {
  auto parts = split_unit(text);
  if (!parts)
    return std::nullopt;
  auto [n, unit] = *parts;
  std::int64_t in_ms = unit == "ms" ? 1 : unit == "s" ? 1'000 : unit == "m" ? 60'000 : unit == "h" ? 3'600'000 : unit == "d" ? 86'400'000 : 0;
  if (in_ms == 0 || n > longest_duration / in_ms)
    return std::nullopt;
  return n * in_ms;
}

std::optional<std::int64_t> parse_size(std::string_view text) {
  auto parts = split_unit(text);
  if (!parts)
    return std::nullopt;
  auto [n, unit] = *parts;
  std::int64_t bytes = unit.empty() || unit == "B" ? 1 : unit == "kB" ? 1'024 : unit == "MB" ? 1 << 20 : unit == "GB" ? 1 << 30 : 0;
  if (bytes == 0 || n > largest_size / bytes)
    return std::nullopt;
  return n * bytes;
}

std::string duration_text(std::int64_t ms) {
  for (auto& [unit, name] : {std::pair{86'400'000, "d"}, {3'600'000, "h"}, {60'000, "m"}, {1'000, "s"}})
    if (ms != 0 && ms % unit == 0)
      return std::to_string(ms / unit) + name;
  return ms == 0 ? "0s" : std::to_string(ms) + "ms";
}

std::string size_text(std::int64_t bytes) {
  for (auto& [unit, name] : {std::pair{1 << 30, " GB"}, {1 << 20, " MB"}, {1 << 10, " kB"}})
    if (bytes != 0 && bytes % unit == 0)
      return std::to_string(bytes / unit) + name;
  return std::to_string(bytes);
}

std::string allowed_text(const key& k) {
  auto one_of = [&] {
    std::string s;
    for (auto& a : k.allowed)
      s += (s.empty() ? "" : ", ") + ('"' + a + '"');
    return s;
  };
  switch (k.type) {
    case key_type::flag: return "true or false";
    case key_type::number:
      return "a whole number" + (k.most == INT64_MAX ? " from " + std::to_string(k.least) : " from " + std::to_string(k.least) + " to " + std::to_string(k.most));
    case key_type::duration: return R"(a duration like "30s", "10m", "1h" or "7d")"
                                    + (k.most == INT64_MAX ? std::string{} : " from " + duration_text(k.least) + " to " + duration_text(k.most));
    case key_type::size: return R"(a size like "64 kB" or "1 MB")"
                                + (k.most == INT64_MAX ? std::string{} : " from " + size_text(k.least) + " to " + size_text(k.most));
    case key_type::list: return k.allowed.empty() ? R"(a list of texts: ["…", "…"])" : "a list of " + one_of();
    case key_type::text: return k.allowed.empty() ? "a text in quotes" : "one of " + one_of();
  }
  return {};
}

std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& names) {
  constexpr std::size_t most_edits = 2;
  std::optional<std::string> best;
  auto best_distance = most_edits + 1;
  for (auto& name : names) {
    auto longer = std::max(name.size(), typed.size()), shorter = std::min(name.size(), typed.size());
    if (longer - shorter > most_edits)
      continue;
    // edit distance with transpositions, three rows
    std::vector<std::size_t> before(name.size() + 1), last(name.size() + 1), now(name.size() + 1);
    for (std::size_t j = 0; j <= name.size(); ++j)
      last[j] = j;
    for (std::size_t i = 1; i <= typed.size(); ++i) {
      now[0] = i;
      for (std::size_t j = 1; j <= name.size(); ++j) {
        bool same = typed[i - 1] == name[j - 1];
        now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
        if (i > 1 && j > 1 && typed[i - 1] == name[j - 2] && typed[i - 2] == name[j - 1])
          now[j] = std::min(now[j], before[j - 2] + 1);
      }
      std::swap(before, last);
      std::swap(last, now);
    }
    if (last[name.size()] < best_distance && last[name.size()] * 2 < name.size()) {
      best_distance = last[name.size()];
      best = name;
    }
  }
  return best;
}

std::string document(const std::vector<key>& keys) {
  std::string out = R"(# Configuration

One line is a complete configuration: `domain = "example.org"`. Everything else has a default. The file is
TOML. A key of the host (third column) can stand at the top, for all hosts, or under `[host."example.org"]` for
one; a host that was added at run time has a file of its own (docs/operation.md). The environment overrides the
file: `COVEY_LIMITS__ROSTER=500` is `limits.roster = 500`. A change is *live* where `covey reload` puts it in
force, else it waits for a *restart*; `covey config diff` says which keys differ from what is in force.
`covey config check` finds every mistake in one run; `covey config show --effective` prints every value and where
it comes from. This page is made from the code (`covey config docs`).

| key | default | of | change | what it is | allowed |
|---|---|---|---|---|---|
)";
  auto escape = [](std::string s) {
    for (std::size_t at = 0; (at = s.find('|', at)) != s.npos; at += 2)
      s.insert(at, "\\");
    return s;
  };
  for (auto& k : keys) {
    bool is_quoted = k.type == key_type::text || k.type == key_type::duration || k.type == key_type::size;
    out += "| `" + k.name + "` | `" + (is_quoted ? '"' + k.default_value + '"' : k.default_value) + "` | "
           + (k.scope == key_scope::host ? "host" : "node") + " | "
           + (is_live(k) ? "live" : "restart") + " | " + escape(k.doc) + " | " + escape(allowed_text(k)) + " |\n";
  }
  return out;
}

} // namespace server
