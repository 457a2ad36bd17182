// PostgreSQL that breaks, goes away, hangs, fails over: what was acknowledged is there, and what became of each batch is known.
#include "storage/store.hpp"
#include "tests/storage/engines.hpp"
#include <atomic>
#include <future>
#include <random>
#include <thread>

using namespace storage;
using namespace storage::testing;
using covey_tests::postgres;
using covey_tests::postgres_folder;
using namespace std::chrono_literals;

namespace {

/// Commits groups and remembers what it was told. Everything it was told must be so in the end.
class load {
public:
  explicit load(engine& e) : engine_(e) {}

  /// One group: counters under their versions, rows that must be new, puts without conditions, and now and then a batch whose
  /// precondition is false.
  void step() {
    std::vector<batch> group;
    std::vector<std::function<void()>> when_done;
    std::vector<bool> must_hold;
    std::map<std::string, version> now = rows_;
    auto add = [&](batch b, bool holds, std::string key) {
      b.id = {1, ++ids_};
      group.push_back(std::move(b));
      must_hold.push_back(holds);
      when_done.emplace_back([this, key = std::move(key)] { ++rows_[key]; });
    };
    for (int i = 0; i < 8; ++i) {
      auto counter = "c" + std::to_string(random_() % 20);
      switch (random_() % 8) {
        case 0: add(make({put{counter, "false"}}, {{counter, now[counter] + 1}}), false, counter); break;
        case 1: {
          auto key = "p" + std::to_string(random_() % 20);
          ++now[key];
          add(make({put{key, "free"}}), true, key);
          break;
        }
        case 2: {
          auto key = "n" + std::to_string(++new_);
          ++now[key];
          add(make({put{key, "new"}}, {{key, 0}}), true, key);
          break;
        }
        default:
          add(make({put{counter, "counted"}}, {{counter, now[counter]}}), true, counter);
          ++now[counter];
      }
    }
    auto out = engine_.commit(group);
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (out[i] == outcome::done)
        when_done[i]();
      auto right = must_hold[i] ? outcome::done : outcome::conflict;
      if (out[i] != right)
        ++wrong;
    }
    ++steps;
  }

  /// The database has exactly what was told.
  void check(engine& e) {
    auto found = e.scan({"a", "z"}, order::forward, 1'000'000);
    REQUIRE(found.has_value());
    std::map<std::string, version> there;
    for (auto& r : *found)
      there[r.key] = r.version;
    std::erase_if(rows_, [](auto& r) { return r.second == 0; });
    CHECK(there == rows_);
  }

  std::atomic<int> steps{0}, wrong{0};

private:
  engine& engine_;
  std::mt19937_64 random_{11};
  std::map<std::string, version> rows_;
  std::uint64_t ids_ = 0, new_ = 0;
};

/// Steps in a thread of its own until it is told to end.
class running_load {
public:
  explicit running_load(load& l)
    : thread_([this, &l] {
        while (!ends_)
          l.step();
      }) {}
  ~running_load() {
    ends_ = true;
    thread_.join();
  }

private:
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

void await(auto condition, std::chrono::seconds longest = 20s) {
  auto until = base::steady::now() + longest;
  while (!condition()) {
    REQUIRE(base::steady::now() < until);
    std::this_thread::sleep_for(2ms);
  }
}

/// A server that tests of this file may break; each begins with a fresh schema of it.
postgres& fragile() {
  static postgres_folder folder;
  static postgres server{folder, "fragile", "fsync = off\nwal_level = replica"};
  static bool once = (server.start(), true);
  (void)once;
  return server;
}
std::string fragile_schema(const std::string& name) {
  auto& server = fragile();
  ask(*connect_or_fail(server.connection()), {{"create schema " + name, {}}});
  return server.connection() + " options='-c search_path=" + name + "'";
}
} // namespace

TEST_CASE("faults: connections that the server ends at any moment") {
  auto db = open_or_fail(sql_options{.connection = fragile_schema("ended")});
  load l{*db};
  {
    running_load runs{l};
    auto killer = connect_or_fail(fragile().connection() + " application_name=killer");
    std::mt19937_64 random{3};
    for (int i = 0; i < 25; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds{random() % 40'000});
      ask(*killer, {{"select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'covey'", {}}});
      CHECK(db->scan({"c", "d"}, order::forward, 5).has_value()); // readers go on, too
    }
  }
  CHECK(l.wrong == 0);
  CHECK(l.steps > 10);
  l.check(*db);
}

TEST_CASE("faults: the server is killed and is back some seconds later") {
  auto& server = fragile();
  auto db = open_or_fail(sql_options{.connection = fragile_schema("killed")});
  load l{*db};
  {
    running_load runs{l};
    await([&] { return l.steps > 20; });
    server.kill();
    std::this_thread::sleep_for(1'500ms);
    int before = l.steps;
    server.start();
    await([&] { return l.steps > before + 20; });
  }
  CHECK(l.wrong == 0);
  l.check(*db);
}

TEST_CASE("faults: away for longer than anybody waits: unavailable at once, and again there by itself") {
  auto& server = fragile();
  auto db = open_or_fail(sql_options{.connection = fragile_schema("away"), .patience = 700ms});
  REQUIRE(commit(*db, make({put{"k", "1"}})) == outcome::done);
  server.kill();
  auto began = base::steady::now();
  auto first = commit(*db, make({put{"k", "2"}}));
  CHECK((first == outcome::unavailable || first == outcome::unknown)); // it may have been sent before the loss was seen
  CHECK(base::steady::now() - began >= 400ms);
  CHECK(base::steady::now() - began < 5s);
  began = base::steady::now();
  for (int i = 0; i < 20; ++i) {
    CHECK(commit(*db, make({put{"k", "3"}})) == outcome::unavailable);
    CHECK(db->get("k").error() == errc::unavailable);
  }
  CHECK(base::steady::now() - began < 2s);
  server.start();
  await([&] { return commit(*db, make({put{"new", "4"}})) == outcome::done; }, 5s);
  CHECK(get(*db, "k")->value == "1");
  CHECK(get(*db, "new")->version == 1);
}

TEST_CASE("faults: a full queue before a database that is away is told so, and nothing waits for ever") {
  auto& server = fragile();
  {
    threaded_store store{open_or_fail(sql_options{.connection = fragile_schema("queue"), .patience = 1s}), {.most_batches = 4, .readers = 1}};
    server.kill();
    std::atomic<int> told{0}, overloaded{0};
    for (int i = 0; i < 40; ++i)
      store.submit(make({put{"k", "v"}}), [&](outcome o) {
        overloaded += o == outcome::overloaded;
        ++told;
      });
    CHECK(overloaded >= 30);
    await([&] { return told == 40; }, 10s);
  }
  server.start();
}

TEST_CASE("faults: a server that stands still ends the deadline; what became of the batch is known when it goes on") {
  auto& server = fragile();
  auto db = open_or_fail(sql_options{.connection = fragile_schema("still"), .patience = 500ms, .deadline = 300ms});
  REQUIRE(commit(*db, make({put{"k", "1"}})) == outcome::done);
  server.freeze(true);
  auto b = make({put{"k", "2"}}, {{"k", 1}});
  b.id = {4, 2};
  auto began = base::steady::now();
  CHECK(commit(*db, b) == outcome::unknown);
  CHECK(base::steady::now() - began < 5s);
  CHECK(db->resolve(b.id).error() == errc::unavailable);
  server.freeze(false);
  std::optional<bool> known;
  await([&] {
    if (auto r = db->resolve(b.id))
      known = *r;
    return known.has_value();
  });
  CHECK(get(*db, "k")->version == (*known ? 2 : 1));
  std::this_thread::sleep_for(100ms); // and no late commit comes
  CHECK(get(*db, "k")->version == (*known ? 2 : 1));
  CHECK(*db->resolve(b.id) == *known);
  CHECK(commit(*db, make({put{"k", "3"}})) == outcome::done);
}

TEST_CASE("faults: without its standby nothing is acknowledged, also when somebody cancels the wait") {
  auto& server = fragile();
  auto to = fragile_schema("standby");
  auto db = open_or_fail(sql_options{.connection = to + " application_name=waits"});
  REQUIRE(commit(*db, make({put{"k", "1"}})) == outcome::done);
  auto other = connect_or_fail(server.connection());
  auto waiting = [&] {
    return ask(*other, {{"select pid from pg_stat_activity where application_name = 'waits' and wait_event = 'SyncRep'", {}}})[0].rows.size() > 0;
  };
  server.stop(); // a reload would take effect at some moment, and this commit could be earlier
  server.set("synchronous_standby_names = 'nobody'");
  server.start();
  other = connect_or_fail(server.connection());
  auto told = std::async(std::launch::async, [&] { return commit(*db, make({put{"k", "2"}}, {{"k", 1}})); });
  await(waiting);
  // "canceling wait for synchronous replication": the server says COMMIT, with a warning
  ask(*other, {{"select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'waits' and wait_event = 'SyncRep'", {}}});
  std::this_thread::sleep_for(300ms);
  await(waiting); // what looks it up waits for the standby, too
  CHECK(told.wait_for(0s) == std::future_status::timeout);
  server.set("synchronous_standby_names = ''");
  CHECK(told.get() == outcome::done);
  CHECK(get(*db, "k")->version == 2);
}

TEST_CASE("faults: the primary is killed under load, its synchronous standby takes over") {
  postgres_folder folder;
  postgres primary{folder, "first", "synchronous_standby_names = 'second'"};
  primary.start();
  postgres standby{folder, "second", primary, "synchronous_standby_names = ''"};
  standby.start();
  auto to = "host=" + primary.socket_folder() + ',' + standby.socket_folder() + " user=covey dbname=postgres";
  auto db = open_or_fail(sql_options{.connection = to});
  load l{*db};
  {
    running_load runs{l};
    await([&] { return l.steps > 60; });
    primary.kill();
    std::this_thread::sleep_for(300ms);
    int before = l.steps;
    standby.promote();
    await([&] { return l.steps > before + 40; });
  }
  CHECK(l.wrong == 0);
  l.check(*db);
  // and it is the standby that has it
  auto direct = open_or_fail(sql_options{.connection = standby.connection()});
  l.check(*direct);
}
