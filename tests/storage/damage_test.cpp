// Files that are not what was written: reported by name or harmless, never silently less.
#include "storage/rocksdb/log_check.hpp"
#include "tests/storage/engines.hpp"
#include <fstream>
#include <sstream>

using namespace storage;
using namespace storage::testing;
namespace fs = std::filesystem;

namespace {
std::string read_all(const fs::path& p) {
  std::ifstream in{p, std::ios::binary};
  std::ostringstream all;
  if (in.peek() != EOF)
    all << in.rdbuf();
  return all.str();
}
void write_all(const fs::path& p, std::string_view bytes) {
  std::ofstream{p, std::ios::binary | std::ios::trunc}.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// What a database must have again: files as a process left them that was killed, rows in tables and
/// in the log.
struct original {
  static constexpr int rows = 40;
  temporary_folder folder;
  fs::path files = folder / "files", work = folder / "work";

  original() {
    auto path = folder / "db";
    auto add = [](engine& e, int from, int until) {
      for (int i = from; i < until; ++i)
        REQUIRE(commit(e, make({put{"k" + std::to_string(100 + i), "value of " + std::to_string(i)}})) == outcome::done);
    };
    add(*open_or_fail(small(path)), 0, 20);
    auto e = open_or_fail(small(path)); // the log has become a table
    add(*e, 20, rows);
    fs::copy(path, files, fs::copy_options::recursive); // while it is open: no clean end
  }

  [[nodiscard]] std::vector<std::string> names(std::string_view with) const {
    std::vector<std::string> found;
    for (auto& f : fs::directory_iterator{files})
      if (f.path().filename().string().find(with) != std::string::npos)
        found.push_back(f.path().filename().string());
    REQUIRE_FALSE(found.empty());
    return found;
  }
  void reset() const {
    fs::remove_all(work);
    fs::copy(files, work, fs::copy_options::recursive);
  }
};

/// Rows that are there, counted from the first; -1: the open failed and named the file; -2: it failed
/// with another text; -3: something else than a prefix of what was written is there.
int rows_after(const original& o, const std::string& name) {
  auto e = open_rocksdb(small(o.work.string()));
  if (!e) {
    if (e.error().find(name) == std::string::npos)
      MESSAGE(e.error());
    return e.error().find(name) != std::string::npos ? -1 : -2;
  }
  auto rows = (*e)->scan({"k", "l"}, order::forward, 1'000);
  if (!rows)
    return -2;
  int n = 0;
  for (auto& r : *rows)
    if (r.key != "k" + std::to_string(100 + n) || r.value != "value of " + std::to_string(n) || r.version != 1)
      return -3;
    else
      ++n;
  return n;
}

/// Every position in a long run, else some that change with the file.
std::size_t stride(std::size_t size) { return std::getenv("COVEY_LONG_COUNT") ? 1 : std::max<std::size_t>(1, size / 12); }
} // namespace

TEST_CASE("damage: the files themselves are whole") {
  original o;
  o.reset();
  CHECK(rows_after(o, "") == original::rows);
}

TEST_CASE("damage: any byte of a log, a table, the manifest or CURRENT") {
  original o;
  for (auto kind : {".log", ".sst", "MANIFEST-", "CURRENT"})
    for (auto& name : o.names(kind)) {
      auto bytes = read_all(o.files / name);
      for (std::size_t i = 0; i < bytes.size(); i += stride(bytes.size()))
        for (int bit : {0, 7}) {
          CAPTURE(name);
          CAPTURE(i);
          CAPTURE(bit);
          o.reset();
          auto damaged = bytes;
          damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
          write_all(o.work / name, damaged);
          auto n = rows_after(o, kind == std::string{"CURRENT"} ? "MANIFEST" : name);
          CHECK((n == -1 || n == original::rows));
        }
    }
}

TEST_CASE("damage: any length of a table or of the manifest") {
  original o;
  for (auto kind : {".sst", "MANIFEST-", "CURRENT"})
    for (auto& name : o.names(kind)) {
      auto bytes = read_all(o.files / name);
      for (std::size_t size = 0; size < bytes.size(); size += stride(bytes.size())) {
        CAPTURE(name);
        CAPTURE(size);
        o.reset();
        write_all(o.work / name, bytes.substr(0, size));
        auto n = rows_after(o, "");
        CHECK((n == -1 || n == original::rows));
      }
    }
}

TEST_CASE("damage: any length of the log is a writer that died there; whole records before it stay") {
  original o;
  for (auto& name : o.names(".log")) {
    auto bytes = read_all(o.files / name);
    int before = 0;
    for (std::size_t size = 0; size <= bytes.size(); size += stride(bytes.size())) {
      CAPTURE(size);
      o.reset();
      write_all(o.work / name, bytes.substr(0, size));
      auto n = rows_after(o, "");
      CHECK(n >= std::max(before, 20)); // what the tables have, at least
      before = n;
    }
  }
}

TEST_CASE("damage: a file that is gone") {
  original o;
  for (auto kind : {".log", ".sst", "MANIFEST-", "CURRENT"})
    for (auto& name : o.names(kind)) {
      CAPTURE(name);
      o.reset();
      fs::remove(o.work / name);
      CHECK(rows_after(o, kind == std::string{".log"} ? kind : name) == -1);
      CHECK_FALSE(fs::exists(o.work / name)); // and nothing was begun in its place
    }
}

TEST_CASE("damage: a row without a version is corrupt, and hurts no other batch") {
  // found while the engine runs: a table that is damaged after it was checked
  original o;
  o.reset();
  auto name = o.names(".sst").front();
  auto bytes = read_all(o.work / name);
  auto options = small(o.work.string());
  options.check_at_start = 0; // left to the background
  bytes[20] ^= 1; // in its only block of rows
  write_all(o.work / name, bytes);
  auto e = open_or_fail(options);
  auto r = e->get("k103");
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error() == errc::corrupt);
  auto rows = e->scan({"k", "l"}, order::forward, 100);
  REQUIRE_FALSE(rows.has_value());
  CHECK(rows.error() == errc::corrupt);
  CHECK(get(*e, "k130")->value == "value of 30");
  std::vector<batch> group{make({put{"new1", "1"}}), make({put{"k103", "x"}, put{"half", "x"}}), make({}, {{"k104", 1}}), make({put{"new2", "1"}})};
  using enum outcome;
  CHECK(e->commit(group) == std::vector<outcome>{done, corrupt, corrupt, done});
  CHECK(get(*e, "new1"));
  CHECK(get(*e, "new2"));
  CHECK_FALSE(get(*e, "half"));
}

TEST_CASE("log check: every flipped bit is seen, every cut is accepted") {
  temporary_folder folder;
  std::string log;
  {
    auto e = open_or_fail(small(folder / "db"));
    for (int i = 0; i < 12; ++i)
      REQUIRE(commit(*e, make({put{"k" + std::to_string(i), std::string(i == 5 ? 70'000 : 40, static_cast<char>('a' + i))}})) == outcome::done);
    for (auto& f : fs::directory_iterator{folder / "db"})
      if (f.path().extension() == ".log")
        log = read_all(f.path());
  }
  REQUIRE(log.size() > 70'000);
  REQUIRE(check_log(log).has_value());
  REQUIRE(check_log({}).has_value());
  auto flipped = [&](std::size_t i, int bit) {
    auto d = log;
    d[i] = static_cast<char>(d[i] ^ (1 << bit));
    return check_log(d).has_value();
  };
  for (std::size_t i = 0; i < log.size(); i += i < 600 || i + 600 > log.size() ? 1 : 997)
    for (int bit = 0; bit < 8; ++bit) {
      CAPTURE(i);
      CAPTURE(bit);
      CHECK_FALSE(flipped(i, bit));
    }
  for (std::size_t size = 0; size < log.size(); size += size < 600 || size + 600 > log.size() ? 1 : 997) {
    CAPTURE(size);
    CHECK(check_log(std::string_view{log}.substr(0, size)).has_value());
  }
  CHECK(check_log(log + std::string(10'000, '\0')).has_value()); // made long, never written
  CHECK_FALSE(check_log(log + std::string(100, '\0') + "x").has_value());
  auto cut_inside = log;
  cut_inside.erase(300, 20);
  CHECK_FALSE(check_log(cut_inside).has_value());
}
