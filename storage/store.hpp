// What the layers above hold of storage: one engine with its committer and its readers. Asynchronous;
// the same interface without threads is for tests and simulations.
#pragma once
#include "base/metrics.hpp"
#include "storage/engine.hpp"
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace storage {

using on_outcome = std::function<void(outcome)>;
using on_rows = std::function<void(base::result<std::vector<row>, errc>)>;

class store {
public:
  virtual ~store() = default;
  /// `then` once, on any thread, when the batch is durable (or failed). Batches of one caller are
  /// committed in the order of their calls.
  virtual void submit(batch b, on_outcome then) = 0;
  /// `then` once, on any thread. Sees every batch whose outcome was told before the call.
  virtual void scan(key_range range, order o, std::size_t limit, on_rows then) = 0;
  /// For start-up and tools only: blocks.
  [[nodiscard]] virtual engine& blocking() = 0;
};

/// Everything happens inside the call.
class inline_store final : public store {
public:
  explicit inline_store(std::unique_ptr<engine> e) : engine_(std::move(e)) {}
  void submit(batch b, on_outcome then) override {
    auto result = engine_->commit({&b, 1}).front();
    if (then)
      then(result);
  }
  void scan(key_range range, order o, std::size_t limit, on_rows then) override {
    then(engine_->scan(range, o, limit));
  }
  engine& blocking() override { return *engine_; }

private:
  std::unique_ptr<engine> engine_;
};

struct store_limits {
  std::size_t most_batches = 65'536; // waiting for the committer; more are refused as overloaded
  std::size_t most_bytes = 256u << 20;
  std::size_t most_reads = 65'536;   // waiting for a reader
  std::size_t readers = 2;
  std::size_t group = 1'024;         // batches in one commit
};

/// One committer thread (a commit blocks for its fsync) that gathers whatever waits, and a few readers.
class threaded_store final : public store {
public:
  explicit threaded_store(std::unique_ptr<engine> e, store_limits limits = {});
  /// Commits what was submitted, then ends.
  ~threaded_store() override;
  void submit(batch b, on_outcome then) override;
  void scan(key_range range, order o, std::size_t limit, on_rows then) override;
  engine& blocking() override { return *engine_; }

private:
  struct waiting_batch { batch what; on_outcome then; std::size_t bytes; };
  struct waiting_read { key_range range; order direction; std::size_t limit; on_rows then; };
  void commit_loop();
  void read_loop();

  std::unique_ptr<engine> engine_;
  const store_limits limits_;
  std::mutex batches_mutex_, reads_mutex_;
  std::condition_variable batches_come_, reads_come_;
  std::vector<waiting_batch> batches_;
  std::deque<waiting_read> reads_;
  std::size_t bytes_ = 0;
  bool stops_ = false; // under both mutexes
  std::thread committer_;
  std::vector<std::thread> readers_;
  base::metrics::counter &groups_, &committed_, &failed_;
};

} // namespace storage
