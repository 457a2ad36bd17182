// One engine that several stores are on.
#pragma once
#include "storage/engine.hpp"
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

namespace actors::testing {

/// One engine below the stores of all nodes, as a database is.
class shared_engine final : public storage::engine {
public:
  explicit shared_engine(std::shared_ptr<storage::engine> e) : of_(std::move(e)) {}
  /// What this node writes takes so long more.
  void write_slowly(std::chrono::milliseconds delay) { delay_ = delay; }
  std::vector<storage::outcome> commit(std::span<const storage::batch> batches) override {
    std::this_thread::sleep_for(delay_.load());
    return of_->commit(batches);
  }
  base::result<std::optional<storage::row>, storage::errc> get(std::string_view key) override { return of_->get(key); }
  base::result<std::vector<storage::row>, storage::errc> scan(const storage::key_range& range, storage::order o, std::size_t limit) override {
    return of_->scan(range, o, limit);
  }
  base::result<bool, storage::errc> resolve(base::u128 batch_id) override { return of_->resolve(batch_id); }
  base::result<void, storage::errc> snapshot(const std::string& folder) override { return of_->snapshot(folder); }

private:
  std::shared_ptr<storage::engine> of_;
  std::atomic<std::chrono::milliseconds> delay_{};
};

} // namespace actors::testing
