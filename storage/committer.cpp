// The committer's queue and its thread.
#include "storage/committer.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/thread_name.hpp"
#include <exception>

namespace storage {

std::size_t size_of(const batch& b) {
  std::size_t n = sizeof(batch) + b.changes.size() * sizeof(change) + b.preconditions.size() * sizeof(precondition);
  for (auto& c : b.changes)
    if (auto* p = std::get_if<put>(&c))
      n += p->key.size() + p->value.size();
    else if (auto* e = std::get_if<erase>(&c))
      n += e->key.size();
    else
      n += std::get<erase_range>(c).from.size() + std::get<erase_range>(c).until.size();
  for (auto& p : b.preconditions)
    n += p.key.size();
  return n;
}

committer::committer(engine& e, const limits& l)
  : engine_(e), limits_(l),
    groups_(base::metrics::make_counter("covey_storage_commits_total", "Group commits, each one fsync.")),
    committed_(base::metrics::make_counter("covey_storage_batches_total", "Batches that were committed.")),
    conflicts_(base::metrics::make_counter("covey_storage_conflicts_total", "Batches whose precondition did not hold.")),
    failed_(base::metrics::make_counter("covey_storage_failures_total", "Batches that failed for another reason than a precondition.")),
    refused_(base::metrics::make_counter("covey_storage_refused_total", "Batches for which the queue had no room.")),
    waiting_(base::metrics::make_gauge("covey_storage_waiting_batches", "Batches that wait for the committer.")),
    seconds_(base::metrics::make_histogram("covey_storage_commit_seconds", "How long group commits took, each with its fsync.",
                                           {0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2})),
    thread_([this] {
      base::name_thread("covey-commit");
      run();
    }) {}

void committer::stop() {
  {
    std::lock_guard guard{mutex_};
    stops_ = true;
  }
  comes_.notify_one();
  if (thread_.joinable())
    thread_.join();
}

void committer::submit(batch b, answer_to whom) {
  auto bytes = size_of(b);
  {
    std::lock_guard guard{mutex_};
    if (!stops_ && queue_.size() < limits_.most_batches && bytes_ + bytes <= limits_.most_bytes) {
      bytes_ += bytes;
      queue_.push_back({std::move(b), std::move(whom), bytes});
      waiting_.add();
      if (queue_.size() == 1)
        comes_.notify_one();
      return;
    }
  }
  refused_.add();
  answers told;
  if (whom.then)
    told.add(whom.target, [then = std::move(whom.then)] { then(outcome::overloaded); });
  told.send();
}

/// False: nothing waits and nothing will.
bool committer::gather(std::vector<batch>& group, std::vector<answer_to>& whom) {
  std::unique_lock guard{mutex_};
  comes_.wait(guard, [this] { return stops_ || !queue_.empty(); });
  std::size_t bytes = 0;
  while (!queue_.empty() && group.size() < limits_.group) {
    auto& next = queue_.front();
    if (!group.empty() && bytes + next.bytes > limits_.group_bytes)
      break;
    bytes += next.bytes;
    group.push_back(std::move(next.what));
    whom.push_back(std::move(next.whom));
    queue_.pop_front();
  }
  bytes_ -= bytes;
  waiting_.add(-static_cast<std::int64_t>(group.size()));
  return !group.empty();
}

void committer::run() {
  std::vector<batch> group;
  std::vector<answer_to> whom;
  answers told;
  for (; gather(group, whom); group.clear(), whom.clear()) {
    std::vector<outcome> outcomes;
    auto began = base::steady::now();
    try {
      outcomes = engine_.commit(group);
    } catch (const std::exception& e) { // whatever it was doing: nobody knows how far it came
      base::log::error("storage.commit_threw", "the engine failed while it committed", {{"error", e.what()}});
    }
    outcomes.resize(group.size(), outcome::unknown);
    groups_.add();
    seconds_.observe(std::chrono::duration<double>(base::steady::now() - began).count());
    for (std::size_t i = 0; i < group.size(); ++i) {
      auto o = outcomes[i];
      (o == outcome::done ? committed_ : o == outcome::conflict ? conflicts_ : failed_).add();
      if (whom[i].then)
        told.add(whom[i].target, [then = std::move(whom[i].then), o] { then(o); });
    }
    told.send();
  }
}

} // namespace storage
