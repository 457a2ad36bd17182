// Hybrid logical clock: close to wall time, but never behind anything that this node has given out or seen.
#pragma once
#include "base/clock.hpp"
#include <algorithm>
#include <cstdint>

namespace cluster {

/// Milliseconds since 1970 in the upper 48 bits, a count in the lower 16. Two nodes may give out the same value: what
/// compares clocks breaks the tie by node.
class hybrid_clock {
public:
  /// `wall` may jump either way.
  [[nodiscard]] std::uint64_t next(base::wall_time wall) {
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(wall.time_since_epoch()).count();
    return last_ = std::max(last_ + 1, static_cast<std::uint64_t>(std::max<std::int64_t>(ms, 0)) << 16);
  }
  /// Another node's: what is given out next is above it.
  void see(std::uint64_t other) { last_ = std::max(last_, other); }

private:
  std::uint64_t last_ = 0;
};

} // namespace cluster
