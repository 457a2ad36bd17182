// Two replicas and the frames between them, one by one.
#include "cluster/replica.hpp"
#include "tests/cluster/made.hpp"
#include <map>

using namespace cluster;
using namespace cluster_tests;
using namespace std::chrono_literals;

namespace {
/// Each fills a frame for the other, who has it as number 1; `b` first.
void talk(replica& a, replica& b, base::time_point now, news& at_a, news& at_b) {
  frame from_b, from_a;
  b.fill(1, from_b, now);
  CHECK(a.receive(1, from_b, at_a) != replica::verdict::hostile);
  a.fill(1, from_a, now);
  CHECK(b.receive(1, from_a, at_b) != replica::verdict::hostile);
}

struct two_replicas {
  table at_a, at_b;
  replica a{at_a, 1}, b{at_b, 2};
  news heard;
  base::time_point now{1'000s};
  two_replicas() {
    a.begin(1);
    b.begin(1);
  }
  void publish(std::uint64_t n) { a.publish(session_row("user" + std::to_string(n) + "@h/x", n, n), heard); }
  void connect(life of_a = 1) {
    a.connected(1, 2, 1, heard);
    b.connected(1, 1, of_a, heard);
  }
  /// One frame each way.
  void step() {
    now += 100ms;
    talk(a, b, now, heard, heard);
  }
};
} // namespace

TEST_CASE_FIXTURE(two_replicas, "replica: changes while a large table is sent do not stop it") {
  constexpr std::uint64_t rows = 3'000; // three frames
  for (std::uint64_t n = 1; n <= rows; ++n)
    publish(n);
  connect();
  for (std::uint64_t n = 1; n <= 20; ++n) {
    step();
    publish(rows + n);
  }
  for (int n = 0; n < 60; ++n)
    step();
  CHECK(b.is_synced(1));
  CHECK(at_b.size(1) == rows + 20);
  CHECK(at_b.digest(1) == at_a.digest(self));
  CHECK(b.count().divergences == 0);
}

TEST_CASE("replica: who comes back while its last life's rows go waits for that, and no step is longer for it") {
  table at_a, at_b;
  replica a{at_a, 1}, b{at_b, 2, {.purge_slice = 10}};
  news heard, nobody;
  base::time_point now{1'000s};
  b.begin(1);
  auto publish = [&](life of) {
    a.begin(of);
    for (std::uint64_t n = 1; n <= 100; ++n)
      a.publish(session_row("user" + std::to_string(n) + "@h/x", n, n), nobody);
  };
  auto step = [&] {
    now += 100ms;
    talk(a, b, now, nobody, heard);
  };
  auto connect = [&](life of) {
    publish(of);
    a.connected(1, 2, 1, nobody);
    b.connected(1, 1, of, heard);
  };
  for (peer_number other : {2, 3}) { // and others that are dead
    b.connected(other, other + 10u, 1, heard);
    at_b.put(other, session_row("other@h/x", 900u + other, 1));
    b.dead(other);
  }
  connect(1);
  step();
  step();
  REQUIRE(at_b.size(1) == 100);
  b.dead(1);
  a.disconnected(1);
  heard = {};
  connect(2);
  CHECK(heard.lost.size() == 10); // one slice, of its own
  step();
  step();
  CHECK_FALSE(at_b.find(*jid("user1@h/x")));
  CHECK_FALSE(b.is_synced(1));
  b.dead(1); // again: each row is lost once
  a.disconnected(1);
  connect(3);
  int steps = 0;
  while (b.has_work()) {
    auto before = heard.lost.size();
    b.purge(heard);
    CHECK(heard.lost.size() - before <= 10);
    REQUIRE(++steps < 20);
    if (b.has_work() && heard.lost.size() < 100)
      CHECK_FALSE(b.is_synced(1));
  }
  CHECK(heard.lost.size() == 102);
  step();
  step();
  CHECK(b.is_synced(1));
  CHECK(at_b.size(1) == 100);
  CHECK(at_b.find(*jid("user1@h/x")));
  CHECK(at_b.digest(1) == at_a.digest(self));
}

namespace {
/// What a disk has after all that there is to write, a batch at a time.
struct small_disk {
  std::map<std::string, std::string> rows;
  std::size_t batches = 0, writes = 0;
  void take(replica& r) {
    for (auto w = r.take_writes(); !w.empty(); w = r.take_writes()) {
      ++batches;
      writes += w.size();
      for (auto& c : w)
        if (auto* p = std::get_if<storage::put>(&c))
          rows[p->key] = p->value;
        else if (auto* e = std::get_if<storage::erase>(&c))
          rows.erase(e->key);
        else if (auto* range = std::get_if<storage::erase_range>(&c))
          rows.erase(rows.lower_bound(range->from), rows.lower_bound(range->until));
      r.written(true);
    }
  }
  /// The rows of `owner`, read by another process, are those of `t`.
  [[nodiscard]] bool has_all_of(const table& t, peer_number owner, node_id me) const {
    table fresh;
    replica reader{fresh, me};
    for (auto& [key, value] : rows)
      if (!reader.load({key, value, 1}, [](node_id n) { return static_cast<peer_number>(n); }))
        return false;
    return fresh.size(owner) == t.size(owner) && fresh.digest(owner) == t.digest(owner);
  }
};
} // namespace

TEST_CASE("replica: what the disk has no room for is written when it has caught up") {
  table at_a, at_b;
  replica a{at_a, 1}, b{at_b, 2, {.most_unwritten = 64}};
  news heard;
  base::time_point now{1'000s};
  a.begin(1);
  b.begin(1);
  auto step = [&] {
    now += 100ms;
    talk(a, b, now, heard, heard);
  };
  auto make = [](std::uint64_t n) { return session_row("user" + std::to_string(n) + "@h/x", n, n); };
  for (std::uint64_t n = 1; n <= 3'000; ++n)
    a.publish(make(n), heard);
  a.connected(1, 2, 1, heard);
  b.connected(1, 1, 1, heard);
  auto under_way = b.take_writes();
  CHECK(under_way.empty());
  for (int n = 0; n < 8; ++n)
    step();
  REQUIRE(at_b.size(1) == 3'000);
  CHECK(b.count().late_writes == 3'000 - 64);
  small_disk disk;
  disk.take(b);
  CHECK(disk.rows.size() == 3'000);
  CHECK(disk.has_all_of(at_b, 1, 2));
  CHECK(b.count().dropped_writes == 0);
  // A row that changes again and again is written once, as it is last; and one that is gone goes.
  auto before = disk.writes;
  for (std::uint64_t n = 0; n < 50; ++n) {
    auto r = make(7);
    r.what.priority = static_cast<std::int8_t>(n + 1);
    a.publish(r, heard);
    a.publish(make(10'000), heard);
    a.withdraw(make(10'000));
    step();
  }
  a.withdraw(make(8));
  step();
  step();
  disk.take(b);
  CHECK(disk.writes == before + 3);
  CHECK(disk.has_all_of(at_b, 1, 2));
  // All of an owner that dies goes, and what comes of it later stays.
  a.publish(make(9'000), heard); // waits while it dies
  step();
  a.disconnected(1);
  b.dead(1);
  while (b.has_work())
    b.purge(heard);
  a.begin(2);
  for (std::uint64_t n = 9'000; n < 9'010; ++n)
    a.publish(make(n), heard);
  a.connected(1, 2, 2, heard);
  b.connected(1, 1, 2, heard);
  for (int n = 0; n < 8; ++n)
    step();
  disk.take(b);
  CHECK(at_b.digest(1) == at_a.digest(self));
  CHECK(disk.has_all_of(at_b, 1, 2));
}

TEST_CASE_FIXTURE(two_replicas, "replica: the more waits for the disk, the more goes at once") {
  for (std::uint64_t n = 1; n <= 20'000; ++n)
    publish(n);
  connect();
  for (int n = 0; n < 60; ++n)
    step();
  REQUIRE(at_b.size(1) == 20'000);
  auto first = b.take_writes();
  CHECK(first.size() == 5'000);
  b.written(true);
  small_disk disk;
  disk.take(b);
  CHECK(disk.writes == 15'000);
  CHECK(disk.batches < 15);
}

TEST_CASE_FIXTURE(two_replicas, "replica: a request that was never answered is made anew, with digests") {
  publish(1);
  connect();
  frame lost;
  b.fill(1, lost, now);
  REQUIRE(lost.sync_request);
  a.disconnected(1);
  b.disconnected(1);
  connect();
  frame again;
  b.fill(1, again, now);
  REQUIRE(again.sync_request);
  CHECK_FALSE(again.sync_request->digests.empty());
}

TEST_CASE_FIXTURE(two_replicas, "replica: what the disk has of a node is told, once, when that node is seen, though it is compared and found the same") {
  small_disk disk;
  publish(1);
  publish(2);
  connect();
  step();
  step();
  REQUIRE(at_b.size(1) == 2);
  disk.take(b);
  table fresh;
  replica started{fresh, 2};
  started.begin(1u << 20);
  for (auto& [key, value] : disk.rows)
    REQUIRE(started.load({key, value, 1}, [](node_id n) { return static_cast<peer_number>(n); }));
  CHECK_FALSE(started.has_work());
  news told;
  started.connected(1, 1, 1, told);
  while (started.has_work())
    started.show(told);
  CHECK(told.appeared.size() == 2);
  CHECK(told.returned.size() == 2);
  a.disconnected(1);
  a.connected(1, 2, 1u << 20, heard);
  for (int k = 0; k < 3; ++k) {
    now += 100ms;
    talk(a, started, now, heard, told);
  }
  CHECK(started.is_synced(1));
  CHECK(told.appeared.size() == 2);
  started.disconnected(1);
  started.connected(1, 1, 1, told);
  CHECK_FALSE(started.has_work());
}
