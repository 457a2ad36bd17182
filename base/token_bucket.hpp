// Token buckets in virtual time: how long somebody who is too fast has to wait. Eight bytes each.
#pragma once
#include "base/clock.hpp"
#include <algorithm>
#include <cstdint>

namespace base {

struct rate {
  std::uint32_t per_second = 0; // 0: any number
  std::uint32_t burst = 0;      // so much at once, after silence
  explicit operator bool() const { return per_second != 0; }
  friend bool operator==(const rate&, const rate&) = default;
  /// What `n` cost in time.
  [[nodiscard]] duration cost(std::uint64_t n) const {
    return std::chrono::nanoseconds{n * 1'000'000'000 / per_second};
  }
};

class token_bucket {
public:
  /// Takes `n`, also more than is there. Returns for how long nothing more should be taken.
  duration take(std::uint64_t n, const rate& r, time_point now) {
    if (!r)
      return {};
    empty_ = std::max(empty_, now - r.cost(r.burst)) + r.cost(n);
    return std::max(empty_ - now, duration::zero());
  }
  /// As if nothing had been taken for long.
  [[nodiscard]] bool is_full(const rate& r, time_point now) const { return !r || empty_ <= now - r.cost(r.burst); }

private:
  time_point empty_{}; // when it has been, or will be, just empty
};

} // namespace base
