// What the layers above hold of storage: one engine with its committer and its readers. Asynchronous;
// the same interface without threads is for tests and simulations.
#pragma once
#include "storage/committer.hpp"
#include "storage/engine.hpp"
#include "storage/readers.hpp"
#include <deque>
#include <memory>

namespace storage {

class store {
public:
  virtual ~store() = default;
  /// `then` once, when the batch is durable (or failed). Batches of one caller are committed in the
  /// order of their calls. Without a target `then` runs on any thread, perhaps before this returns;
  /// with one it is in the group that the target gets.
  void submit(batch b, on_outcome then, completion_target* to = nullptr) { do_submit(std::move(b), {std::move(then), to}); }
  /// `then` once, as above. Sees every batch whose outcome was told before the call.
  void scan(key_range range, order o, std::size_t limit, on_rows then, completion_target* to = nullptr) {
    do_read({std::move(range), o, limit, std::move(then), to});
  }
  /// One row or none. Errors: those of the engine, overloaded.
  void get(std::string key, on_row then, completion_target* to = nullptr);
  /// For start-up and tools only: blocks.
  [[nodiscard]] virtual engine& blocking() = 0;

private:
  virtual void do_submit(batch b, answer_to whom) = 0;
  virtual void do_read(read what) = 0;
};

/// Everything happens inside the call.
class inline_store final : public store {
public:
  explicit inline_store(std::unique_ptr<engine> e) : engine_(std::move(e)) {}
  engine& blocking() override { return *engine_; }

private:
  void do_submit(batch b, answer_to whom) override;
  void do_read(read what) override;
  std::unique_ptr<engine> engine_;
};

/// Nothing happens before the test says so: batches in groups, reads one by one. Without a thread, so
/// that a simulation decides what comes first.
class stepped_store final : public store {
public:
  explicit stepped_store(std::unique_ptr<engine> e) : engine_(std::move(e)) {}
  engine& blocking() override { return *engine_; }
  /// Commits at most `most` of the batches that wait, as one group, and answers. How many these were.
  std::size_t commit(std::size_t most = static_cast<std::size_t>(-1));
  /// Does the oldest read and answers. False: none waits.
  bool read_one();
  /// Commits and reads until nothing waits, also what the answers ask for.
  void step();
  [[nodiscard]] std::size_t waiting_batches() const { return batches_.size(); }
  [[nodiscard]] std::size_t waiting_reads() const { return reads_.size(); }

private:
  void do_submit(batch b, answer_to whom) override;
  void do_read(read what) override;
  std::unique_ptr<engine> engine_;
  std::deque<std::pair<batch, answer_to>> batches_;
  std::deque<read> reads_;
};

struct store_limits {
  std::size_t most_batches = 65'536; // waiting for the committer; more are refused as overloaded
  std::size_t most_bytes = 256u << 20;
  std::size_t most_reads = 65'536;   // waiting for a reader
  std::size_t readers = 2;
  std::size_t group = 1'024;         // batches in one commit
  std::size_t group_bytes = 8u << 20;
};

/// One committer thread and a few readers. What is in memory is read by whoever asks: that costs less than to wake a
/// reader, and another thread again for the answer.
class threaded_store final : public store {
public:
  explicit threaded_store(std::unique_ptr<engine> e, const store_limits& l = {})
    : engine_(std::move(e)), at_once_(base::metrics::make_counter("covey_storage_reads_at_once_total", "Reads that memory alone answered, without a reader.")),
      readers_(*engine_, {l.most_reads, l.readers}),
      committer_(*engine_, {l.most_batches, l.most_bytes, l.group, l.group_bytes}) {}
  /// Commits and reads what was submitted, then ends. What answers ask for meanwhile is overloaded.
  ~threaded_store() override {
    committer_.stop();
    readers_.stop();
  }
  engine& blocking() override { return *engine_; }

private:
  void do_submit(batch b, answer_to whom) override { committer_.submit(std::move(b), std::move(whom)); }
  void do_read(read what) override;
  std::unique_ptr<engine> engine_;
  base::metrics::counter& at_once_;
  readers readers_;
  committer committer_;
};

} // namespace storage
