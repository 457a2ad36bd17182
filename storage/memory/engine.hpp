// An engine without a disk: for tests, simulations, and hosts that may forget.
#pragma once
#include "storage/engine.hpp"
#include <chrono>
#include <map>
#include <mutex>
#include <utility>

namespace storage {

/// Any thread. A test may make it fail. `resolve` answers for batches whose answer was lost on purpose,
/// and `conflict` for all others.
class memory_engine final : public engine {
public:
  std::vector<outcome> commit(std::span<const batch> batches) override;
  base::result<std::optional<row>, errc> get(std::string_view key) override;
  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override;
  base::result<bool, errc> resolve(base::u128 batch_id) override;
  /// Not for memory: always `unavailable`.
  base::result<void, errc> snapshot(const std::string& folder) override;

  // --- failures on order
  /// Every call fails with `unavailable` until told otherwise.
  void set_available(bool is_available);
  /// The next `n` batches end like this and are not done.
  void fail_next(std::size_t n, outcome how);
  /// The answers to the next `n` batches are lost: `unknown`, done or not.
  void lose_next(std::size_t n, bool are_done);
  /// Every call takes at least this long.
  void set_delay(std::chrono::microseconds delay);
  [[nodiscard]] std::size_t commit_calls() const;
  [[nodiscard]] std::size_t rows() const;

private:
  struct record { std::string value; storage::version version; };
  void wait() const;
  [[nodiscard]] bool holds(const batch& b) const;
  void apply(const batch& b);
  mutable std::mutex mutex_;
  std::map<std::string, record, std::less<>> rows_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, bool> lost_; // batch id: done
  std::size_t calls_ = 0, fails_ = 0, loses_ = 0;
  outcome fails_with_ = outcome::unavailable;
  std::chrono::microseconds delay_{0};
  bool loses_done_ = false, is_available_ = true;
};

} // namespace storage
