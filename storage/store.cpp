// The committer: group commit. And the readers.
#include "storage/store.hpp"
#include <algorithm>

namespace storage {

namespace {
std::size_t size_of(const batch& b) {
  std::size_t n = sizeof(batch);
  for (auto& c : b.changes)
    std::visit([&](auto& x) {
      using type = std::decay_t<decltype(x)>;
      if constexpr (std::is_same_v<type, put>) n += x.key.size() + x.value.size();
      else if constexpr (std::is_same_v<type, erase>) n += x.key.size();
      else n += x.from.size() + x.until.size();
    }, c);
  for (auto& p : b.preconditions)
    n += p.key.size();
  return n;
}
} // namespace

threaded_store::threaded_store(std::unique_ptr<engine> e, store_limits limits)
  : engine_(std::move(e)), limits_(limits),
    groups_(base::metrics::make_counter("covey_storage_commits_total", "Group commits, each one fsync.")),
    committed_(base::metrics::make_counter("covey_storage_batches_total", "Batches that were committed.")),
    failed_(base::metrics::make_counter("covey_storage_failures_total", "Batches that failed for another reason than a precondition.")) {
  committer_ = std::thread{[this] { commit_loop(); }};
  for (std::size_t i = 0; i < limits_.readers; ++i)
    readers_.emplace_back([this] { read_loop(); });
}

threaded_store::~threaded_store() {
  {
    std::scoped_lock guard{batches_mutex_, reads_mutex_};
    stops_ = true;
  }
  batches_come_.notify_all();
  reads_come_.notify_all();
  committer_.join();
  for (auto& r : readers_)
    r.join();
}

void threaded_store::submit(batch b, on_outcome then) {
  auto bytes = size_of(b);
  {
    std::lock_guard guard{batches_mutex_};
    if (!stops_ && batches_.size() < limits_.most_batches && bytes_ + bytes <= limits_.most_bytes) {
      bytes_ += bytes;
      batches_.push_back({std::move(b), std::move(then), bytes});
      if (batches_.size() == 1)
        batches_come_.notify_one();
      return;
    }
  }
  if (then)
    then(outcome::overloaded);
}

void threaded_store::commit_loop() {
  std::vector<waiting_batch> group;
  std::vector<batch> batches;
  for (;;) {
    group.clear();
    batches.clear();
    {
      std::unique_lock guard{batches_mutex_};
      batches_come_.wait(guard, [this] { return stops_ || !batches_.empty(); });
      if (batches_.empty())
        return;
      auto n = std::min(batches_.size(), limits_.group);
      std::move(batches_.begin(), batches_.begin() + static_cast<std::ptrdiff_t>(n), std::back_inserter(group));
      batches_.erase(batches_.begin(), batches_.begin() + static_cast<std::ptrdiff_t>(n));
      for (auto& w : group)
        bytes_ -= w.bytes;
    }
    for (auto& w : group)
      batches.push_back(std::move(w.what));
    auto outcomes = engine_->commit(batches);
    groups_.add();
    for (std::size_t i = 0; i < group.size(); ++i) {
      (outcomes[i] == outcome::done ? committed_ : failed_).add(outcomes[i] != outcome::conflict);
      if (group[i].then)
        group[i].then(outcomes[i]);
    }
  }
}

void threaded_store::scan(key_range range, order o, std::size_t limit, on_rows then) {
  {
    std::lock_guard guard{reads_mutex_};
    if (!stops_ && reads_.size() < limits_.most_reads) {
      reads_.push_back({std::move(range), o, limit, std::move(then)});
      reads_come_.notify_one();
      return;
    }
  }
  then(base::fail(errc::overloaded));
}

void threaded_store::read_loop() {
  for (;;) {
    waiting_read r;
    {
      std::unique_lock guard{reads_mutex_};
      reads_come_.wait(guard, [this] { return stops_ || !reads_.empty(); });
      if (reads_.empty())
        return;
      r = std::move(reads_.front());
      reads_.pop_front();
    }
    r.then(engine_->scan(r.range, r.direction, r.limit));
  }
}

} // namespace storage
