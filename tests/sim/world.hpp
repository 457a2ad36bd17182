// Virtual time, chance and the trace of one simulated run. Everything that happens is an event here, in one order that the
// seed alone decides.
#pragma once
#include "base/clock.hpp"
#include <cstdint>
#include <cstdio>
#include <functional>
#include <queue>
#include <random>
#include <string>
#include <vector>

namespace sim {

using namespace std::chrono_literals;
using base::duration;
using base::time_point;

/// splitmix64: quick, and the same everywhere (the distributions of <random> are not).
class chance {
public:
  explicit chance(std::uint64_t seed) : state_(seed) {}
  std::uint64_t number() {
    auto z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  /// 0 to n - 1.
  std::uint64_t below(std::uint64_t n) { return number() % n; }
  bool in(std::uint64_t one_of) { return below(one_of) == 0; }
  bool percent(std::uint64_t p) { return below(100) < p; }
  duration between(duration a, duration b) {
    return b <= a ? a : a + duration{static_cast<std::int64_t>(below(static_cast<std::uint64_t>((b - a).count())))};
  }

private:
  std::uint64_t state_;
};

class world {
public:
  world(std::uint64_t seed, bool traces) : luck(seed), traces_(traces) {}

  [[nodiscard]] time_point now() const { return now_; }
  void at(time_point t, std::function<void()> f) { events_.push({std::max(t, now_), ++count_, std::move(f)}); }
  void after(duration d, std::function<void()> f) { at(now_ + d, std::move(f)); }
  void run_until(time_point end) {
    while (!events_.empty() && events_.top().when <= end) {
      auto e = std::move(const_cast<event&>(events_.top()));
      events_.pop();
      now_ = e.when;
      e.run();
    }
    now_ = end;
  }
  [[nodiscard]] std::uint64_t events() const { return count_; }
  [[nodiscard]] bool traces() const { return traces_; }
  template <class... Ts>
  void trace(const char* format, Ts... xs) const {
    if (!traces_)
      return;
    std::printf("%10.4f  ", std::chrono::duration<double>(now_.time_since_epoch()).count());
    if constexpr (sizeof...(xs) == 0)
      std::fputs(format, stdout);
    else
      std::printf(format, xs...);
    std::putchar('\n');
  }

  chance luck;

private:
  struct event {
    time_point when;
    std::uint64_t order;
    std::function<void()> run;
    bool operator<(const event& o) const { return when != o.when ? when > o.when : order > o.order; }
  };
  std::priority_queue<event> events_;
  time_point now_{1s};
  std::uint64_t count_ = 0;
  const bool traces_;
};

} // namespace sim
