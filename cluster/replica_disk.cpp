// The table's rows on the disk, written behind. Nothing depends on them: they save a returning node the snapshot.
#include "cluster/codec.hpp"
#include "cluster/replica.hpp"
#include <algorithm>

namespace cluster {

namespace {
/// Prefix, owner, kind, session, name: all rows of one owner are one range.
std::string key_of(node_id node, const row& r) {
  std::string key{replica::disk_prefix};
  base::put_be64(key, node);
  key.push_back(static_cast<char>(r.kind));
  base::put_be64(key, r.session);
  key += r.name->full();
  return key;
}

/// The row's that it is about; of a range, where it begins.
std::string_view key_in(const storage::change& c) {
  if (const auto* p = std::get_if<storage::put>(&c))
    return p->key;
  if (const auto* e = std::get_if<storage::erase>(&c))
    return e->key;
  return std::get<storage::erase_range>(c).from;
}
} // namespace

void replica::write(peer_number n, const row& r, bool is_removal) {
  auto key = key_of(at(n).node, r);
  if (unwritten_.size() < options_.most_unwritten || waiting_.contains(key))
    return enqueue(is_removal ? storage::change{storage::erase{std::move(key)}} : storage::change{storage::put{std::move(key), encode(r)}});
  if (is_removal) {
    ++counters_.dropped_writes;
    return;
  }
  ++counters_.late_writes;
  auto& late = late_[n];
  if (auto bucket = table::bucket_of(r); !late.of[bucket]) {
    late.of[bucket] = true;
    ++late.count;
  }
}

void replica::enqueue(storage::change c) {
  auto i = waiting_.find(key_in(c));
  if (i == waiting_.end()) {
    unwritten_.push_back(std::move(c));
    waiting_.emplace(key_in(unwritten_.back()), unwritten_first_ + unwritten_.size() - 1);
    return;
  }
  auto place = i->second;
  waiting_.erase(i); // its key is about to go
  auto& there = unwritten_[place - unwritten_first_] = std::move(c);
  waiting_.emplace(key_in(there), place);
}

/// All rows of buckets of which some found no room.
void replica::write_late_buckets(std::size_t room) {
  while (!late_.empty() && unwritten_.size() < room) {
    auto& [n, late] = *late_.begin();
    auto bucket = static_cast<std::uint32_t>(std::find(late.of.begin(), late.of.end(), true) - late.of.begin());
    late.of[bucket] = false;
    table_.for_each(n, bucket, [&, node = at(n).node](const row& r) { enqueue(storage::put{key_of(node, r), encode(r)}); });
    if (--late.count == 0)
      late_.erase(late_.begin());
  }
}

std::vector<storage::change> replica::take_writes() {
  constexpr std::size_t least = 1'024, most = 8'192; // a batch
  std::vector<storage::change> batch;
  if (is_writing_)
    return batch;
  write_late_buckets(std::min(most, options_.most_unwritten / 2));
  auto size = std::clamp(unwritten_.size() / 4, least, most);
  while (!unwritten_.empty() && batch.size() < size) {
    auto& next = unwritten_.front();
    if (auto i = waiting_.find(key_in(next)); i != waiting_.end() && i->second == unwritten_first_)
      waiting_.erase(i);
    batch.push_back(std::move(next));
    unwritten_.pop_front();
    ++unwritten_first_;
  }
  is_writing_ = !batch.empty();
  return batch;
}

void replica::written(bool is_done) {
  is_writing_ = false;
  if (!is_done)
    ++counters_.failed_writes; // what it held is missing there until the row changes, or a digest says so
}

bool replica::load(const storage::row& r, const std::function<peer_number(node_id)>& number_of) {
  if (r.key.size() < disk_prefix.size() + 17 || !r.key.starts_with(disk_prefix))
    return false;
  auto node = base::get_be64(std::string_view{r.key}.substr(disk_prefix.size()));
  auto what = decode_row(r.value);
  if (!what || node == 0 || node == me_ || key_of(node, *what) != r.key)
    return false;
  auto number = number_of(node);
  auto& p = at(number);
  if (number == self || p.is_connected)
    return false;
  p.node = node;
  table_.set_node(number, node);
  table_.put(number, *what);
  return true;
}

} // namespace cluster
