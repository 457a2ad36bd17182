// Time by injection: machines are told the time, shells ask a clock, tests turn one by hand.
#pragma once
#include <chrono>
#include <ctime>

namespace base {

using steady = std::chrono::steady_clock;
/// Monotonic time: deadlines, windows, rates.
using time_point = steady::time_point;
using duration = steady::duration;
/// Wall-clock time: what is written into stamps and rows. Never compared between nodes.
using wall_time = std::chrono::sys_time<std::chrono::microseconds>;

/// Goes on while the machine is suspended, unlike the monotonic clock: other nodes have given this one up meanwhile.
inline time_point boot_time() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return time_point{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
}

class clock {
public:
  virtual ~clock() = default;
  [[nodiscard]] virtual time_point now() const = 0;
  [[nodiscard]] virtual wall_time wall() const = 0;
};

/// The machine's clocks.
class system_clock final : public clock {
public:
  [[nodiscard]] time_point now() const override { return steady::now(); }
  [[nodiscard]] wall_time wall() const override {
    return std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  }
};

/// Turned by hand.
class manual_clock final : public clock {
public:
  [[nodiscard]] time_point now() const override { return now_; }
  [[nodiscard]] wall_time wall() const override { return wall_; }
  void advance(duration d) {
    now_ += d;
    wall_ += std::chrono::duration_cast<std::chrono::microseconds>(d);
  }

private:
  time_point now_{};
  wall_time wall_{std::chrono::sys_days{std::chrono::year{2026} / 1 / 1}};
};

} // namespace base
