// The configuration: what is right, and every way in which it can be wrong.
#include "server/config/load.hpp"
#include "server/config/values.hpp"
#include "tests/net/certificates.hpp"
#include "tests/server/folder.hpp"
#include "tests/server/taken_port.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fstream>
#include <netinet/in.h>
#include <random>
#include <set>
#include <sys/socket.h>
#include <unistd.h>

using namespace server;
using server_tests::folder;
using server_tests::taken_port;

namespace {
loaded load(const folder& f, const std::string& text, const environment& env = {}, load_options how = {false, false}) {
  return load_config(f.write("covey.toml", text), env, how);
}

std::string all_of(const loaded& l) {
  std::string s;
  for (auto& p : l.problems)
    s += to_text(p) + '\n';
  return s;
}

std::string value_of(const loaded& l, const std::string& key) {
  for (auto& v : l.effective)
    if (v.key == key)
      return v.text;
  return "?";
}
std::string origin_of(const loaded& l, const std::string& key) {
  for (auto& v : l.effective)
    if (v.key == key)
      return v.origin;
  return "?";
}

/// A socket that listens on a loopback port of its own.
} // namespace

TEST_CASE("one line is a complete configuration") {
  folder f;
  auto l = load(f, "domain = \"Example.ORG\"\n");
  CHECK(all_of(l) == "");
  REQUIRE(l.config.hosts.size() == 1);
  CHECK(l.config.hosts[0].domain == "example.org");
  CHECK(l.config.hosts[0].require_tls);
  CHECK_FALSE(l.config.hosts[0].plain_without_tls);
  CHECK(l.config.hosts[0].mechanisms.front() == "EXTERNAL");
  CHECK(l.config.c2s.front().port == 5222);
  CHECK(l.config.http.front().address == "127.0.0.1");
  CHECK(l.config.node.login_timeout == std::chrono::seconds{30});
  CHECK(origin_of(l, "limits.roster") == "default");
  CHECK(origin_of(l, "domain") == f.at("covey.toml") + ":1");
}

TEST_CASE("values of file, host and environment") {
  folder f;
  auto l = load(f, R"(domain = "a.example"
domains = ["b.example"]
admins = ["root@a.example"]
[limits]
roster = 10
login_timeout = "2m"
stanza = "1 MB"
[host."B.example"]
limits.roster = 20
modules.offline.quota = 7
)",
                {{"COVEY_LIMITS__SESSIONS_PER_ACCOUNT", "3"}, {"COVEY_LIMITS__STANZA", "512 kB"}, {"COVEY_LOG__LEVEL", "error"},
                 {"COVEY_SASL__MECHANISMS", R"(["PLAIN"])"}, {"COVEY_RUN", "/srv/1"}, {"COVEY_CONFIG", "anything"}, {"HOME", "/"}});
  REQUIRE(all_of(l) == "");
  auto& a = l.config.hosts[0];
  auto& b = l.config.hosts[1];
  CHECK(a.max_roster == 10);
  CHECK(b.max_roster == 20);
  CHECK(a.modules.at("offline").at("quota").number == 1'000);
  CHECK(b.modules.at("offline").at("quota").number == 7);
  CHECK(a.max_sessions == 3);
  CHECK(b.max_sessions == 3);
  CHECK(l.config.node.login_timeout == std::chrono::minutes{2});
  CHECK(l.config.node.after_login.max_size == 512 * 1'024);
  CHECK(l.config.log_level == base::log::level::error);
  CHECK(a.mechanisms == std::vector<std::string>{"PLAIN"});
  CHECK(l.config.run_folder == "/srv/1");
  CHECK(a.admins == std::vector<std::string>{"root@a.example"});
  CHECK(origin_of(l, "limits.stanza") == "environment");
  CHECK(value_of(l, "limits.stanza") == "\"512 kB\"");
  CHECK(value_of(l, "host.\"b.example\".limits.roster") == "20");
}

TEST_CASE("the database: each host's own, and no password is shown wherever it stands") {
  folder f;
  auto l = load(f, "domain = \"a.org\"\ndomains = [\"b.org\"]\nstorage.engine = \"postgresql\"\nstorage.connection = \"host=db1,db2 password=sesame user=covey\"\n"
                   "storage.patience = \"45s\"\n[host.\"b.org\"]\nstorage.connection = \"postgresql://covey:sesame@db3/covey?sslmode=verify-full\"\n");
  REQUIRE(all_of(l) == "");
  CHECK(l.config.hosts[0].engine == "postgresql");
  CHECK(l.config.hosts[0].connection == "host=db1,db2 password=sesame user=covey");
  CHECK(l.config.hosts[1].connection == "postgresql://covey:sesame@db3/covey?sslmode=verify-full");
  CHECK(l.config.database_patience == std::chrono::seconds{45});
  CHECK(l.config.database_readers == 4);
  CHECK(value_of(l, "storage.connection") == "\"host=db1,db2 password=… user=covey\"");
  CHECK(value_of(l, "host.\"b.org\".storage.connection") == "\"postgresql://covey:…@db3/covey?sslmode=verify-full\"");
  for (auto text : {"password=sesame", "password='open sesame' host=a", "password = 'open \\' sesame'", "sslpassword=sesame", "host=a password=sesame",
                    "postgresql://u:sesame@h/d", "postgres://:sesame@h", "postgresql://h/d?password=sesame&sslmode=require", "password=se\\ same"}) {
    CAPTURE(text);
    CHECK(without_passwords(text).find("same") == std::string::npos);
    CHECK(without_passwords(text).find("open") == std::string::npos);
    for (auto& written : {"storage.connection = [\"" + std::string{text} + "\"]\n", "storage.conection = \"" + std::string{text} + "\"\n",
                          "data = \"x\"\nreactors = \"" + std::string{text} + "\"\n", "storage.connection = \"" + std::string{text} + "\n",
                          "storage.connection: " + std::string{text} + "\n"}) {
      CAPTURE(written);
      auto wrong = load(f, "domain = \"a.org\"\n" + written);
      CHECK_FALSE(wrong.problems.empty());
      CHECK(all_of(wrong).find("same") == std::string::npos);
    }
    auto from_environment = load(f, "domain = \"a.org\"\n", {{"COVEY_STORAGE__CONNECTION", text}, {"COVEY_STORAGE__CONECTION", text}, {"COVEY_REACTORS", text}});
    CHECK(from_environment.problems.size() == 2);
    CHECK((all_of(from_environment) + value_of(from_environment, "storage.connection")).find("same") == std::string::npos);
  }
  CHECK(without_passwords("the password of http://example.org/a:b@c, host=a") == "the password of http://example.org/a:b@c, host=a");
}

TEST_CASE("listeners behind proxies, rates and silence") {
  folder f;
  auto l = load(f, R"(domain = "a.org"
domains = ["b.org"]
[listen]
c2s = ["0.0.0.0:7000", "[::1]:7000"]
c2s_direct = ["127.0.0.1:7001"]
proxy_protocol = ["[::1]:7000", "127.0.0.1:7001"]
shaped = ["0.0.0.0:7000"]
trusted_proxies = ["10.0.0.0/8", "::1"]
[limits.rate]
listener = { bytes = "1 kB", stanzas = 5, stanzas_burst = 9 }
account.stanzas = 10
[keepalive]
by = "ping"
interval = "1500ms"
[host."b.org"]
keepalive.by = "none"
limits.rate.account.stanzas = 0
tls.ticket_rotation = "1h"
)");
  CHECK(l.problems.size() == 1); // the key of the node under a host
  auto& c = l.config;
  REQUIRE(c.proxied.size() == 2);
  CHECK(c.proxied[0].address == "::1");
  CHECK(c.proxied[1].port == 7'001);
  REQUIRE(c.shaped.size() == 1);
  CHECK(c.shaped[0].address == "0.0.0.0");
  CHECK(c.trusted_proxies.size() == 2);
  CHECK(c.node.listener_rates.bytes.per_second == 1'024);
  CHECK(c.node.listener_rates.bytes.burst == 256 * 1'024);
  CHECK(c.node.listener_rates.stanzas.burst == 9);
  CHECK_FALSE(c.node.address_rates);
  CHECK(c.hosts.at(0).account_rates.stanzas.per_second == 10);
  CHECK_FALSE(c.hosts.at(1).account_rates);
  CHECK(c.hosts[0].keepalive.by == actors::keepalive::means::ping);
  CHECK(c.hosts[0].keepalive.interval == std::chrono::seconds{2}); // up to whole seconds
  CHECK(c.hosts[1].keepalive.by == actors::keepalive::means::none);
  CHECK(c.tls.tickets == 1);
}

TEST_CASE("durations and sizes") {
  for (auto [text, ms] : {std::pair{"500ms", 500}, {"30s", 30'000}, {"10m", 600'000}, {"1h", 3'600'000}, {"0s", 0}, {"5 s", 5'000}})
    CHECK(parse_duration(text) == ms);
  for (auto bad : {"", "30", "30S", "s", "-1s", "1.5s", "30 sec", "99999999999999999999s", "3651d", "1s ", " 1s"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_duration(bad));
  }
  for (auto [text, bytes] : {std::pair{"4096", 4'096}, {"64 kB", 65'536}, {"1MB", 1 << 20}, {"1 GB", 1 << 30}, {"7 B", 7}})
    CHECK(parse_size(text) == bytes);
  for (auto bad : {"", "kB", "64KB", "64 kb", "-1 kB", "1.5 MB", "1025 GB", "64  kB"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_size(bad));
  }
  for (std::int64_t ms : {0, 1, 999, 1'000, 90'000, 3'600'000, 86'400'000})
    CHECK(parse_duration(duration_text(ms)) == ms);
  for (std::int64_t b : {1, 1'023, 1'024, 65'536, 1 << 20, 3 << 20, 1 << 30})
    CHECK(parse_size(size_text(b)) == b);
}

namespace {
struct mistake {
  const char* name;
  const char* text;    // of the file
  std::uint32_t line;  // where it is reported
  const char* key;
  const char* found;   // is part of what is said
  const char* remedy;  // is part of what is said
};
// every one is found alone, at its line, and with a remedy
const mistake mistakes[] = {
    {"unknown key", "domain = \"a.org\"\nlimits.rostr = 5\n", 2, "limits.rostr", "unknown key", "limits.roster = 5"},
    {"unknown key in a table", "domain = \"a.org\"\n[limits]\nrostr = 5\n", 3, "limits.rostr", "unknown key", "roster = 5"},
    {"unknown key, nothing near", "domain = \"a.org\"\nfoo_bar = 5\n", 2, "foo_bar", "unknown key", "remove this line"},
    {"unknown table", "domain = \"a.org\"\n[limts]\nroster = 5\n", 2, "limts", "unknown table", "[limits]"},
    {"host misspelt", "domain = \"a.org\"\n[hosts.\"a.org\"]\nlimits.roster = 5\n", 2, "hosts", "unknown table", "[host"},
    {"module misspelt", "domain = \"a.org\"\n[modules.ofline]\nquota = 5\n", 2, "modules.ofline", "unknown table", "[modules.offline]"},
    {"module misspelt under a host", "domain = \"a.org\"\n[host.\"a.org\".modules.ofline]\nquota = 5\n", 2, "modules.ofline", "unknown table", "[host.\"a.org\".modules.offline]"},
    {"wrong type: number as text", "domain = \"a.org\"\nlimits.roster = \"500\"\n", 2, "limits.roster", "\"500\"", "limits.roster = 500"},
    {"wrong type: text as number", "domain = 5\n", 1, "domain", "5", "domain = \"5\""},
    {"wrong type: flag", "domain = \"a.org\"\n[tls]\nrequire = \"yes\"\n", 3, "tls.require", "yes", "require = true"},
    {"wrong type: list", "domain = \"a.org\"\nadmins = \"x@a.org\"\n", 2, "admins", "x@a.org", "admins = [\"x@a.org\"]"},
    {"wrong type: list of numbers", "domain = \"a.org\"\nadmins = [5]\n", 2, "admins", "5", "admins = ["},
    {"wrong type: table for a key", "domain = \"a.org\"\n[log.level]\nx = 1\n", 2, "log.level", "a table", "log.level = \"info\""},
    {"wrong type: key for a table", "domain = \"a.org\"\nlimits = 5\n", 2, "limits", "5", "[limits]"},
    {"wrong type: number with a fraction", "domain = \"a.org\"\nlimits.roster = 5.5\n", 2, "limits.roster", "5.5", "limits.roster = 5"},
    {"not one of the words", "domain = \"a.org\"\nlog.level = \"wrning\"\n", 2, "log.level", "wrning", "log.level = \"warning\""},
    {"not one of the words in a list", "domain = \"a.org\"\nsasl.mechanisms = [\"PLAIN\", \"SCRAM-SHA256\"]\n", 2, "sasl.mechanisms", "SCRAM-SHA256", "[\"PLAIN\", \"SCRAM-SHA-256\"]"},
    {"empty list of mechanisms", "domain = \"a.org\"\nsasl.mechanisms = []\n", 2, "sasl.mechanisms", "[]", "sasl.mechanisms = ["},
    {"tokens that are rotated after their end", "domain = \"a.org\"\nsasl.fast.lifetime = \"1h\"\nsasl.fast.rotate = \"2h\"\n", 3, "sasl.fast.rotate", "2h", "\"3m\""},
    {"syntax: text without quotes", "domain = example.org\n", 1, "domain", "example.org", "domain = \"example.org\""},
    {"syntax: text without its end", "domain = \"a.org\nlimits.roster = 5\n", 1, "domain", "\"a.org", "domain = \"a.org\""},
    {"syntax: duration without quotes", "domain = \"a.org\"\nlimits.login_timeout = 45s\n", 2, "limits.login_timeout", "45s", "limits.login_timeout = \"45s\""},
    {"syntax: colon", "domain = \"a.org\"\nlimits.roster: 5\n", 2, "", "limits.roster: 5", "limits.roster = 5"},
    {"syntax: no value", "domain = \"a.org\"\nlimits.roster =\n", 2, "limits.roster", "limits.roster =", "limits.roster = 2000"},
    {"syntax: only a word", "domain = \"a.org\"\nfoo\n", 2, "", "foo", "key ="},
    {"syntax: two on a line", "domain = \"a.org\" data = \"x\"\n", 1, "domain", "domain", "domain = \"a.org\""},
    {"syntax: list without its end", "domain = \"a.org\"\nadmins = [\n  \"x@a.org\",\nlimits.roster = 5\n", 2, "admins", "admins = [", "admins = ["},
    {"syntax: list without its end, last", "domain = \"a.org\"\nadmins = [\"x@a.org\"\n", 2, "admins", "admins = [", "admins = [\"x@a.org\"]"},
    {"syntax: list without its end before a table", "domain = \"a.org\"\nadmins = [\"x@a.org\",\n[limits]\nroster = 5\n", 2, "admins", "admins = [", "admins = [\"x@a.org\"]"},
    {"syntax: text of many lines without its end", "domain = \"a.org\"\ndata = \"\"\"/srv\nlimits.roster = 5\n", 2, "data", "\"\"\"/srv", "data = "},
    {"syntax: within a list", "domain = \"a.org\"\nadmins = [\n  \"x@a.org\",\n  y@a.org,\n]\n", 4, "", "y@a.org", ""},
    {"syntax: header without its end", "domain = \"a.org\"\n[limits\nroster = 5\n", 2, "limits", "[limits", "[limits]"},
    {"syntax: header with two ends", "domain = \"a.org\"\n[limits]]\nroster = 5\n", 2, "limits", "[limits]]", "[limits]"},
    {"not UTF-8", "domain = \"a.org\"\ndata = \"/srv/\xff\"\n", 2, "data", "utf-8", "data = "},
    {"duplicate key", "domain = \"a.org\"\nlimits.roster = 5\nlimits.roster = 6\n", 3, "limits.roster", "second value", "remove this line"},
    {"duplicate table", "domain = \"a.org\"\n[limits]\nroster = 5\n[sasl]\niterations = 5000\n[limits]\nstanza = \"20 kB\"\n", 6, "limits", "begun before", "move"},
    {"number out of range", "domain = \"a.org\"\nreactors = 1000\n", 2, "reactors", "1000", "reactors = 256"},
    {"number negative", "domain = \"a.org\"\nreactors = -1\n", 2, "reactors", "-1", "reactors = 0"},
    {"number too large for any", "domain = \"a.org\"\nreactors = 99999999999999999999\n", 2, "reactors", "99999999999999999999", "reactors = 256"},
    {"module's number too large", "domain = \"a.org\"\nmodules.offline.quota = 5000000000\n", 2, "modules.offline.quota", "5000000000", "modules.offline.quota = 1000000000"},
    {"module's number negative", "domain = \"a.org\"\nmodules.offline.quota = -5\n", 2, "modules.offline.quota", "-5", "modules.offline.quota = 0"},
    {"duration without unit", "domain = \"a.org\"\nlimits.login_timeout = 45\n", 2, "limits.login_timeout", "45", "limits.login_timeout = \"45s\""},
    {"duration's unit misspelt", "domain = \"a.org\"\nlimits.login_timeout = \"2 minutes\"\n", 2, "limits.login_timeout", "2 minutes", "limits.login_timeout = \"2m\""},
    {"duration out of range", "domain = \"a.org\"\nlimits.login_timeout = \"2h\"\n", 2, "limits.login_timeout", "2h", "limits.login_timeout = \"1h\""},
    {"duration negative", "domain = \"a.org\"\nlimits.login_timeout = \"-5s\"\n", 2, "limits.login_timeout", "-5s", "limits.login_timeout = \"1s\""},
    {"duration too large for its unit", "domain = \"a.org\"\nmodules.offline.keep = \"999999999999999d\"\n", 2, "modules.offline.keep", "999999999999999d", "modules.offline.keep = \"3650d\""},
    {"size's unit misspelt", "domain = \"a.org\"\nlimits.stanza = \"64 kb\"\n", 2, "limits.stanza", "64 kb", "limits.stanza = \"64 kB\""},
    {"size as number", "domain = \"a.org\"\nlimits.stanza = 65536\n", 2, "limits.stanza", "65536", "limits.stanza = \"64 kB\""},
    {"size out of range", "domain = \"a.org\"\nlimits.stanza = \"1 GB\"\n", 2, "limits.stanza", "1 GB", "limits.stanza = \"64 MB\""},
    {"no domain", "data = \"/srv\"\n", 0, "domain", "no domain", "domain = \"example.org\""},
    {"empty file", "", 0, "domain", "no domain", "domain = \"example.org\""},
    {"bad domain", "domain = \"exa mple\"\n", 1, "domain", "exa mple", "domain = \"example.org\""},
    {"bad domain: a JID", "domain = \"me@a.org\"\n", 1, "domain", "me@a.org", "domain = \"example.org\""},
    {"bad domain: an empty label", "domain = \"a..org\"\n", 1, "domain", "a..org", "domain = \"example.org\""},
    {"bad domain: a path", "domain = \"a.org/..\"\n", 1, "domain", "a.org/..", "domain = \"example.org\""},
    {"bad further domain", "domain = \"a.org\"\ndomains = [\"b.org\", \"-c\"]\n", 2, "domains", "-c", "domains = [\"b.org\", \"example.org\"]"},
    {"domain twice", "domain = \"a.org\"\ndomains = [\"A.org\", \"b.org\"]\n", 2, "domains", "second time", "domains = [\"b.org\"]"},
    {"rule of a host that does not exist", "domain = \"a.org\"\n[host.\"other.example\"]\nlimits.roster = 5\n", 2, "host.\"other.example\"", "not served", "domains = [\"other.example\"]"},
    {"rule of a host that is misspelt", "domain = \"example.org\"\n[host.\"exmaple.org\"]\nlimits.roster = 5\n", 2, "host.\"exmaple.org\"", "not served", "[host.\"example.org\"]"},
    {"rule of a host that is none", "domain = \"a.org\"\n[host.\"a b\"]\nlimits.roster = 5\n", 2, "host", "a b", "[host.\"example.org\"]"},
    {"host is no table", "domain = \"a.org\"\nhost = \"a.org\"\n", 2, "host", "a.org", "[host.\"example.org\"]"},
    {"host without quotes", "domain = \"a.org\"\n[host.a.org]\nlimits.roster = 5\n", 2, "host", "without quotes", "[host.\"a.org\"]"},
    {"node's key under a host", "domain = \"a.org\"\n[host.\"a.org\"]\nreactors = 2\n", 3, "reactors", "under a host", "reactors = 2"},
    {"admin that is no JID", "domain = \"a.org\"\nadmins = [\"x@a.org\", \"@a.org\"]\n", 2, "admins", "@a.org", "admins = [\"x@a.org\", \"admin@a.org\"]"},
    {"admin that is a domain", "domain = \"a.org\"\nadmins = [\"a.org\"]\n", 2, "admins", "a.org", "admin@a.org"},
    {"admin with a resource", "domain = \"a.org\"\nadmins = [\"x@a.org/pc\"]\n", 2, "admins", "x@a.org/pc", "admins = [\"x@a.org\"]"},
    {"admin of a host that is not served", "domain = \"example.org\"\nadmins = [\"x@exmaple.org\"]\n", 2, "admins", "x@exmaple.org", "x@example.org"},
    {"port given twice", "domain = \"a.org\"\n[listen]\nc2s = [\"0.0.0.0:7000\"]\nc2s_direct = [\"127.0.0.1:7000\"]\n", 4, "listen.c2s_direct", "127.0.0.1:7000", "another port"},
    {"port given twice in one list", "domain = \"a.org\"\nlisten.c2s = [\"127.0.0.1:7000\", \"127.0.0.1:7000\"]\n", 2, "listen.c2s", "127.0.0.1:7000", "another port"},
    {"port out of range", "domain = \"a.org\"\nlisten.c2s = [\"0.0.0.0:70000\"]\n", 2, "listen.c2s", "70000", "listen.c2s = [\"0.0.0.0:5222\"]"},
    {"port 0", "domain = \"a.org\"\nlisten.http = [\"[::1]:0\"]\n", 2, "listen.http", "[::1]:0", "listen.http = [\"[::1]:5280\"]"},
    {"port missing", "domain = \"a.org\"\nlisten.http = [\"127.0.0.1\"]\n", 2, "listen.http", "127.0.0.1", "[\"127.0.0.1:5280\"]"},
    {"address that is a name", "domain = \"a.org\"\nlisten.c2s = [\"localhost:5222\"]\n", 2, "listen.c2s", "localhost", "[\"127.0.0.1:5222\"]"},
    {"address without brackets", "domain = \"a.org\"\nlisten.c2s = [\":::5222\"]\n", 2, "listen.c2s", ":::5222", "listen.c2s = ["},
    {"proxies in front of no listener", "domain = \"a.org\"\nlisten.trusted_proxies = [\"10.0.0.0/8\"]\nlisten.c2s = [\"127.0.0.1:7000\"]\nlisten.proxy_protocol = [\"127.0.0.1:7001\"]\n", 4, "listen.proxy_protocol", "127.0.0.1:7001", "listen.proxy_protocol = [\"127.0.0.1:7000\"]"},
    {"rates of no listener", "domain = \"a.org\"\nlisten.c2s = [\"127.0.0.1:7000\"]\nlisten.shaped = [\"everything\"]\n", 3, "listen.shaped", "everything", "listen.shaped = [\"127.0.0.1:7000\"]"},
    {"a proxy that is no network", "domain = \"a.org\"\nlisten.trusted_proxies = [\"::1\", \"10.0.0.1/8\"]\n", 2, "listen.trusted_proxies", "10.0.0.1/8", "listen.trusted_proxies = [\"::1\", \"10.0.0.1\"]"},
    {"listeners behind nobody", "domain = \"a.org\"\nlisten.c2s = [\"127.0.0.1:7000\"]\nlisten.proxy_protocol = [\"127.0.0.1:7000\"]\n", 3, "listen.proxy_protocol", "listen.proxy_protocol alone", "listen.trusted_proxies = ["},
    {"certificate without key", "domain = \"a.org\"\ntls.certificate = \"/x.pem\"\n", 2, "tls.certificate", "tls.certificate alone", "tls.key = "},
    {"key without certificate", "domain = \"a.org\"\ntls.key = \"/x.pem\"\n", 2, "tls.key", "tls.key alone", "tls.certificate = "},
    {"PLAIN without TLS where TLS is required", "domain = \"a.org\"\nsasl.plain_without_tls = true\n", 2, "sasl.plain_without_tls", "true", "sasl.plain_without_tls = false"},
    {"run folder too long for a socket", "domain = \"a.org\"\nrun = \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n", 2, "run", "/aaaa", "run = \"/run/covey\""},
    {"data folder empty", "domain = \"a.org\"\ndata = \"\"\n", 2, "data", "\"\"", "data = \"/var/lib/covey\""},
    {"network with bits behind its prefix", "domain = \"a.org\"\nmodules.register.allow_from = [\"192.0.2.0/24\", \"192.0.2.1/24\"]\n", 2, "modules.register.allow_from", "192.0.2.1/24", "modules.register.allow_from = [\"192.0.2.0/24\", \"127.0.0.0/8\"]"},
    {"network that is a name", "domain = \"a.org\"\n[modules.register]\nallow_from = [\"localhost\"]\n", 3, "modules.register.allow_from", "localhost", "allow_from = [\"127.0.0.0/8\"]"},
    {"PostgreSQL without a connection", "domain = \"a.org\"\nstorage.engine = \"postgresql\"\n", 2, "storage.engine", "alone", "storage.connection = \"host=db1,db2"},
    {"output smaller than a stanza", "domain = \"a.org\"\nlimits.stanza = \"2 MB\"\nlimits.output = \"1 MB\"\n", 3, "limits.output", "1 MB", "limits.output = \"8 MB\""},
};
} // namespace

TEST_CASE("no mistake passes in silence: each is reported once, where it is, with a remedy") {
  folder f;
  CHECK(std::size(mistakes) >= 60);
  for (auto& m : mistakes) {
    CAPTURE(m.name);
    auto l = load(f, m.text);
    auto said = all_of(l);
    CAPTURE(said);
    CHECK(l.problems.size() == 1);
    if (l.problems.empty())
      continue;
    auto& p = l.problems[0];
    CHECK(p.file == f.at("covey.toml"));
    CHECK(p.line == m.line);
    CHECK((p.line == 0 || p.column > 0));
    CHECK(p.key == m.key);
    CHECK(p.found.find(m.found) != std::string::npos);
    CHECK(p.remedy.find(m.remedy) != std::string::npos);
    CHECK_FALSE(p.allowed.empty());
    for (auto* text : {&p.found, &p.allowed, &p.remedy})
      CHECK(text->find('\n') == text->npos);
  }
}

TEST_CASE("what a remedy says can be written") {
  folder f;
  int applied = 0;
  for (auto& m : mistakes) {
    auto l = load(f, m.text);
    if (l.problems.size() != 1 || m.line == 0)
      continue;
    auto& p = l.problems[0];
    // the line is replaced where the remedy is one of the same shape: "key = value"
    if (p.remedy.find(" = ") == std::string::npos || p.remedy.find('#') != std::string::npos || p.remedy.starts_with('[') || p.found.find("under a host") != std::string::npos
        || p.key.empty() || p.key.ends_with("log.level") || p.found.ends_with("alone"))
      continue;
    std::istringstream in{m.text};
    std::string text, line;
    for (std::uint32_t n = 1; std::getline(in, line); ++n)
      text += (n == p.line ? p.remedy : line) + '\n';
    if (std::string_view{m.name} == "syntax: list without its end" || std::string_view{m.name} == "wrong type: list of numbers")
      continue; // its other lines are left over; what is a text now is no JID
    CAPTURE(m.name);
    CAPTURE(text);
    auto again = load(f, text);
    CAPTURE(all_of(again));
    bool is_fixed = again.problems.empty()
                    || (again.problems.size() == 1 && again.problems[0].key != p.key); // of what was not read before
    if (p.remedy.find("example.org") == std::string::npos)
      CHECK(is_fixed);
    ++applied;
  }
  CHECK(applied >= 30);
}

TEST_CASE("the machine: folders, files, ports, certificates") {
  folder f;
  auto base = "domain = \"a.org\"\ndata = \"" + f.at("data") + "\"\nrun = \"" + f.at("run") + "\"\n";
  load_options all{true, true};
  taken_port taken, free;
  close(free.fd);
  free.fd = -1;
  auto ports = "listen.c2s = [\"127.0.0.1:" + std::to_string(free.port) + "\"]\nlisten.c2s_direct = []\nlisten.http = []\n";
  SUBCASE("nothing is wrong") { CHECK(all_of(load(f, base + ports, {}, all)) == ""); }
  SUBCASE("port in use") {
    auto text = base + "listen.c2s = [\"127.0.0.1:" + std::to_string(taken.port) + "\"]\nlisten.c2s_direct = []\nlisten.http = []\n";
    auto l = load(f, text, {}, all);
    REQUIRE(l.problems.size() == 1);
    CHECK(l.problems[0].key == "listen.c2s");
    CHECK(l.problems[0].line == 4);
    CHECK(l.problems[0].found.find("in use") != std::string::npos);
    CHECK(all_of(load(f, text, {}, {true, false})) == ""); // the server itself has it
  }
  SUBCASE("an address that this machine has not") {
    auto l = load(f, base + "listen.c2s = [\"192.0.2.1:" + std::to_string(free.port) + "\"]\nlisten.c2s_direct = []\nlisten.http = []\n", {}, all);
    REQUIRE(l.problems.size() == 1);
    CHECK(l.problems[0].key == "listen.c2s");
  }
  SUBCASE("a folder that cannot be written to") {
    f.write("plain", "");
    for (auto* key : {"data", "run"}) {
      auto other = std::string_view{key} == "data" ? "run" : "data";
      auto l = load(f, std::string{"domain = \"a.org\"\n"} + other + " = \"" + f.at(other) + "\"\n" + key + " = \"" + f.at("plain/sub") + "\"\n" + ports, {}, all);
      REQUIRE(l.problems.size() == 1);
      CHECK(l.problems[0].key == key);
      CHECK(l.problems[0].line == 3);
    }
  }
  SUBCASE("a log that cannot be written to") {
    for (auto& file : {f.path(), f.at("nowhere/covey.log"), f.write("plain", "") + "/covey.log"}) {
      auto l = load(f, base + ports + "log.file = \"" + file + "\"\n", {}, all);
      CAPTURE(file);
      REQUIRE(l.problems.size() == 1);
      CHECK(l.problems[0].key == "log.file");
      CHECK(l.problems[0].remedy.starts_with("log.file = "));
    }
    CHECK(all_of(load(f, base + ports + "log.file = \"" + f.at("data/covey.log") + "\"\n", {}, all)) == "");
  }
}

TEST_CASE("certificates: missing, unreadable, of another key, of another host, expired, early") {
  test::folder made;
  auto host = [](const char* names) { return test::certificate_wish{.alternative_names = names}; };
  test::make_certificate(made, "good", host("DNS:a.example"));
  test::make_certificate(made, "other", host("DNS:b.example"));
  auto past = host("DNS:a.example"), future = past, client = past;
  past.valid_from_s = -7'200;
  past.valid_to_s = -3'600;
  future.valid_from_s = 3'600;
  client.extended_usage = "clientAuth";
  test::make_certificate(made, "past", past);
  test::make_certificate(made, "future", future);
  test::make_certificate(made, "client", client);
  folder f;
  f.write("junk.pem", "no certificate\n");
  auto good = made / "good.pem", good_key = made / "good.key";
  struct row { std::string certificate, key, at, found; };
  for (auto& r : {
           row{good, good_key, "", ""},
           row{f.at("missing.pem"), good_key, "tls.certificate", "no such file"},
           row{good, f.at("missing.key"), "tls.key", "no such file"},
           row{good, f.path(), "tls.key", "folder"},
           row{f.at("junk.pem"), good_key, "tls.certificate", "no certificate"},
           row{good, f.at("junk.pem"), "tls.key", "no unencrypted private key"},
           row{good, made / "other.key", "tls.key", "not the key"},
           row{made / "other.pem", made / "other.key", "tls.certificate", "does not name this host"},
           row{made / "past.pem", made / "past.key", "tls.certificate", "expired"},
           row{made / "future.pem", made / "future.key", "tls.certificate", "not valid yet"},
           row{made / "client.pem", made / "client.key", "tls.certificate", "usage"},
       }) {
    CAPTURE(r.certificate);
    CAPTURE(r.key);
    auto l = load(f, "domain = \"a.example\"\ndata = \"" + f.at("data") + "\"\nrun = \"" + f.at("run") + "\"\n[tls]\ncertificate = \"" + r.certificate
                         + "\"\nkey = \"" + r.key + "\"\n", {}, {true, false});
    CAPTURE(all_of(l));
    REQUIRE(l.problems.size() == (r.at.empty() ? 0 : 1));
    if (r.at.empty())
      continue;
    auto& p = l.problems[0];
    CHECK(p.key == r.at);
    CHECK(p.line == (r.at == "tls.key" ? 6 : 5));
    CHECK(p.found.find(r.found) != std::string::npos);
    CHECK(p.remedy.starts_with(r.at == "tls.key" ? "key = " : "certificate = "));
  }
}

TEST_CASE("a file that is none") {
  folder f;
  auto one = [&](const std::string& file) {
    auto l = load_config(file, {}, {false, false});
    REQUIRE(l.problems.size() >= 1);
    CHECK(l.problems[0].file == file);
    CHECK_FALSE(l.problems[0].remedy.empty());
    return l.problems[0].found;
  };
  CHECK(one(f.at("missing.toml")).find("no such file") != std::string::npos);
  CHECK(one(f.path()).find("folder") != std::string::npos);
  CHECK(one("/dev/null").find("no regular file") != std::string::npos);
  auto huge = f.write("huge.toml", std::string(2 << 20, '#'));
  CHECK(one(huge).find("bytes") != std::string::npos);
  if (geteuid() != 0) {
    auto secret = f.write("secret.toml", "domain = \"a.org\"\n");
    std::filesystem::permissions(secret, std::filesystem::perms::none);
    CHECK(one(secret).find("cannot be read") != std::string::npos);
  }
}

TEST_CASE("the environment: what names no key or has a wrong value") {
  folder f;
  struct row { const char *name, *text, *found, *remedy; };
  for (auto& r : {row{"COVEY_LIMITS__ROSTR", "5", "names no key", "COVEY_LIMITS__ROSTER='5'"}, row{"COVEY_FOO", "5", "names no key", "unset COVEY_FOO"},
                  row{"COVEY_LIMITS", "5", "names no key", "unset COVEY_LIMITS"}, row{"COVEY_", "5", "names no key", "unset COVEY_"},
                  row{"COVEY_LIMITS__ROSTER", "many", "many", "COVEY_LIMITS__ROSTER='2000'"}, row{"COVEY_LIMITS__ROSTER", "-1", "-1", "COVEY_LIMITS__ROSTER='1'"},
                  row{"COVEY_LIMITS__ROSTER", "", "nothing", "COVEY_LIMITS__ROSTER='2000'"}, row{"COVEY_TLS__REQUIRE", "yes", "yes", "COVEY_TLS__REQUIRE='true'"},
                  row{"COVEY_LIMITS__STANZA", "64 kb", "64 kb", "COVEY_LIMITS__STANZA='\"64 kB\"'"}, row{"COVEY_ADMINS", "x@a.org", "x@a.org", "COVEY_ADMINS='[\"x@a.org\"]'"},
                  row{"COVEY_LIMITS__ROSTER", "5\ndomain = 1", "5", "COVEY_LIMITS__ROSTER="}, row{"COVEY_DOMAIN", "a b", "a b", "COVEY_DOMAIN="}}) {
    CAPTURE(r.name);
    CAPTURE(r.text);
    auto l = load(f, "domain = \"a.org\"\n", {{r.name, r.text}});
    CAPTURE(all_of(l));
    REQUIRE(l.problems.size() == 1);
    CHECK(l.problems[0].file == "environment");
    CHECK(l.problems[0].found.find(r.found) != std::string::npos);
    CHECK(l.problems[0].remedy.find(r.remedy) != std::string::npos);
  }
}

TEST_CASE("ten mistakes in one file are ten reports of one run, in order") {
  folder f;
  auto l = load(f, R"(domain = "a.org"
domians = ["b.org"]
reactors = -4
admins = ["nobody"]
log.level = loud
resource_conflict = "replce"
[limits]
login_timeout = 30
stanza = "64 kilobytes"
roster = 5
roster = 6
[modules.ofline]
quota = 1
[host."c.org"]
limits.roster = 1
)");
  CAPTURE(all_of(l));
  std::vector<std::uint32_t> lines;
  for (auto& p : l.problems)
    lines.push_back(p.line);
  CHECK(lines == std::vector<std::uint32_t>{2, 3, 4, 5, 6, 8, 9, 11, 12, 14});
}

TEST_CASE("reading goes on behind broken lines") {
  folder f;
  auto l = load(f, "domain = a.org\nreactors = -1\n[limits\nrostr = 5\n[limits]\nstanza = \"1\"\n[limits]\nrostre = 1\n");
  CAPTURE(all_of(l));
  std::vector<std::uint32_t> lines;
  for (auto& p : l.problems)
    lines.push_back(p.line);
  CHECK(lines == std::vector<std::uint32_t>{1, 2, 3, 4, 6, 7, 8});
}

TEST_CASE("reading ends, whatever is in the file") {
  folder f;
  std::mt19937 random{7};
  const std::string letters = "[]{}\"'=#.,\n\n\t ab1-\\\xff\xc3";
  for (int n = 0; n < 300; ++n) {
    std::string text;
    for (int i = 0; i < 120; ++i)
      text += letters[random() % letters.size()];
    CHECK(load(f, text).problems.size() >= 1); // a domain is missing at least
  }
}

TEST_CASE("did you mean: right for 95 of 100 typos, silent for what is far") {
  auto modules = modules::all();
  auto keys = all_keys(modules);
  std::vector<std::string> names;
  for (auto& k : keys)
    names.push_back(k.name);
  std::mt19937 random{20};
  const std::string letters = "abcdefghijklmnopqrstuvwxyz_";
  folder f;
  int right = 0, total = 200;
  for (int n = 0; n < total; ++n) {
    auto& name = names[random() % names.size()];
    auto typo = name;
    do {
      typo = name;
      auto at = random() % typo.size();
      switch (random() % 4) {
        case 0: typo.erase(at, 1); break;
        case 1: typo.insert(at, 1, letters[random() % letters.size()]); break;
        case 2: typo[at] = letters[random() % letters.size()]; break;
        default: std::swap(typo[at], typo[at + 1 < typo.size() ? at + 1 : 0]);
      }
    } while (std::find(names.begin(), names.end(), typo) != names.end());
    auto meant = nearest(typo, names);
    right += meant == name;
  }
  CHECK(right * 100 >= total * 95);
  for (auto far : {"foo_bar", "nosuchkey", "x", "database.host", "limits.size", "modules.mam.on"}) {
    CAPTURE(far);
    CHECK_FALSE(nearest(far, names));
  }
}

TEST_CASE("every default can be written into a file, and every key is documented") {
  folder f;
  auto modules = modules::all();
  std::set<std::string> seen;
  for (auto& k : all_keys(modules)) {
    CAPTURE(k.name);
    CHECK(seen.insert(k.name).second);
    CHECK(k.doc.ends_with('.'));
    bool is_quoted = k.type == key_type::text || k.type == key_type::duration || k.type == key_type::size;
    auto value = is_quoted ? '"' + k.default_value + '"' : k.default_value;
    auto l = load(f, (k.name == "domain" ? "" : "domain = \"a.org\"\n") + k.name + " = " + (k.name == "domain" ? "\"a.org\"" : value) + "\n");
    CHECK(all_of(l) == "");
  }
}

TEST_CASE("docs/configuration.md is what the keys say") {
  auto committed = folder::read(COVEY_SOURCE_DIR "/docs/configuration.md");
  CHECK_MESSAGE(committed == document(all_keys(modules::all())), "write it anew: covey config docs > docs/configuration.md");
}
