// An engine without a disk: for tests, simulations, and hosts that may forget.
#pragma once
#include "storage/engine.hpp"
#include <map>
#include <mutex>

namespace storage {

/// Any thread. A test may make it fail.
class memory_engine final : public engine {
public:
  std::vector<outcome> commit(std::span<const batch> batches) override;
  base::result<std::optional<row>, errc> get(std::string_view key) override;
  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override;
  base::result<bool, errc> resolve(base::u128 batch_id) override;
  /// Not for memory: always `unavailable`.
  base::result<void, errc> snapshot(const std::string& folder) override;

  /// Every call fails with `unavailable` until told otherwise.
  void set_available(bool is_available);
  [[nodiscard]] std::size_t commit_calls() const;

private:
  struct record { std::string value; storage::version version; };
  mutable std::mutex mutex_;
  std::map<std::string, record, std::less<>> rows_;
  std::size_t calls_ = 0;
  bool is_available_ = true;
};

} // namespace storage
