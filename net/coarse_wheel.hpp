// A timer wheel for very many long waits: eight bytes for each, ticks of a second or so, no cancelling.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace net {

/// Ids that come back after some ticks. Whoever is gone by then is the caller's to find out. One thread.
class coarse_wheel {
public:
  static constexpr std::uint32_t longest = 511; // ticks: who waits longer comes back early, and asks again

  void put(std::uint64_t id, std::uint32_t ticks) {
    auto& slot = slots_[(at_ + std::clamp<std::uint32_t>(ticks, 1, longest)) % slots_.size()];
    if (slot.size() == slot.capacity()) // by an eighth, not to twice: room is what counts here
      slot.reserve(slot.size() + slot.size() / 8 + 16);
    slot.push_back(id);
    ++size_;
  }
  /// Calls `f(id)` for all whose tick has come. `f` may put.
  template <class F>
  void tick(F f) {
    at_ = (at_ + 1) % slots_.size();
    std::vector<std::uint64_t> due;
    due.swap(slots_[at_]); // its memory goes: what comes next may be fewer
    size_ -= due.size();
    for (auto id : due)
      f(id);
  }
  [[nodiscard]] bool is_empty() const { return size_ == 0; }

private:
  std::array<std::vector<std::uint64_t>, longest + 1> slots_;
  std::size_t at_ = 0, size_ = 0;
};

} // namespace net
