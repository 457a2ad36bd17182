// Hosts that have files of their own, and what differs between two configurations.
#include "server/config/compare.hpp"
#include "tests/server/folder.hpp"
#include <doctest/doctest.h>
#include <set>

using namespace server;
using server_tests::folder;

namespace {
/// A configuration beside a data folder with these hosts.
struct files {
  folder where;
  explicit files(const std::string& more = {}) {
    std::filesystem::create_directories(where.at("data/hosts"));
    where.write("covey.toml", "domain = \"a.org\"\ndata = \"" + where.at("data") + "\"\n" + more);
  }
  void host(const std::string& name, const std::string& text) const { where.write("data/hosts/" + name, text); }
  [[nodiscard]] loaded load(std::optional<host_file> instead = {}) const {
    return load_config(where.at("covey.toml"), {}, {false, false, {}, std::move(instead)});
  }
};

std::string said(const loaded& l) {
  std::string all;
  for (auto& p : l.problems)
    all += to_text(p) + '\n';
  return all;
}

std::vector<std::string> domains(const loaded& l) {
  std::vector<std::string> all;
  for (auto& h : l.config.hosts)
    all.push_back(h.domain);
  return all;
}
} // namespace

TEST_CASE("added hosts are served with their own settings, and those of all hosts") {
  files f{"limits.roster = 7\n"};
  f.host("b.org.toml", "# nothing\n");
  f.host("c.org.toml", "limits.roster = 8\n[modules.offline]\nquota = 9\n");
  f.host("README", "not read");
  auto l = f.load();
  REQUIRE(said(l) == "");
  REQUIRE(domains(l) == std::vector<std::string>{"a.org", "b.org", "c.org"});
  CHECK(l.config.hosts[0].file.empty());
  CHECK(l.config.hosts[1].file == f.where.at("data/hosts/b.org.toml"));
  CHECK(l.config.hosts[1].max_roster == 7);
  CHECK(l.config.hosts[2].max_roster == 8);
  CHECK(l.config.hosts[2].modules.at("offline").at("quota").number == 9);
  bool is_shown = false;
  for (auto& v : l.effective)
    is_shown |= v.key == "host.\"c.org\".limits.roster" && v.origin == f.where.at("data/hosts/c.org.toml:1");
  CHECK(is_shown);
}

TEST_CASE("mistakes in the files of added hosts are found, each in its file") {
  struct row { const char *name, *text, *found; };
  for (auto& r : {row{"b.org.toml", "limits.rostr = 5\n", "limits.roster = 5"}, row{"b.org.toml", "reactors = 5\n", "at the top of"},
                  row{"b.org.toml", "limits.roster = many\n", "limits.roster = 2000"}, row{"b.org.toml", "[limits\nroster = 5\n", "[limits]"},
                  row{"a.org.toml", "", "for the second time"}, row{"B.org.toml", "", "not named after a domain"},
                  row{"b c.toml", "", "not named after a domain"}, row{"b.org.toml", "tls.key = \"/x\"\n", "tls.key alone"}}) {
    CAPTURE(r.name);
    CAPTURE(r.text);
    files f;
    f.host(r.name, r.text);
    auto l = f.load();
    CAPTURE(said(l));
    REQUIRE(l.problems.size() == 1);
    CHECK(l.problems[0].file == f.where.at("data/hosts/") + r.name);
    CHECK(to_text(l.problems[0]).find(r.found) != std::string::npos);
  }
  files f{"[host.\"b.org\"]\nlimits.roster = 5\n"};
  f.host("b.org.toml", "limits.roster = 6\n");
  auto l = f.load();
  REQUIRE(l.problems.size() == 1);
  CHECK(l.problems[0].found.find("second value") != std::string::npos);
  CHECK(l.problems[0].remedy.find("covey.toml:4") != std::string::npos);
}

TEST_CASE("what would stand in a host's file is checked without a file") {
  files f;
  f.host("b.org.toml", "limits.roster = 5\n");
  CHECK(domains(f.load(host_file{"c.org", "limits.roster = 6\n"})) == std::vector<std::string>{"a.org", "b.org", "c.org"});
  CHECK(domains(f.load(host_file{"b.org", {}})) == std::vector<std::string>{"a.org"});
  CHECK(f.load(host_file{"b.org", "limits.roster = 6\n"}).config.hosts[1].max_roster == 6);
  CHECK(f.load(host_file{"b.org", "nonsense\n"}).problems.size() == 1);
}

TEST_CASE("a diff says what changed, from what to what, and whether a reload is enough") {
  auto keys = all_keys(modules::all());
  files before{"reactors = 1\nlimits.roster = 5\n[host.\"a.org\"]\nstorage.engine = \"rocksdb\"\n"};
  before.host("b.org.toml", "limits.roster = 6\n");
  files after{"reactors = 2\nlimits.roster = 6\n[host.\"a.org\"]\nstorage.engine = \"memory\"\nadmins = [\"x@a.org\"]\n"};
  auto old = before.load().effective, fresh = after.load().effective;
  CHECK(compare(old, old, keys).empty());
  std::map<std::string, changed_value> found;
  for (auto& c : compare(old, fresh, keys))
    found[c.key] = c;
  found.erase("data"); // the two have different folders
  REQUIRE(found.size() == 6);
  CHECK(found["reactors"].before == "1");
  CHECK(found["reactors"].after == "2");
  CHECK_FALSE(found["reactors"].is_live);
  CHECK(found["limits.roster"].is_live);
  CHECK_FALSE(found["host.\"a.org\".storage.engine"].is_live);
  CHECK(found["host.\"a.org\".admins"].before == "");
  CHECK(found["host.\"a.org\".admins"].is_live);
  CHECK(found["host.\"b.org\""].is_live);
  CHECK(found["host.\"b.org\".limits.roster"].after == "");
}

TEST_CASE("what is taken at the start alone waits for a restart, all else is live") {
  std::set<std::string> waiting;
  for (auto& k : all_keys(modules::all()))
    if (!is_live(k))
      waiting.insert(k.name);
  CHECK(waiting == std::set<std::string>{"data", "run", "reactors", "storage.engine", "storage.connection", "storage.connections", "storage.patience", "storage.write_buffer", "storage.cache", "listen.c2s", "listen.c2s_direct",
                                         "listen.http", "listen.proxy_protocol", "listen.trusted_proxies", "listen.proxy_timeout", "listen.shaped",
                                         "tls.ticket_rotation", "cluster.listen", "cluster.address", "cluster.seeds", "cluster.node"});
}
