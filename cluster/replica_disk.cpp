// The table's rows on the disk, written behind. Nothing depends on them: they save a returning node the snapshot.
#include "cluster/codec.hpp"
#include "cluster/replica.hpp"

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
} // namespace

void replica::write(peer_number n, const row& r, bool is_removal) {
  auto key = key_of(at(n).node, r);
  if (is_removal)
    enqueue(storage::erase{std::move(key)});
  else
    enqueue(storage::put{std::move(key), encode(r)});
}

void replica::enqueue(storage::change c) {
  if (unwritten_.size() >= options_.most_unwritten) {
    unwritten_.pop_front();
    ++counters_.dropped_writes;
  }
  unwritten_.push_back(std::move(c));
}

std::vector<storage::change> replica::take_writes() {
  constexpr std::size_t most = 1'024; // a batch
  std::vector<storage::change> batch;
  if (is_writing_)
    return batch;
  while (!unwritten_.empty() && batch.size() < most) {
    batch.push_back(std::move(unwritten_.front()));
    unwritten_.pop_front();
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
