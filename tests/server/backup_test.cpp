// The archive's form; what is restored and what is refused.
#include "server/backup.hpp"
#include "server/restore.hpp"
#include "server/tar.hpp"
#include "tests/server/programs.hpp"
#include <doctest/doctest.h>
#include <sys/stat.h>

using namespace server_tests;
namespace tar = server::tar;

TEST_CASE("tar: headers are what tar writes, and damaged ones are refused") {
  auto h = tar::header({"store/000012.sst", 1'234});
  REQUIRE(h.size() == tar::block);
  auto m = tar::parse_header(h);
  REQUIRE(m);
  CHECK(m->name == "store/000012.sst");
  CHECK(m->size == 1'234);
  CHECK(tar::parse_header(tar::header({std::string(tar::longest_name, 'x'), tar::largest_member}))->size == tar::largest_member);
  for (std::size_t i = 0; i < tar::block; ++i) {
    auto damaged = h;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x11);
    auto read = tar::parse_header(damaged);
    CHECK_FALSE((read && (read->name != m->name || read->size != m->size)));
  }
  CHECK_FALSE(tar::parse_header(std::string(tar::block, '\0')));
  CHECK_FALSE(tar::parse_header("short"));
  folder f;
  f.write("a.tar", h + std::string(1'234, 'y') + std::string(tar::padding(1'234), '\0') + tar::end());
  auto listed = run({"/bin/tar", "-tvf", f.at("a.tar")});
  CHECK(listed.code == 0);
  CHECK(listed.out.find("1234") != std::string::npos);
}

namespace {
std::string member(const std::string& name, const std::string& text) {
  return tar::header({name, text.size()}) + text + std::string(tar::padding(text.size()), '\0');
}
std::string list(const std::string& lines) { return member("CONTENTS", "covey backup 1\n" + lines) + tar::end(); }
/// Of files with these contents.
std::string archive(const std::vector<std::pair<std::string, std::string>>& files) {
  std::string all, lines;
  for (auto& [name, text] : files) {
    all += member(name, text);
    lines += std::to_string(text.size()) + ' ' + name + '\n';
  }
  return all + list(lines);
}
int mode_of(const std::string& file) {
  struct stat st{};
  REQUIRE(stat(file.c_str(), &st) == 0);
  return st.st_mode & 0777;
}
} // namespace

TEST_CASE("restore: nothing but a whole backup is put in place") {
  folder f;
  std::filesystem::create_directories(f.at("data"));
  auto attempt = [&](const std::string& bytes, bool replaces = false) {
    return server::restore(f.write("x.tar", bytes), f.at("data"), replaces, [](auto, auto) {}, server::check_database);
  };
  auto good = member("hosts/b.org.toml", "limits.roster = 5\n") + list("18 hosts/b.org.toml\n");
  struct row { const char* name; std::string bytes; };
  for (auto& r : {row{"empty", ""}, row{"no archive", std::string(2'000, 'x')}, row{"without its list", member("hosts/b.org.toml", "x") + tar::end()},
                  row{"a file less", list("18 hosts/b.org.toml\n")}, row{"a file more", member("hosts/b.org.toml", "x") + list("")},
                  row{"cut", good.substr(0, good.size() - 1'500)}, row{"a way out", member("hosts/../../x", "x") + list("1 hosts/../../x\n")},
                  row{"a way out", member("../x", "x") + list("1 ../x\n")}, row{"absolute", member("/tmp/x", "x") + list("1 /tmp/x\n")},
                  row{"a node's identity", member("cluster/identity", "1 1\n") + list("4 cluster/identity\n")},
                  row{"a token", member("cluster/tokens", "x") + list("1 cluster/tokens\n")}, row{"no name", member("cluster/", "x") + list("1 cluster/\n")},
                  row{"no database", member("store/LOG", "x") + list("1 store/LOG\n")},
                  row{"a broken database", member("store/CURRENT", "MANIFEST-000001\n") + list("16 store/CURRENT\n")}}) {
    CAPTURE(r.name);
    auto done = attempt(r.bytes);
    REQUIRE_FALSE(done);
    CHECK(done.error().what == server::restore_errc::failed);
    CHECK(std::filesystem::is_empty(f.at("data")));
  }
  REQUIRE(attempt(good));
  CHECK(folder::read(f.at("data/hosts/b.org.toml")) == "limits.roster = 5\n");
  CHECK_FALSE(server::is_half_restored(f.at("data")));
  auto again = attempt(good);
  REQUIRE_FALSE(again);
  CHECK(again.error().what == server::restore_errc::not_empty);
  auto replaced = attempt(good, true);
  REQUIRE(replaced);
  CHECK(folder::read(replaced->replaced + "/hosts/b.org.toml") == "limits.roster = 5\n");
  CHECK_FALSE(server::restore(f.at("missing"), f.at("data"), true, [](auto, auto) {}, server::check_database));
}

TEST_CASE("restore: a node's part in a cluster comes back where there is none, and over nothing") {
  using enum server::cluster_part;
  folder f;
  const std::vector<std::pair<std::string, std::string>> saved{
      {"certificates/x.key", "its key"}, {"cluster/ca.pem", "authority"}, {"cluster/ca.key", "its key"},
      {"cluster/node.key", "key"}, {"cluster/seeds", ""}, {"cluster/node.pem", "certificate"}};
  auto into = [&](const std::string& data, const std::vector<std::pair<std::string, std::string>>& there) {
    std::filesystem::create_directories(f.at(data) + (there.empty() ? "" : "/cluster"));
    for (auto& [name, text] : there)
      f.write(data + '/' + name, text);
    auto done = server::restore(f.write("x.tar", archive(saved)), f.at(data), true, [](auto, auto) {}, server::check_database);
    REQUIRE(done);
    CHECK(std::filesystem::exists(f.at(data + "/certificates/x.key"))); // all else comes in any case
    CHECK_FALSE(server::is_half_restored(f.at(data)));
    for (auto& [name, text] : there)
      CHECK(folder::read(f.at(data + '/' + name)) == text);
    return done->cluster;
  };
  auto names = [&](const std::string& data) {
    std::set<std::string> all;
    for (auto& e : std::filesystem::directory_iterator{f.at(data + "/cluster")})
      all.insert(e.path().filename().string());
    return all;
  };
  const std::set<std::string> whole{"ca.pem", "ca.key", "node.key", "seeds", "node.pem"};

  auto before = umask(022); // what an administrator has
  CHECK(into("empty", {}) == restored);
  umask(before);
  CHECK(names("empty") == whole);
  for (auto& [name, text] : saved)
    CHECK(folder::read(f.at("empty/" + name)) == text);
  for (auto* secret : {"certificates/x.key", "cluster/ca.key", "cluster/node.key", "cluster/seeds"})
    CHECK(mode_of(f.at(std::string{"empty/"} + secret)) == 0600);
  CHECK(mode_of(f.at("empty/cluster/node.pem")) == 0644);
  CHECK(mode_of(f.at("empty/cluster")) == 0700);
  CHECK(mode_of(f.at("empty/certificates")) == 0700);
  // the rest of it, as after a restore that was interrupted, or `covey cluster leave`
  CHECK(into("half", {{"cluster/ca.pem", "authority"}, {"cluster/node.key", "key"}, {"cluster/node.pem.left", "old"}, {"cluster/identity", "1 7\n"}}) == restored);
  CHECK(folder::read(f.at("half/cluster/node.pem")) == "certificate");
  CHECK(folder::read(f.at("half/cluster/ca.key")) == "its key");
  // a member, of whatever cluster
  CHECK(into("member", {{"cluster/node.pem", "another"}}) == kept);
  CHECK(names("member") == std::set<std::string>{"node.pem"});
  // what does not go with it
  for (auto* name : {"cluster/ca.pem", "cluster/ca.key", "cluster/node.key"}) {
    CAPTURE(name);
    auto data = "beside-" + std::filesystem::path{name}.filename().string();
    CHECK(into(data, {{name, "of another cluster"}}) == kept);
    CHECK(names(data).size() == 1);
  }
  CHECK(into("seeds", {{"cluster/seeds", "10.0.0.9:5290\n"}}) == restored);
  CHECK(names("seeds") == whole);
}

TEST_CASE("restore: a node's part in a cluster is no data that has to be moved aside") {
  folder f;
  std::filesystem::create_directories(f.at("data/cluster"));
  f.write("data/cluster/node.pem", "certificate");
  auto attempt = [&] {
    return server::restore(f.write("x.tar", archive({{"hosts/b.org.toml", "x"}})), f.at("data"), false, [](auto, auto) {}, server::check_database);
  };
  auto done = attempt();
  REQUIRE(done);
  CHECK(done->replaced.empty());
  CHECK(done->cluster == server::cluster_part::none);
  CHECK(folder::read(f.at("data/cluster/node.pem")) == "certificate");
}
