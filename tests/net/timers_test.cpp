// The timer wheel, the turns of the loop (in virtual time), the queue between threads.
#include "net/handoff.hpp"
#include "net/loop.hpp"
#include <doctest/doctest.h>
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <thread>

using namespace std::chrono_literals;
using net::loop;
using net::timer;

namespace {
struct manual : loop {
  manual() : loop(time::manual) {}
  void advance(clock::duration d) {
    auto end = now() + d;
    for (bool more = true; more;) {
      more = skip_to_next_timer(end);
      step(1000);
    }
  }
  std::int64_t ms() const { return now().time_since_epoch() / 1ms; }
};
} // namespace

TEST_CASE_FIXTURE(manual, "a timer fires once, never early, at most a tick late") {
  std::vector<std::int64_t> at;
  auto note = [&] { at.push_back(ms()); };
  auto a = after(0ms, note), b = after(1ms, note), c = after(10ms, note), d = after(600s, note);
  advance(9ms);
  CHECK(at.empty());
  advance(1h);
  CHECK(at == std::vector<std::int64_t>{10, 10, 10, 600'000});
  CHECK_FALSE(d.is_armed());
}

TEST_CASE_FIXTURE(manual, "destroying, cancelling, moving and re-arming") {
  int fired = 0;
  auto f = [&] { ++fired; };
  { auto gone = after(1s, f); }
  auto cancelled = after(1s, f);
  cancelled.cancel();
  std::vector<timer> moved;
  for (int i = 0; i < 100; ++i) // grows, so timers move while armed
    moved.push_back(after(1s, f));
  auto again = after(1s, f);
  arm(again, 3s, f);
  advance(2s);
  CHECK(fired == 100);
  advance(2s);
  CHECK(fired == 101);
}

TEST_CASE_FIXTURE(manual, "callbacks may arm, cancel and destroy timers, their own included") {
  int ticks = 0;
  timer again;
  std::function<void()> tick = [&] { if (++ticks < 5) arm(again, 1s, tick); };
  arm(again, 1s, tick);
  auto own = std::make_unique<timer>();
  arm(*own, 1s, [&] { own.reset(); });
  timer victim = after(1s, [] { FAIL("cancelled by an older one of the same tick"); });
  timer killer;
  victim.cancel();
  arm(killer, 2s, [&] { victim.cancel(); });
  arm(victim, 2s, [] { FAIL("cancelled by an older one of the same tick"); });
  advance(10s);
  CHECK(ticks == 5);
  CHECK_FALSE(own);
}

TEST_CASE_FIXTURE(manual, "agrees with a sorted map over many rounds of the wheel") {
  std::mt19937 random{7};
  std::multimap<std::int64_t, int> model; // due tick in ms -> id, by age within a tick
  std::vector<timer> all(2000);
  std::vector<int> fired;
  auto arm_one = [&](int id) {
    auto delay = std::chrono::milliseconds{random() % (id % 10 ? 50'000 : 900'000)};
    arm(all[id], delay, [&fired, id] { fired.push_back(id); });
    auto due = (ms() + delay.count() + 9) / 10 * 10;
    model.emplace(std::max(due, ms() / 10 * 10 + 10), id);
  };
  for (int id = 0; id < 2000; ++id)
    arm_one(id);
  for (int round = 0; round < 300; ++round) {
    fired.clear();
    advance(std::chrono::milliseconds{random() % 7'000});
    std::multimap<std::int64_t, int> expected_now;
    std::vector<std::int64_t> due_of(2000, -1);
    auto end = model.upper_bound(ms());
    for (auto i = model.begin(); i != end; ++i)
      due_of[i->second] = i->first;
    REQUIRE(fired.size() == static_cast<std::size_t>(std::distance(model.begin(), end)));
    for (std::size_t i = 0; i < fired.size(); ++i) {
      REQUIRE(due_of[fired[i]] >= 0);
      REQUIRE((i == 0 || due_of[fired[i - 1]] <= due_of[fired[i]]));
    }
    model.erase(model.begin(), end);
    for (int id : fired)
      arm_one(id);
    for (int n = 0; n < 50; ++n) { // cancel some, arm them anew
      int id = static_cast<int>(random() % 2000);
      std::erase_if(model, [&](auto& x) { return x.second == id; });
      all[id].cancel();
      arm_one(id);
    }
  }
}

TEST_CASE_FIXTURE(manual, "a turn: handlers, timers, deferred tasks, then the end hook") {
  std::string order;
  at_end_of_turn([&] { order += 'e'; return false; });
  auto t = after(0ms, [&] { order += 't'; });
  defer([&] { order += 'd'; defer([&] { order += 'D'; }); });
  post([&] { order += 'p'; });
  skip_to_next_timer(now() + 1s);
  CHECK(step(10) == 2);
  CHECK(order == "ptdeDee"); // the last turn found nothing
}

TEST_CASE("real time: wakes for a timer, stops from another thread") {
  loop l;
  auto start = loop::clock::now();
  loop::clock::duration late{};
  std::thread stopper;
  auto t = l.after(50ms, [&] {
    late = loop::clock::now() - start - 50ms;
    stopper = std::thread{[&] { l.stop(); }};
  });
  l.run();
  stopper.join();
  CHECK(late >= 0ms);
}

TEST_CASE("posts that post again do not starve timers") {
  loop l;
  std::function<void()> again = [&] { l.post(again); };
  l.post(again);
  auto t = l.after(20ms, [&] { l.stop(); });
  l.run();
  l.io().restart();
}

TEST_CASE("a timer that a handler arms after a long sleep counts from now, not from before the sleep") {
  loop l;
  std::optional<loop::clock::time_point> armed, fired;
  timer t;
  std::thread waker;
  auto begin = loop::clock::now();
  l.post([&] {
    waker = std::thread{[&] {
      std::this_thread::sleep_for(150ms); // meanwhile the loop sleeps without any timer
      l.post([&] {
        armed = loop::clock::now();
        CHECK(l.now() >= begin + 150ms);
        l.arm(t, 100ms, [&] {
          fired = loop::clock::now();
          l.stop();
        });
      });
    }};
  });
  l.run();
  waker.join();
  REQUIRE(fired);
  CHECK(*fired - *armed >= 100ms);
}

TEST_CASE("handoff: order, one wake-up for many, and closing") {
  net::handoff<int> queue;
  using result = net::handoff<int>::result;
  CHECK(queue.push(1) == result::first);
  CHECK(queue.push(2) == result::queued);
  std::vector<int> more{3, 4};
  CHECK(queue.push_all(more) == result::queued);
  CHECK_FALSE(queue.close_if_empty());
  std::vector<int> got;
  queue.take(got);
  CHECK(got == std::vector<int>{1, 2, 3, 4});
  CHECK(queue.close_if_empty());
  CHECK(queue.push(5) == result::closed);
  std::vector<int> refused{6};
  CHECK(queue.push_all(refused) == result::closed);
  CHECK(refused == std::vector<int>{6});
}

TEST_CASE("handoff: nothing is lost or doubled between threads") {
  net::handoff<int> queue;
  constexpr int writers = 3, each = 20'000;
  std::vector<std::thread> all;
  for (int w = 0; w < writers; ++w)
    all.emplace_back([&queue, w] {
      for (int i = 0; i < each; ++i)
        queue.push(w * each + i);
    });
  std::vector<int> seen(writers * each), next(writers), got;
  for (int n = 0; n < writers * each;) {
    got.clear();
    queue.take(got);
    if (got.empty())
      std::this_thread::yield();
    for (int x : got) {
      ++seen[static_cast<std::size_t>(x)];
      REQUIRE(x % each == next[static_cast<std::size_t>(x / each)]++);
      ++n;
    }
  }
  for (auto& t : all)
    t.join();
  CHECK(std::ranges::all_of(seen, [](int n) { return n == 1; }));
}
