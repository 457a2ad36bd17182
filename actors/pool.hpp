// Threads for what burns or blocks (hashing, certificate checks): a bounded queue, answers by message.
#pragma once
#include "base/metrics.hpp"
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace actors {

class pool {
public:
  /// `waiting`: how many jobs do, for those who watch.
  explicit pool(std::size_t threads, std::size_t most_waiting = 10'000, base::metrics::gauge* waiting = nullptr)
    : most_waiting_(most_waiting), waiting_(waiting) {
    for (std::size_t i = 0; i < threads; ++i)
      threads_.emplace_back([this] { work(); });
  }
  /// Finishes what has begun, drops what waits.
  ~pool() {
    {
      std::lock_guard guard{mutex_};
      stops_ = true;
    }
    come_.notify_all();
    for (auto& t : threads_)
      t.join();
  }
  /// False: too many wait; nothing was taken.
  [[nodiscard]] bool run(std::function<void()> job) {
    std::lock_guard guard{mutex_};
    if (stops_ || jobs_.size() >= most_waiting_)
      return false;
    jobs_.push_back(std::move(job));
    if (waiting_)
      waiting_->add();
    come_.notify_one();
    return true;
  }

private:
  void work() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock guard{mutex_};
        come_.wait(guard, [this] { return stops_ || !jobs_.empty(); });
        if (stops_)
          return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        if (waiting_)
          waiting_->add(-1);
      }
      job();
    }
  }
  const std::size_t most_waiting_;
  base::metrics::gauge* const waiting_;
  std::mutex mutex_;
  std::condition_variable come_;
  std::deque<std::function<void()>> jobs_;
  bool stops_ = false;
  std::vector<std::thread> threads_;
};

} // namespace actors
