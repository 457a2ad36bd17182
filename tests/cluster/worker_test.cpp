#include "cluster/worker.hpp"
#include <atomic>
#include <doctest/doctest.h>
#include <thread>

using namespace std::chrono_literals;

namespace {
bool until(const std::function<bool()>& is_so) {
  for (auto end = std::chrono::steady_clock::now() + 10s; std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(1ms))
    if (is_so())
      return true;
  return false;
}
} // namespace

TEST_CASE("rounds of a thread: once at the start, when it is woken, when its time has come, and none after its end") {
  auto thread = cluster::make_worker("test");
  std::atomic<int> rounds{0};
  std::atomic<std::chrono::nanoseconds> wait{1h};
  thread->start([&] {
    ++rounds;
    return wait.load();
  });
  REQUIRE(until([&] { return rounds == 1; }));
  for (int i = 0; i < 1'000; ++i) { // none is lost, whatever it is doing
    int before = rounds;
    thread->wake();
    REQUIRE(until([&] { return rounds > before; }));
  }
  wait = 1ms;
  thread->wake();
  int before = rounds;
  CHECK(until([&] { return rounds > before + 20; }));
  thread->stop();
  before = rounds;
  thread->wake();
  std::this_thread::sleep_for(5ms);
  CHECK(rounds == before);
}
