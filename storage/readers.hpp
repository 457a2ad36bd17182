// Reads block, so they run on a few threads.
#pragma once
#include "base/metrics.hpp"
#include "storage/completion.hpp"
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace storage {

struct read {
  key_range range;
  order direction = order::forward;
  std::size_t limit = 0;
  on_rows then;
  completion_target* target = nullptr;
};

class readers {
public:
  struct limits { std::size_t most_waiting, threads; };
  readers(engine& e, const limits& l);
  ~readers() { stop(); }
  /// Any thread. Begun in order of the calls. Too many wait, or stopped: overloaded, at once.
  void submit(read what);
  /// Does and answers what waits, then ends the threads. From one thread that is none of them.
  void stop();

private:
  void run();
  bool gather(std::vector<read>& some);

  engine& engine_;
  const limits limits_;
  std::mutex mutex_;
  std::condition_variable comes_;
  std::deque<read> queue_;
  bool stops_ = false;
  base::metrics::counter &done_, &failed_;
  base::metrics::gauge& waiting_;
  std::vector<std::thread> threads_;
};

} // namespace storage
