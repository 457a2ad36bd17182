// The readers' queue and their threads.
#include "storage/readers.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"
#include <algorithm>
#include <exception>

namespace storage {

namespace {
constexpr std::size_t most_at_once = 64; // reads that one thread answers together

/// The read's answer, ready to be run.
std::function<void()> perform(engine& e, read& r) {
  base::result<std::vector<row>, errc> found = base::fail(errc::unavailable);
  try {
    found = e.scan(r.range, r.direction, r.limit);
  } catch (const std::exception& failed) {
    base::log::error("storage.read_threw", "the engine failed while it read", {{"error", failed.what()}});
  }
  if (!r.then)
    return {};
  // shared: a std::function wants to be copyable, and rows are not to be copied
  return [then = std::move(r.then), found = std::make_shared<decltype(found)>(std::move(found))] { then(std::move(*found)); };
}
} // namespace

readers::readers(engine& e, const limits& l)
  : engine_(e), limits_(l), done_(base::metrics::make_counter("covey_storage_reads_total", "Reads that readers have done.")),
    failed_(base::metrics::make_counter("covey_storage_reads_refused_total", "Reads for which the queue had no room.")),
    waiting_(base::metrics::make_gauge("covey_storage_waiting_reads", "Reads that wait for a reader.")) {
  for (std::size_t i = 0; i < limits_.threads; ++i)
    threads_.emplace_back([this] {
      base::name_thread("covey-read");
      run();
    });
}

void readers::stop() {
  {
    std::lock_guard guard{mutex_};
    stops_ = true;
  }
  comes_.notify_all();
  for (auto& t : threads_)
    if (t.joinable())
      t.join();
}

void readers::submit(read what) {
  {
    std::lock_guard guard{mutex_};
    if (!stops_ && queue_.size() < limits_.most_waiting) {
      queue_.push_back(std::move(what));
      waiting_.add();
      comes_.notify_one();
      return;
    }
  }
  failed_.add();
  answers told;
  if (what.then)
    told.add(what.target, [then = std::move(what.then)] { then(base::fail(errc::overloaded)); });
  told.send();
}

/// A fair share of what waits. False: nothing does and nothing will.
bool readers::gather(std::vector<read>& some) {
  std::unique_lock guard{mutex_};
  comes_.wait(guard, [this] { return stops_ || !queue_.empty(); });
  auto n = std::min(most_at_once, (queue_.size() + limits_.threads - 1) / limits_.threads);
  for (; n > 0; --n) {
    some.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  waiting_.add(-static_cast<std::int64_t>(some.size()));
  return !some.empty();
}

void readers::run() {
  std::vector<read> some;
  answers told;
  for (; gather(some); some.clear()) {
    for (auto& r : some)
      told.add(r.target, perform(engine_, r));
    done_.add(some.size());
    told.send();
  }
}

} // namespace storage
