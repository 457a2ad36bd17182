// kill -9 of a process that writes: what it acknowledged is there, nothing is half there, and the next
// start needs no repair. 5 rounds; COVEY_LONG_COUNT sets another number.
#include "base/bytes.hpp"
#include "storage/store.hpp"
#include "tests/storage/engines.hpp"
#include <csignal>
#include <fcntl.h>
#include <random>
#include <set>
#include <spawn.h>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace storage;
using namespace storage::testing;

namespace {
std::string name(const char* kind, int n) {
  std::string k{kind};
  base::put_be64(k, static_cast<std::uint64_t>(n));
  return k;
}

/// Two rows that belong together, one of a second table, and a counter with the version as fence; every
/// seventh batch erases an earlier pair and says so in a row.
batch work(int n) {
  auto value = std::string(static_cast<std::size_t>(20 + n % 400), static_cast<char>('a' + n % 26));
  batch b = make({put{name("left", n), value}, put{name("right", n), value}, put{"counter", std::to_string(n)}});
  if (n % 7 == 6) {
    b.changes.emplace_back(erase{name("left", n - 3)});
    b.changes.emplace_back(erase{name("right", n - 3)});
    b.changes.emplace_back(put{name("gone", n - 3), ""});
  }
  return b;
}

/// The child: writes from `first` on until it is killed; each acknowledged number goes through the pipe.
[[noreturn]] void write_until_killed(const std::string& folder, int first, int pipe) {
  auto opened = open_rocksdb(small(folder)); // small buffers: it flushes and compacts meanwhile
  if (!opened)
    ::_exit(2);
  threaded_store s{std::move(*opened)};
  std::mutex mutex;
  std::condition_variable less;
  int open = 0;
  for (int n = first;; ++n) {
    {
      std::unique_lock guard{mutex};
      less.wait(guard, [&] { return open < 64; });
      ++open;
    }
    s.submit(work(n), [&, n](outcome o) {
      if (o != outcome::done || ::write(pipe, &n, sizeof n) != static_cast<ssize_t>(sizeof n))
        ::_exit(3);
      std::lock_guard guard{mutex};
      --open;
      less.notify_one();
    });
  }
}
constexpr auto child_variable = "COVEY_CRASH_CHILD"; // folder, first number, pipe; with spaces between
} // namespace

TEST_CASE("crash child: started by the next test only" * doctest::skip()) {
  auto what = std::getenv(child_variable);
  REQUIRE(what);
  std::istringstream in{what};
  std::string folder;
  int first = 0, pipe = -1;
  in >> folder >> first >> pipe;
  REQUIRE_FALSE(in.fail());
  write_until_killed(folder, first, pipe);
}

TEST_CASE("crash: killed at any moment, everything acknowledged is there and nothing is half there") {
  auto wanted = std::getenv("COVEY_LONG_COUNT");
  auto rounds = wanted ? std::atoi(wanted) : 5;
  temporary_folder folder;
  auto path = folder / "db";
  std::mt19937 random{20'240'611};
  std::set<int> acknowledged;
  int next = 0;
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    REQUIRE(::fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0);
    // a program of its own: a fork would have the locks of RocksDB's threads, but not the threads
    ::setenv(child_variable, (path + " " + std::to_string(next) + " " + std::to_string(ends[1])).c_str(), 1);
    const char* arguments[]{"test_storage", "--test-case=crash child*", "--no-skip", nullptr};
    pid_t child = -1;
    REQUIRE(::posix_spawn(&child, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(arguments), environ) == 0);
    ::unsetenv(child_variable);
    ::close(ends[1]);
    // it is killed when so many were acknowledged (now and then: none), not at a time: slow machines
    // do the same as fast ones
    int until = random() % 8 == 0 ? 0 : static_cast<int>(random() % 3'000);
    int n = 0, seen = 0;
    bool is_killed = until == 0;
    if (is_killed) {
      ::usleep(static_cast<useconds_t>(random() % 30'000)); // while it opens the database
      ::kill(child, SIGKILL);
    }
    while (::read(ends[0], &n, sizeof n) == static_cast<ssize_t>(sizeof n)) {
      acknowledged.insert(n);
      if (++seen == until) {
        ::kill(child, SIGKILL);
        is_killed = true;
      }
    }
    ::close(ends[0]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(is_killed);
    REQUIRE(WIFSIGNALED(status));
    REQUIRE(WTERMSIG(status) == SIGKILL);

    auto e = open_or_fail(small(path));
    auto all = e->scan({"counter", "z"}, order::forward, 10'000'000);
    REQUIRE(all.has_value());
    std::map<std::string, std::string> rows;
    std::uint64_t counter_version = 0;
    for (auto& r : *all) {
      rows.emplace(r.key, r.value);
      if (r.key == "counter")
        counter_version = r.version;
    }
    // the batches that took place are a prefix: one more or less would show
    int last = rows.contains("counter") ? std::atoi(rows["counter"].c_str()) : -1;
    CHECK(counter_version == static_cast<std::uint64_t>(last + 1));
    CHECK((acknowledged.empty() ? -1 : *acknowledged.rbegin()) <= last);
    std::size_t expected = last >= 0 ? 1 : 0;
    for (int i = 0; i <= last; ++i) {
      auto eraser = i + 3;
      if (eraser % 7 == 6 && eraser <= last) {
        ++expected;
        REQUIRE(rows.contains(name("gone", i)));
        continue;
      }
      expected += 2;
      auto b = work(i);
      REQUIRE(rows.contains(name("left", i)));
      REQUIRE(rows[name("left", i)] == std::get<put>(b.changes[0]).value);
      REQUIRE(rows[name("right", i)] == rows[name("left", i)]);
    }
    CHECK(rows.size() == expected);
    next = last + 1;
  }
  CHECK(next > 0);
}
