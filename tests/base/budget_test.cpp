// What one receiver may have in flight: soft and hard limits in messages and bytes, from several threads.
#include "base/budget.hpp"
#include <atomic>
#include <doctest/doctest.h>
#include <thread>
#include <vector>

using base::budget;
using base::room;

namespace {
constexpr base::budget_limits limits{4, 1'000, 8, 2'000};
}

TEST_CASE("budget: ok, over the soft limit, full") {
  budget b{limits};
  for (int n = 0; n < 4; ++n)
    CHECK(b.charge(10) == room::ok);
  for (int n = 0; n < 4; ++n)
    CHECK(b.charge(10) == room::over);
  CHECK(b.charge(10) == room::full); // not charged
  CHECK(b.messages() == 8);
  CHECK(b.bytes() == 80);
  b.release(50, 5);
  CHECK(b.charge(10) == room::ok);
  b.charge_always(100'000);
  CHECK(b.charge(1) == room::full);
  b.release(100'000);
  b.release(40, 4);
  CHECK(b.messages() == 0);
  CHECK(b.bytes() == 0);
}

TEST_CASE("budget: bytes count as well, and one stanza always fits") {
  budget b{limits};
  CHECK(b.charge(1'000'000) == room::ok);
  CHECK(b.charge(1) == room::full);
  b.release(1'000'000);
  CHECK(b.charge(900) == room::ok);
  CHECK(b.charge(900) == room::over);
  CHECK(b.charge(300) == room::full);
  CHECK(b.charge(100) == room::over);
}

TEST_CASE("budget: many threads charge and release; nothing is lost, nothing goes beyond the hard limit") {
  budget b{limits};
  std::atomic<int> inside{0}, most{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int n = 0; n < 20'000; ++n)
        if (b.charge(7) != room::full) {
          auto now = ++inside;
          for (auto seen = most.load(); seen < now && !most.compare_exchange_weak(seen, now);) {
          }
          --inside;
          b.release(7);
        }
    });
  for (auto& t : threads)
    t.join();
  CHECK(b.messages() == 0);
  CHECK(b.bytes() == 0);
  CHECK(most <= 8);
}
