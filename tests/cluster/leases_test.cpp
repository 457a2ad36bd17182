// Leases against a store that the test answers for: who owns what, by whose clock, and what a late answer may do.
#include "cluster/leases.hpp"
#include "storage/memory/engine.hpp"
#include <algorithm>
#include <doctest/doctest.h>

using namespace cluster;
using namespace std::chrono_literals;

namespace {

/// Nodes that share a store, each with its own clock.
struct shared_store {
  storage::memory_engine engine;
  base::seeded_random luck{1};
  base::time_point now{100s};

  struct node {
    shared_store& s;
    leases l;
    bool reaches = true;
    std::vector<std::string> gained, paused, resumed, ended;
    std::vector<lease_effects::commit> held; // commits that have not arrived yet
    bool holds = false;
    node(shared_store& st, node_id id, life of = 1 << process_shift) : s(st), l(id, of, st.luck) {}

    void carry(lease_effects&& todo) {
      auto append = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
      append(gained, todo.gained);
      append(paused, todo.paused);
      append(resumed, todo.resumed);
      append(ended, todo.ended);
      for (auto& r : todo.reads) {
        lease_effects more;
        auto row = reaches ? s.engine.get(r.key) : base::result<std::optional<storage::row>, storage::errc>{base::fail(storage::errc::unavailable)};
        l.on_read(r.op, row, s.now, more);
        carry(std::move(more));
      }
      for (auto& c : todo.commits) {
        if (holds) {
          held.push_back(std::move(c));
          continue;
        }
        commit(c);
      }
    }
    void commit(const lease_effects::commit& c) {
      lease_effects more;
      auto how = reaches ? s.engine.commit({&c.what, 1}).front() : storage::outcome::unavailable;
      l.on_commit(c.op, how, s.now, more);
      carry(std::move(more));
    }
    void release_held() {
      holds = false;
      for (auto& c : std::exchange(held, {}))
        commit(c);
    }
    void tick() {
      lease_effects out;
      l.tick(s.now, out);
      carry(std::move(out));
    }
    void claim(const std::string& name) { CHECK(l.claim(name, s.now)); }
    void release(const std::string& name) {
      lease_effects out;
      l.release(name, s.now, out);
      carry(std::move(out));
    }
    bool owns(const std::string& name) { return l.owns(name, s.now); }
  };
  void own(node& n) {
    n.claim("room");
    run(2s, {&n});
    REQUIRE(n.owns("room"));
  }
  void run(base::duration d, std::initializer_list<node*> nodes) {
    for (auto end = now + d; now < end;) {
      now += 250ms;
      int owners = 0;
      for (auto* n : nodes) {
        n->tick();
        owners += n->owns("room");
      }
      CHECK(owners <= 1);
    }
  }
};
using lease_node = shared_store::node;

} // namespace

TEST_CASE_FIXTURE(shared_store, "lease: one of two claims, the other waits") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  b.claim("room");
  run(30s, {&a, &b});
  CHECK(a.owns("room"));
  CHECK_FALSE(b.owns("room"));
  CHECK(a.gained.size() == 1);
  CHECK(b.l.holder("room") == 1);
  CHECK(a.l.epoch("room") == 1);
  CHECK(b.l.epoch("room") == 0);
}

TEST_CASE_FIXTURE(shared_store, "lease: it is owned for under 4 s after the last renewal, and taken after 6 s") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  run(2s, {&a});
  b.claim("room");
  run(3s, {&a, &b});
  REQUIRE(a.owns("room"));
  auto fence = *a.l.fence("room", now);
  auto stopped = now; // a hears nothing more; its clock runs
  base::time_point lost{}, taken{};
  while (taken == base::time_point{}) {
    now += 50ms;
    b.tick();
    if (lost == base::time_point{} && !a.owns("room"))
      lost = now;
    if (b.owns("room"))
      taken = now;
    CHECK_FALSE((a.owns("room") && b.owns("room")));
    REQUIRE(now - stopped < 20s);
  }
  CHECK(lost - stopped <= 4s);
  CHECK(taken - stopped >= 6s);
  CHECK(taken - stopped <= 9s);
  CHECK(b.l.epoch("room") == 2);
  CHECK_FALSE(a.l.fence("room", now));
  storage::batch late{{1, 1}, {storage::put{"x", "a's"}}, {fence}, storage::durability::durable}; // sent before, done now
  CHECK(engine.commit({&late, 1}).front() == storage::outcome::conflict);
  a.tick();
  CHECK(a.paused.size() == 1);
  run(3s, {&a, &b});
  CHECK(a.ended.size() == 1);
  CHECK(a.resumed.empty());
}

TEST_CASE_FIXTURE(shared_store, "lease: a short time without the store pauses, and goes on with the same epoch") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  run(2s, {&a});
  a.reaches = b.reaches = false;
  b.claim("room");
  run(30s, {&a, &b}); // nobody can take what nobody can write
  CHECK(a.paused.size() == 1);
  CHECK_FALSE(a.owns("room"));
  a.reaches = true;
  run(2s, {&a});
  CHECK(a.owns("room"));
  CHECK(a.resumed.size() == 1);
  CHECK(a.l.epoch("room") == 1);
  b.reaches = true;
  run(20s, {&a, &b});
  CHECK(b.gained.empty());
}

TEST_CASE_FIXTURE(shared_store, "lease: a take-over and a renewal at the same moment: one of the two fails") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  run(2s, {&a});
  b.claim("room");
  run(2s, {&b}); // b watches
  a.reaches = false;
  b.holds = false;
  while (b.held.empty()) { // until b wants to take it; its commit is on its way
    now += 250ms;
    a.tick();
    if (b.l.holder("room") == 1)
      b.holds = now > base::time_point{100s} + 9s;
    b.tick();
    for (auto i = b.held.begin(); i != b.held.end();) // its own renewals go through
      if (i->what.preconditions.front().key == lease_key(2)) {
        auto c = *i;
        i = b.held.erase(i);
        b.commit(c);
      } else {
        ++i;
      }
    REQUIRE(now < base::time_point{} + 130s);
  }
  a.reaches = true;
  run(1500ms, {&a}); // a renews first
  b.release_held();
  CHECK_FALSE(b.owns("room"));
  run(3s, {&a, &b});
  CHECK(a.owns("room"));
  CHECK(a.resumed.size() == 1);
  CHECK(b.gained.empty());
}

TEST_CASE_FIXTURE(shared_store, "lease: the renewal counts from when it was asked for") {
  lease_node a{*this, 1};
  a.claim("room");
  run(2s, {&a});
  a.holds = true;
  now += 1s;
  a.tick(); // asked now
  now += 3'500ms;
  a.release_held(); // done then
  CHECK(a.l.is_valid(now));
  now += 600ms; // 4.1 s after it was asked for
  CHECK_FALSE(a.l.is_valid(now));
}

TEST_CASE_FIXTURE(shared_store, "lease: of a process that is known to be gone it is taken at once") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  run(2s, {&a});
  b.claim("room");
  run(1s, {&a, &b});
  b.l.process_gone(1, (1 << process_shift) - 1); // an earlier one
  run(1s, {&b});
  CHECK(b.gained.empty());
  b.l.process_gone(1, 1 << process_shift);
  run(1500ms, {&b});
  CHECK(b.owns("room"));
}

TEST_CASE_FIXTURE(shared_store, "lease: a node that comes back takes its own at once, under the next epoch") {
  lease_node a{*this, 1};
  a.claim("room");
  run(2s, {&a});
  lease_node again{*this, 1, 2 << process_shift};
  again.claim("room");
  run(1s, {&again});
  CHECK(again.owns("room"));
  CHECK(again.l.epoch("room") == 2);
  a.tick(); // a copy that still runs
  run(8s, {&again, &a});
  CHECK_FALSE(a.owns("room"));
}

TEST_CASE_FIXTURE(shared_store, "lease: a new life in the same process ends what was owned, and may claim it anew") {
  lease_node a{*this, 1};
  a.claim("room");
  run(2s, {&a});
  lease_effects out;
  a.l.reborn((1 << process_shift) + 1, now, out);
  CHECK(out.ended == std::vector<std::string>{"room"});
  CHECK_FALSE(a.owns("room"));
  run(2s, {&a});
  CHECK(a.owns("room"));
  CHECK(a.l.epoch("room") == 2);
}

TEST_CASE_FIXTURE(shared_store, "lease: what is given back is free at once, and no epoch comes twice") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  run(2s, {&a});
  auto fence = *a.l.fence("room", now);
  lease_effects out;
  a.l.release("room", now, out);
  CHECK(out.ended.size() == 1);
  a.carry(std::move(out));
  b.claim("room");
  run(2s, {&a, &b});
  CHECK(b.owns("room"));
  CHECK(b.l.epoch("room") == 3);
  storage::batch late{{1, 1}, {storage::put{"x", "a's"}}, {fence}, storage::durability::durable};
  CHECK(engine.commit({&late, 1}).front() == storage::outcome::conflict);
}

TEST_CASE_FIXTURE(shared_store, "lease: answers that are lost or unknown are settled by what the rows say") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  for (int n = 0; n < 40; ++n) {
    engine.lose_next(1, n % 2 == 0);
    run(250ms, {&a});
  }
  run(3s, {&a});
  CHECK(a.owns("room"));
  CHECK(a.l.epoch("room") == 1);
  a.holds = true; // answers never come
  b.claim("room");
  run(6s, {&a, &b});
  a.held.clear();
  a.holds = false;
  run(15s, {&a, &b});
  CHECK((a.owns("room") != b.owns("room")));
}

TEST_CASE_FIXTURE(shared_store, "lease: a life is over when its row stands still, or another process has it") {
  lease_node a{*this, 1}, b{*this, 2};
  run(2s, {&a, &b});
  CHECK_FALSE(b.l.is_over(1, 1 << process_shift, now));
  run(5s, {&a, &b});
  CHECK_FALSE(b.l.is_over(1, 1 << process_shift, now));
  run(6s, {&b});
  CHECK_FALSE(b.l.is_over(1, 1 << process_shift, now));
  run(3s, {&b});
  CHECK(b.l.is_over(1, 1 << process_shift, now));
  lease_node again{*this, 1, 2 << process_shift};
  run(2s, {&again, &b});
  CHECK(b.l.is_over(1, 1 << process_shift, now));
  CHECK_FALSE(b.l.is_over(1, 2 << process_shift, now));
  CHECK(again.l.is_over(1, 1 << process_shift, now));
}

TEST_CASE_FIXTURE(shared_store, "lease: given back while it is being taken, another node has it") {
  lease_node a{*this, 1}, b{*this, 2};
  a.claim("room");
  for (int n = 0; n < 3; ++n) { // its own lease first
    a.holds = n == 2;
    now += 250ms;
    a.tick();
  }
  REQUIRE(a.held.size() == 1);
  a.release("room");
  CHECK(a.ended.empty());
  a.release_held();
  run(1s, {&a});
  CHECK(a.gained.empty());
  b.claim("room");
  run(5s, {&a, &b}); // a lives: nobody could wait for its lease to run out
  CHECK(b.owns("room"));
  CHECK(b.l.epoch("room") == 3);
}

TEST_CASE_FIXTURE(shared_store, "lease: given back while the store is away, wanted again for a moment, and given back later") {
  lease_node a{*this, 1}, b{*this, 2};
  own(a);
  a.holds = true;
  a.release("room");
  REQUIRE(a.held.size() == 1);
  a.claim("room");
  a.reaches = false;
  a.release_held(); // nobody knows
  a.release("room");
  a.reaches = true;
  b.claim("room");
  run(4s, {&a, &b}); // a lives: nobody could wait for its lease to run out
  CHECK(b.owns("room"));
}

TEST_CASE_FIXTURE(shared_store, "lease: what was to be given back and is wanted again has another epoch, which a late answer does not touch") {
  lease_node a{*this, 1};
  own(a);
  a.holds = true;
  a.release("room");
  a.claim("room");
  auto late = std::exchange(a.held, {});
  REQUIRE(late.size() == 1);
  a.holds = false;
  run(1s, {&a});
  CHECK_FALSE(a.owns("room")); // it may be over in a moment
  run(20s, {&a});              // it has been waited for
  REQUIRE(a.owns("room"));
  CHECK(a.l.epoch("room") == 2);
  a.commit(late.front());
  auto fence = a.l.fence("room", now);
  REQUIRE(fence);
  storage::batch b{{1, 1}, {storage::put{"x", "a's"}}, {*fence}, storage::durability::durable};
  CHECK(engine.commit({&b, 1}).front() == storage::outcome::done);
}

TEST_CASE_FIXTURE(shared_store, "lease: given back while the store is away, it is given back later") {
  lease_node a{*this, 1}, b{*this, 2};
  own(a);
  a.reaches = false;
  a.release("room");
  CHECK(a.ended.size() == 1);
  b.claim("room");
  run(2s, {&a, &b});
  CHECK_FALSE(b.owns("room"));
  a.reaches = true;
  run(4s, {&a, &b});
  CHECK(b.owns("room"));
  CHECK(a.gained.size() == 1);
}

TEST_CASE_FIXTURE(shared_store, "lease: wanted again when the own lease has run out, then not: it is given back all the same") {
  lease_node a{*this, 1}, b{*this, 2};
  own(a);
  a.reaches = false;
  a.release("room"); // nobody knows
  now += 500ms;
  lease_effects out;
  a.l.tick(now, out);
  auto read = std::ranges::find(out.reads, ownership_key("room"), &lease_effects::read::key);
  REQUIRE(read != out.reads.end());
  a.claim("room");
  now += 4s;
  lease_effects more;
  a.l.on_read(read->op, engine.get(read->key), now, more); // ours by the row; too late to be taken
  CHECK(more.commits.empty());
  a.release("room");
  a.reaches = true;
  b.claim("room");
  run(10s, {&a, &b});
  CHECK(b.owns("room"));
}
