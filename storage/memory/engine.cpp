// A sorted map under a mutex.
#include "storage/memory/engine.hpp"
#include <algorithm>

namespace storage {

std::vector<outcome> memory_engine::commit(std::span<const batch> batches) {
  std::lock_guard guard{mutex_};
  ++calls_;
  std::vector<outcome> outcomes;
  for (auto& b : batches) {
    if (!is_available_) {
      outcomes.push_back(outcome::unavailable);
      continue;
    }
    bool holds = std::all_of(b.preconditions.begin(), b.preconditions.end(), [&](auto& p) {
      auto i = rows_.find(p.key);
      return (i == rows_.end() ? 0 : i->second.version) == p.expected;
    });
    if (!holds) {
      outcomes.push_back(outcome::conflict);
      continue;
    }
    for (auto& c : b.changes) {
      if (auto* p = std::get_if<put>(&c)) {
        auto& r = rows_[p->key];
        r.value = p->value;
        ++r.version;
      } else if (auto* e = std::get_if<erase>(&c)) {
        rows_.erase(e->key);
      } else {
        auto& r = std::get<erase_range>(c);
        rows_.erase(rows_.lower_bound(r.from), rows_.lower_bound(r.until));
      }
    }
    outcomes.push_back(outcome::done);
  }
  return outcomes;
}

base::result<std::optional<row>, errc> memory_engine::get(std::string_view key) {
  std::lock_guard guard{mutex_};
  if (!is_available_)
    return base::fail(errc::unavailable);
  auto i = rows_.find(key);
  if (i == rows_.end())
    return std::optional<row>{};
  return std::optional<row>{row{i->first, i->second.value, i->second.version}};
}

base::result<std::vector<row>, errc> memory_engine::scan(const key_range& range, order o, std::size_t limit) {
  std::lock_guard guard{mutex_};
  if (!is_available_)
    return base::fail(errc::unavailable);
  std::vector<row> found;
  auto first = rows_.lower_bound(range.from), last = rows_.lower_bound(range.until);
  if (range.until <= range.from)
    return found;
  auto add = [&](auto i) { found.push_back({i->first, i->second.value, i->second.version}); };
  if (o == order::forward)
    for (auto i = first; i != last && found.size() < limit; ++i)
      add(i);
  else
    for (auto i = last; i != first && found.size() < limit;)
      add(--i);
  return found;
}

base::result<bool, errc> memory_engine::resolve(base::u128) { return base::fail(errc::conflict); }
base::result<void, errc> memory_engine::snapshot(const std::string&) { return base::fail(errc::unavailable); }

void memory_engine::set_available(bool is_available) {
  std::lock_guard guard{mutex_};
  is_available_ = is_available;
}

std::size_t memory_engine::commit_calls() const {
  std::lock_guard guard{mutex_};
  return calls_;
}

} // namespace storage
