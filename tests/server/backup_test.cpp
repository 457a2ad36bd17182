// The archive's form; what is restored and what is refused.
#include "server/backup.hpp"
#include "server/restore.hpp"
#include "server/tar.hpp"
#include "tests/server/programs.hpp"
#include <doctest/doctest.h>

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

TEST_CASE("restore: nothing but a whole backup is put in place") {
  folder f;
  std::filesystem::create_directories(f.at("data"));
  auto list = [](const std::string& lines) {
    auto text = "covey backup 1\n" + lines;
    return tar::header({"CONTENTS", text.size()}) + text + std::string(tar::padding(text.size()), '\0') + tar::end();
  };
  auto member = [](const std::string& name, const std::string& text) {
    return tar::header({name, text.size()}) + text + std::string(tar::padding(text.size()), '\0');
  };
  auto attempt = [&](const std::string& bytes, bool replaces = false) {
    return server::restore(f.write("x.tar", bytes), f.at("data"), replaces, [](auto, auto) {}, server::check_database);
  };
  auto good = member("hosts/b.org.toml", "limits.roster = 5\n") + list("18 hosts/b.org.toml\n");
  struct row { const char* name; std::string bytes; };
  for (auto& r : {row{"empty", ""}, row{"no archive", std::string(2'000, 'x')}, row{"without its list", member("hosts/b.org.toml", "x") + tar::end()},
                  row{"a file less", list("18 hosts/b.org.toml\n")}, row{"a file more", member("hosts/b.org.toml", "x") + list("")},
                  row{"cut", good.substr(0, good.size() - 1'500)}, row{"a way out", member("hosts/../../x", "x") + list("1 hosts/../../x\n")},
                  row{"a way out", member("../x", "x") + list("1 ../x\n")}, row{"absolute", member("/tmp/x", "x") + list("1 /tmp/x\n")},
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
