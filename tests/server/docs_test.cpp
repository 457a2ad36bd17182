// Documents that must name what the code has: log codes, commands.
#include "tests/server/folder.hpp"
#include <doctest/doctest.h>
#include <regex>
#include <set>

using server_tests::folder;

namespace {
const std::filesystem::path root = COVEY_SOURCE_DIR;

void find_all(const std::string& text, const std::regex& what, std::set<std::string>& out) {
  for (std::sregex_iterator i{text.begin(), text.end(), what}, end; i != end; ++i)
    out.insert((*i)[1]);
}
} // namespace

TEST_CASE("docs/log.md names every code of the log, and no other") {
  std::set<std::string> logged, documented;
  std::regex call{R"re(log::(?:debug|info|warning|error)\(\s*"([a-z_.]+)")re"}, row{R"(\n\| `([a-z_.]+)` \|)"};
  for (auto* layer : {"base", "xmpp", "net", "storage", "cluster", "modules", "actors", "server"})
    for (auto& e : std::filesystem::recursive_directory_iterator{root / layer})
      if (auto x = e.path().extension(); x == ".cpp" || x == ".hpp")
        find_all(folder::read(e.path().string()), call, logged);
  find_all(folder::read((root / "docs/log.md").string()), row, documented);
  CHECK(logged.size() > 10);
  for (auto& code : logged)
    CHECK_MESSAGE(documented.contains(code), code << " is not in docs/log.md");
  for (auto& code : documented)
    CHECK_MESSAGE(logged.contains(code), code << " is in docs/log.md, but nothing logs it");
}

TEST_CASE("docs/metrics.md names every metric, and no other") {
  std::set<std::string> shown, documented;
  std::regex name{R"re("(covey_[a-z0-9_]+)")re"}, row{R"(`(covey_[a-z0-9_]+)`)"};
  for (auto* layer : {"base", "net", "storage", "cluster", "modules", "actors", "server"})
    for (auto& e : std::filesystem::recursive_directory_iterator{root / layer})
      if (e.path().extension() == ".cpp" || e.path().extension() == ".hpp")
        find_all(folder::read(e.path().string()), name, shown);
  shown.erase("covey_"); // what all begin with
  find_all(folder::read((root / "docs/metrics.md").string()), row, documented);
  CHECK(shown == documented);
}

TEST_CASE("docs/doctor.md names every code of the doctor, and no other") {
  std::set<std::string> given, documented;
  std::regex code{R"re("((?:config|server|port|stream|certificate|dns|files|clock|storage|client)\.[a-z_]+)")re"}, row{R"(\n\| `([a-z_.]+)` \|)"};
  for (auto& e : std::filesystem::directory_iterator{root / "server/doctor"})
    find_all(folder::read(e.path().string()), code, given);
  find_all(folder::read((root / "docs/doctor.md").string()), row, documented);
  CHECK(given == documented);
}

TEST_CASE("docs/cli.md names every command") {
  auto text = folder::read((root / "docs/cli.md").string());
  for (auto* command : {"setup", "user add", "user password", "user remove", "sessions", "kick", "invite", "stats", "stop", "reload", "doctor", "backup", "restore", "migrate", "export", "import", "host add", "host set", "host remove", "host list",
                        "config check", "config show", "config diff", "config docs", "completion",
                        "cluster init-ca", "cluster issue-cert", "cluster token", "join"}) {
    CAPTURE(command);
    CHECK(text.find(std::string{"| `covey "} + command) != std::string::npos);
  }
}
