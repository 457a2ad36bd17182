// A sorted map under a mutex.
#include "storage/memory/engine.hpp"
#include <algorithm>
#include <thread>

namespace storage {

bool memory_engine::holds(const batch& b) const {
  return std::all_of(b.preconditions.begin(), b.preconditions.end(), [&](auto& p) {
    auto i = rows_.find(p.key);
    return (i == rows_.end() ? 0 : i->second.version) == p.expected;
  });
}

void memory_engine::apply(const batch& b) {
  for (auto& c : b.changes) {
    if (auto* p = std::get_if<put>(&c)) {
      auto& r = rows_.try_emplace(p->key, record{{}, 0}).first->second;
      r.value = p->value;
      ++r.version;
    } else if (auto* e = std::get_if<erase>(&c)) {
      rows_.erase(e->key);
    } else if (auto& r = std::get<erase_range>(c); r.from < r.until) {
      rows_.erase(rows_.lower_bound(r.from), rows_.lower_bound(r.until));
    }
  }
}

std::vector<outcome> memory_engine::commit(std::span<const batch> batches) {
  wait();
  std::lock_guard guard{mutex_};
  ++calls_;
  std::vector<outcome> outcomes;
  for (auto& b : batches) {
    if (!is_available_) {
      outcomes.push_back(outcome::unavailable);
    } else if (fails_ > 0) {
      --fails_;
      outcomes.push_back(fails_with_);
    } else if (loses_ > 0) {
      --loses_;
      bool is_done = loses_done_ && holds(b);
      if (is_done)
        apply(b);
      lost_[{b.id.a, b.id.b}] = is_done;
      outcomes.push_back(outcome::unknown);
    } else if (!holds(b)) {
      outcomes.push_back(outcome::conflict);
    } else {
      apply(b);
      outcomes.push_back(outcome::done);
    }
  }
  return outcomes;
}

base::result<std::optional<row>, errc> memory_engine::get(std::string_view key) {
  wait();
  std::lock_guard guard{mutex_};
  if (!is_available_)
    return base::fail(errc::unavailable);
  auto i = rows_.find(key);
  if (i == rows_.end())
    return std::optional<row>{};
  return std::optional<row>{row{i->first, i->second.value, i->second.version}};
}

base::result<std::vector<row>, errc> memory_engine::scan(const key_range& range, order o, std::size_t limit) {
  wait();
  std::lock_guard guard{mutex_};
  if (!is_available_)
    return base::fail(errc::unavailable);
  std::vector<row> found;
  if (range.until <= range.from)
    return found;
  auto first = rows_.lower_bound(range.from), last = rows_.lower_bound(range.until);
  auto add = [&](auto i) { found.push_back({i->first, i->second.value, i->second.version}); };
  if (o == order::forward)
    for (auto i = first; i != last && found.size() < limit; ++i)
      add(i);
  else
    for (auto i = last; i != first && found.size() < limit;)
      add(--i);
  return found;
}

base::result<bool, errc> memory_engine::resolve(base::u128 id) {
  std::lock_guard guard{mutex_};
  if (!is_available_)
    return base::fail(errc::unavailable);
  auto i = lost_.find({id.a, id.b});
  if (i == lost_.end())
    return base::fail(errc::conflict);
  return i->second;
}

base::result<void, errc> memory_engine::snapshot(const std::string&) { return base::fail(errc::unavailable); }

void memory_engine::wait() const {
  std::chrono::microseconds d;
  {
    std::lock_guard guard{mutex_};
    d = delay_;
  }
  if (d.count() > 0)
    std::this_thread::sleep_for(d);
}

void memory_engine::set_available(bool is_available) {
  std::lock_guard guard{mutex_};
  is_available_ = is_available;
}

void memory_engine::fail_next(std::size_t n, outcome how) {
  std::lock_guard guard{mutex_};
  fails_ = n;
  fails_with_ = how;
}

void memory_engine::lose_next(std::size_t n, bool are_done) {
  std::lock_guard guard{mutex_};
  loses_ = n;
  loses_done_ = are_done;
}

void memory_engine::set_delay(std::chrono::microseconds delay) {
  std::lock_guard guard{mutex_};
  delay_ = delay;
}

std::size_t memory_engine::commit_calls() const {
  std::lock_guard guard{mutex_};
  return calls_;
}

std::size_t memory_engine::rows() const {
  std::lock_guard guard{mutex_};
  return rows_.size();
}

} // namespace storage
