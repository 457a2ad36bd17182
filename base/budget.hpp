// How much one receiver may have in flight: charged by the sender before it hands over, released
// when the receiver has handled or dropped it. Lanes and mailboxes themselves refuse nothing.
#pragma once
#include <atomic>
#include <cstdint>

namespace base {

/// What a charge found. `ok` and `over` are charged, `full` is not.
enum class room : std::uint8_t {
  ok,
  over, // above the soft limit: bounce, merge or spool what can be
  full, // above the hard limit: drop, or close
};

struct budget_limits {
  std::uint32_t messages = 4'096, bytes = 1u << 20;            // soft
  std::uint32_t hard_messages = 16'384, hard_bytes = 4u << 20; // far below 2^32: charge() overshoots
  friend bool operator==(const budget_limits&, const budget_limits&) = default;
};

/// Any thread. Messages and bytes in one atomic.
class budget {
public:
  explicit budget(const budget_limits& limits) : limits_(&limits) {}

  [[nodiscard]] room charge(std::uint32_t bytes) {
    auto before = used_.fetch_add(one | bytes, std::memory_order_acq_rel);
    auto messages = static_cast<std::uint32_t>(before >> 32) + 1;
    auto total = static_cast<std::uint32_t>(before) + bytes;
    // one stanza always fits: else a large one could never be delivered
    if (messages == 1 || (messages <= limits_->messages && total <= limits_->bytes))
      return room::ok;
    if (messages <= limits_->hard_messages && total <= limits_->hard_bytes)
      return room::over;
    release(bytes);
    return room::full;
  }
  /// For what may not be refused (attach, replies that someone asked for): never full.
  void charge_always(std::uint32_t bytes) { used_.fetch_add(one | bytes, std::memory_order_acq_rel); }
  void release(std::uint32_t bytes, std::uint32_t messages = 1) {
    used_.fetch_sub(one * messages + bytes, std::memory_order_acq_rel);
  }

  [[nodiscard]] std::uint32_t messages() const { return static_cast<std::uint32_t>(used_.load(std::memory_order_acquire) >> 32); }
  [[nodiscard]] std::uint32_t bytes() const { return static_cast<std::uint32_t>(used_.load(std::memory_order_acquire)); }

private:
  static constexpr std::uint64_t one = std::uint64_t{1} << 32;
  std::atomic<std::uint64_t> used_{0};
  const budget_limits* limits_; // shared by all receivers of one kind
};

} // namespace base
