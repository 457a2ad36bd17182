// The pool: bounded, on other threads, drops what waits at the end.
#include "actors/pool.hpp"
#include <atomic>
#include <doctest/doctest.h>
#include <future>

using actors::pool;

TEST_CASE("pool: jobs run on other threads, several at a time") {
  pool p{2};
  std::promise<void> first, second;
  auto both = [](std::promise<void>& mine, std::promise<void>& other) {
    mine.set_value();
    other.get_future().wait(); // each waits for the other: one thread alone would stand still
  };
  std::promise<std::thread::id> where;
  REQUIRE(p.run([&] { both(first, second); }));
  REQUIRE(p.run([&] {
    both(second, first);
    where.set_value(std::this_thread::get_id());
  }));
  CHECK(where.get_future().get() != std::this_thread::get_id());
}

TEST_CASE("pool: too many that wait are refused, what waits at the end is dropped, what runs is finished") {
  std::atomic<int> ran{0};
  std::promise<void> begun, go;
  auto may_go = go.get_future().share();
  {
    pool p{1, 3};
    REQUIRE(p.run([&, may_go] {
      begun.set_value();
      may_go.wait();
      ++ran;
    }));
    begun.get_future().wait();
    for (int n = 0; n < 3; ++n)
      CHECK(p.run([&] { ++ran; }));
    CHECK_FALSE(p.run([&] { ++ran; }));
    std::thread later{[&] {
      std::this_thread::sleep_for(std::chrono::milliseconds{20});
      go.set_value();
    }};
    later.detach();
  }
  CHECK(ran >= 1);
  CHECK(ran <= 4);
}
