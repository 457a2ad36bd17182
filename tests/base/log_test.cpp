// base/log: one event is one line, whatever its values hold.
#include "base/log.hpp"
#include <chrono>
#include <cstdlib>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>
#include <unistd.h>
#include <vector>

namespace logging = base::log;

namespace {
/// A file of its own, read back as lines; afterwards the log is quiet again.
struct log_file {
  std::filesystem::path path;
  log_file(logging::level least, logging::format as) {
    char name[] = "/tmp/covey-log-XXXXXX";
    int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    ::close(fd);
    path = name;
    logging::start(least, as, path.string());
  }
  ~log_file() {
    logging::start(logging::level::error, logging::format::text);
    std::filesystem::remove(path);
  }
  std::vector<std::string> lines() const {
    logging::flush();
    std::ifstream in{path};
    std::vector<std::string> out;
    for (std::string line; std::getline(in, line);)
      out.push_back(line);
    return out;
  }
};

/// Behind the time stamp.
std::string tail(const std::string& line) { return line.substr(line.find(' ') + 1); }
} // namespace

TEST_CASE("log: a text line has time, level, code, text and fields") {
  log_file f{logging::level::info, logging::format::text};
  logging::info("auth.ok", "logged in", {{"jid", "romeo@example.net"}, {"peer", "[::1]:5222"}});
  auto all = f.lines();
  REQUIRE(all.size() == 1);
  CHECK(tail(all[0]) == "info auth.ok logged in jid=romeo@example.net peer=[::1]:5222");
  CHECK(all[0].size() > 24);
  CHECK(all[0][10] == 'T');
  CHECK(all[0][23] == 'Z');
}

TEST_CASE("log: no value forges a line, a field or a terminal command") {
  struct row { std::string value, shown; };
  const row rows[] = {
    {"plain", "plain"},
    {"", "\"\""},
    {"two words", "\"two words\""},
    {"a=b", "\"a=b\""},
    {"x\n2026 error faked", "\"x\\n2026 error faked\""},
    {"x\r\ty", "\"x\\r\\ty\""},
    {"quote\" jid=admin", "\"quote\\\" jid=admin\""},
    {"back\\slash", "\"back\\\\slash\""},
    {"\x1b[2J", "\"\\u{1b}[2J\""},
    {std::string{"nul\0byte", 8}, "\"nul\\u{0}byte\""},
    {"\x7f", "\"\\u{7f}\""},
    {"\xc2\x9b" "31m", "\"\\u{9b}31m\""},       // a C1 control starts an escape sequence, too
    {"\xe2\x80\xae" "gro", "\"\\u{202e}gro\""}, // right-to-left override
    {"\xe2\x80\xa8", "\"\\u{2028}\""},
    {"bad\xff\xc0\xaf", "\"bad\\xff\\xc0\\xaf\""},
    {"cut\xe2\x82", "\"cut\\xe2\\x82\""},
    {"\xd1\x8e\xd0\xbb\xd0\xb8\xd1\x8f", "\xd1\x8e\xd0\xbb\xd0\xb8\xd1\x8f"}, // letters stay readable
    {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
  };
  log_file f{logging::level::info, logging::format::text};
  for (auto& r : rows)
    logging::info("c", "t", {{"v", r.value}});
  auto all = f.lines();
  REQUIRE(all.size() == std::size(rows));
  for (std::size_t i = 0; i < all.size(); ++i)
    CHECK(tail(all[i]) == "info c t v=" + rows[i].shown);
}

TEST_CASE("log: the text itself cannot break out either") {
  log_file f{logging::level::info, logging::format::text};
  logging::warning("c", "went\nwrong");
  CHECK(tail(f.lines().at(0)) == "warning c went\\nwrong");
}

TEST_CASE("log: a JSON line is one valid object, bad bytes replaced") {
  log_file f{logging::level::debug, logging::format::json};
  logging::error("c", "a \"text\"\n", {{"v", "\xff\n\x1b"}, {"level", "forged"}});
  auto all = f.lines();
  REQUIRE(all.size() == 1);
  auto o = nlohmann::json::parse(all[0]);
  CHECK(o["level"] == "error");
  CHECK(o["code"] == "c");
  CHECK(o["text"] == "a \"text\"\n");
  CHECK(o["v"] == "\xef\xbf\xbd\n\x1b");
  CHECK(o["time"].get<std::string>().size() == 24);
}

TEST_CASE("log: long values are cut, not inside a character") {
  log_file f{logging::level::info, logging::format::json};
  std::string euro;
  for (int i = 0; i < 2'000; ++i)
    euro += "\xe2\x82\xac";
  logging::info("c", "t", {{"v", euro}});
  auto v = nlohmann::json::parse(f.lines().at(0))["v"].get<std::string>();
  CHECK(v.size() < 2'100);
  CHECK(v.find("\xef\xbf\xbd") == std::string::npos);
  CHECK(v.ends_with("\xe2\x82\xac..."));
}

TEST_CASE("log: below the level nothing is written, and the level can change") {
  log_file f{logging::level::warning, logging::format::text};
  logging::info("a", "no");
  logging::debug("b", "no");
  CHECK_FALSE(logging::is_on(logging::level::info));
  logging::set_level(logging::level::debug);
  logging::debug("d", "yes");
  auto all = f.lines();
  REQUIRE(all.size() == 1);
  CHECK(tail(all[0]) == "debug d yes");
}

TEST_CASE("log: lines of several threads are whole") {
  log_file f{logging::level::info, logging::format::text};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] {
      for (int k = 0; k < 200; ++k)
        logging::info("many", "x", {{"v", "0123456789012345678901234567890123456789"}});
    });
  for (auto& t : threads)
    t.join();
  auto all = f.lines();
  CHECK(all.size() == 800);
  for (auto& l : all)
    REQUIRE(tail(l) == "info many x v=0123456789012345678901234567890123456789");
}

TEST_CASE("log: a file that cannot be opened is an error with its name") {
  CHECK_THROWS_WITH_AS(logging::start(logging::level::info, logging::format::text, "/nonexistent/x.log"),
                       "cannot open the log file /nonexistent/x.log: No such file or directory", std::runtime_error);
}
