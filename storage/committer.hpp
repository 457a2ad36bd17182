// Group commit: a thread that takes whatever waits and commits it with one fsync.
#pragma once
#include "base/metrics.hpp"
#include "storage/completion.hpp"
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace storage {

/// What a batch takes of a queue, in bytes.
[[nodiscard]] std::size_t size_of(const batch& b);

class committer {
public:
  struct limits {
    std::size_t most_batches, most_bytes; // that wait; more are refused as overloaded, at once
    std::size_t group, group_bytes;       // in one commit; one batch always fits
  };
  committer(engine& e, const limits& l);
  ~committer() { stop(); }
  /// Any thread. In order of the calls. After stop(): overloaded.
  void submit(batch b, answer_to whom);
  /// Commits and answers what waits, then ends the thread. Once or more, from one thread that is not
  /// the committer's.
  void stop();

private:
  struct waiting { batch what; answer_to whom; std::size_t bytes; };
  void run();
  bool gather(std::vector<batch>& group, std::vector<answer_to>& whom);

  engine& engine_;
  const limits limits_;
  std::mutex mutex_;
  std::condition_variable comes_;
  std::deque<waiting> queue_;
  std::size_t bytes_ = 0;
  bool stops_ = false;
  base::metrics::counter &groups_, &committed_, &conflicts_, &failed_, &refused_;
  base::metrics::gauge& waiting_;
  base::metrics::histogram& seconds_;
  std::thread thread_; // last: runs on all of the above
};

} // namespace storage
