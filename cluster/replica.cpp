// Replication of the table: own changes out, peers' changes in.
#include "cluster/replica.hpp"
#include "cluster/codec.hpp"
#include <algorithm>

namespace cluster {

namespace {
/// Of a row in a frame, at most: everything but the name is small.
std::size_t cost(const row& r) { return r.name->full().size() + 80; }
} // namespace

replica::peer& replica::at(peer_number n) {
  if (peers_.size() <= n)
    peers_.resize(n + 1u);
  return peers_[n];
}

void replica::begin(life own) {
  own_ = own;
  sequence_ = 0;
  log_first_ = 1;
  log_.clear();
  for (auto& p : peers_)
    p.out = {};
}

void replica::log(change c) {
  ++sequence_;
  log_.push_back(std::move(c));
  auto slowest = sequence_ + 1; // what every peer has confirmed nobody asks for again soon
  for (auto& p : peers_)
    if (p.is_connected)
      slowest = std::min(slowest, p.out.confirmed + 1);
  constexpr std::size_t kept = 1'024; // for peers that are away for a moment
  while (log_.size() > options_.most_log || (log_.size() > kept && log_first_ < slowest)) {
    log_.pop_front();
    ++log_first_;
  }
}

void replica::publish(const row& r, news& out) {
  auto put = table_.put(self, r);
  if (!put)
    return;
  clock_.see(r.clock);
  log({r, false});
  if (put.is_beaten)
    out.conflicts.push_back(r);
  for (auto& loser : put.beaten) // two of this node: the account settles that; here as a safety net
    out.conflicts.push_back(std::move(loser));
}

void replica::withdraw(const row& r) {
  if (table_.remove(self, r))
    log({r, true});
}

void replica::connected(peer_number number, node_id node, life of_peer, news& out) {
  auto& p = at(number);
  if (p.is_purging) { // what its last life has left must not mix with this one's, so it goes first
    auto i = std::find_if(purging_.begin(), purging_.end(), [&](auto& one) { return one.number == number; });
    std::rotate(purging_.begin(), i, i + 1);
    purge(out);
  }
  p.node = node;
  table_.set_node(number, node);
  bool is_same = p.in.of == of_peer && p.is_known && p.in.was_answered;
  p.in.with_digests = !is_same || p.in.buckets_left > 0;
  if (!is_same) {
    p.in.applied = p.in.confirmed = 0;
    p.in.was_answered = false;
  }
  p.in.of = of_peer;
  p.in.is_started = false;
  p.in.wants_request = true;
  p.in.collected.clear();
  p.out = {};
  if (!p.is_known && !p.is_purging && table_.size(number) > 0)
    showing_.push_back({number, 0});
  p.is_connected = p.is_known = true;
  table_.set_present(number, !p.is_purging);
}

void replica::disconnected(peer_number number) {
  auto& p = at(number);
  p.is_connected = false;
  p.in.is_started = false;
  p.in.collected.clear();
  p.out = {};
}

void replica::dead(peer_number number) {
  auto& p = at(number);
  disconnected(number);
  if (p.is_known || table_.size(number) > 0) {
    table_.set_present(number, false);
    if (!std::exchange(p.is_purging, true))
      purging_.push_back({number, p.is_known});
  }
  if (p.node) {
    std::string from{disk_prefix};
    base::put_be64(from, p.node);
    auto until = from + std::string(1, '\xff');
    waiting_.clear(); // what is written from now on must come behind it
    unwritten_.push_back(storage::erase_range{std::move(from), std::move(until)});
  }
  late_.erase(number);
  p.is_known = false;
  p.in = {};
}

bool replica::purge(news& out) {
  if (purging_.empty())
    return false;
  auto [number, was_seen] = purging_.front();
  if (!table_.purge(number, options_.purge_slice, [&, n = number, tell = was_seen](const row& r) {
        if (tell)
          out.lost.push_back({n, r});
      }))
    return false;
  purging_.pop_front();
  auto& p = at(number);
  p.is_purging = false;
  table_.set_present(number, p.is_known);
  return true;
}

void replica::show(news& out) {
  constexpr std::size_t enough = 1'024; // rows: some ms for those who are told
  while (!showing_.empty() && out.returned.size() < enough) {
    auto& [number, bucket] = showing_.front();
    if (at(number).is_known)
      table_.for_each(number, bucket, [&, n = number](const row& r) {
        out.appeared.push_back({n, r});
        out.returned.push_back({n, r});
      });
    if (++bucket == table::bucket_count || !at(number).is_known)
      showing_.pop_front();
  }
}

void replica::ask_again(peer& p) {
  p.in.wants_request = true;
  p.in.with_digests = true;
  p.in.is_started = false; // what is still on its way belongs to the old thread
  p.in.collected.clear();
}

replica::verdict replica::receive(peer_number number, const frame& f, news& out) {
  auto& p = at(number);
  auto worst = verdict::fine;
  auto judge = [&](verdict v) {
    worst = std::max(worst, v);
    if (v == verdict::hostile)
      ++counters_.refused;
    if (v == verdict::replayed)
      ++counters_.replays;
    return v != verdict::hostile;
  };
  if (f.sync_request) {
    if (f.sync_request->node != me_)
      judge(verdict::hostile);
    else if (f.sync_request->life == own_) // else it has not heard of the new life yet: its next greeting tells
      on_request(p, *f.sync_request);
  }
  if (f.sync_start && !judge(on_start(p, *f.sync_start)))
    return worst;
  if (f.changes && !judge(on_changes(number, p, *f.changes, out)))
    return worst;
  for (const auto& part : f.sync_parts)
    if (!judge(on_part(number, p, part, out)))
      return worst;
  if (f.applied) {
    if (f.applied > sequence_)
      judge(verdict::hostile);
    else
      p.out.confirmed = std::max(p.out.confirmed, f.applied);
  }
  // More than was applied: changes have been lost on the way, which no connection does, and which must not last.
  if (f.digest && p.in.is_started && p.in.buckets_left == 0
      && (f.digest->applied > p.in.applied || (f.digest->applied == p.in.applied && f.digest->sum != table_.digest(number)))) {
    ++counters_.divergences;
    ask_again(p);
  }
  return worst;
}

void replica::on_request(peer& p, const sync_request& r) {
  auto& o = p.out;
  o = {};
  o.must_start = true;
  if (r.digests.empty()) {
    o.needs_digests = r.applied > sequence_ || r.applied + 1 < log_first_;
    o.is_streaming = !o.needs_digests;
    o.start = r.applied;
  } else {
    for (std::uint32_t b = 0; b < table::bucket_count; ++b)
      if (r.digests[b] != table_.digest(self, b))
        o.buckets.push_back(b);
    o.is_streaming = true;
    o.start = sequence_;
    ++counters_.syncs;
  }
  o.start_buckets = static_cast<std::uint32_t>(o.buckets.size());
  o.next = o.start + 1;
  o.confirmed = o.start;
}

replica::verdict replica::on_start(peer& p, const sync_start& s) {
  if (s.node != p.node || s.life != p.in.of)
    return verdict::hostile;
  if (s.needs_digests) {
    ask_again(p);
    return verdict::fine;
  }
  if (p.in.wants_request)
    return verdict::fine; // the answer to an earlier request
  p.in.is_started = p.in.was_answered = true;
  p.in.applied = s.applied;
  p.in.buckets_left = s.buckets;
  p.in.collected.clear();
  return verdict::fine;
}

replica::verdict replica::on_changes(peer_number n, peer& p, const changes& c, news& out) {
  if (c.node != p.node || c.life != p.in.of)
    return verdict::hostile; // rows of somebody else
  if (!p.in.is_started)
    return verdict::replayed; // sent before it heard that we start anew
  auto seen = p.in.applied >= c.first ? p.in.applied - c.first + 1 : 0;
  if (c.first > p.in.applied + 1) {
    ask_again(p);
    return verdict::hostile; // a connection keeps order, so this is no accident
  }
  if (seen >= c.items.size())
    return verdict::replayed;
  for (auto i = seen; i < c.items.size(); ++i)
    apply(n, c.items[i], out);
  p.in.applied = c.first + c.items.size() - 1;
  return seen > 0 ? verdict::replayed : verdict::fine;
}

void replica::apply(peer_number n, const change& c, news& out) {
  ++counters_.changes_in;
  if (!c.is_removal)
    return appear(n, c.what, out);
  if (table_.remove(n, c.what)) {
    write(n, c.what, true);
    out.left.push_back({n, c.what});
  }
}

void replica::appear(peer_number n, const row& r, news& out) {
  clock_.see(r.clock);
  auto put = table_.put(n, r);
  if (!put)
    return;
  write(n, r, false);
  if (put.is_new)
    out.appeared.push_back({n, r});
  for (auto& loser : put.beaten)
    out.conflicts.push_back(std::move(loser));
}

replica::verdict replica::on_part(peer_number n, peer& p, const sync_part& part, news& out) {
  if (part.node != p.node || part.life != p.in.of)
    return verdict::hostile;
  for (const auto& r : part.rows)
    if (table::bucket_of(r) != part.bucket)
      return verdict::hostile;
  if (!p.in.is_started)
    return verdict::replayed;
  if (p.in.buckets_left == 0)
    return verdict::hostile;
  if (part.bucket != p.in.bucket)
    p.in.collected.clear();
  p.in.bucket = part.bucket;
  p.in.collected.insert(p.in.collected.end(), part.rows.begin(), part.rows.end());
  if (part.is_last) {
    replace_bucket(n, p, out);
    --p.in.buckets_left;
  }
  return verdict::fine;
}

void replica::replace_bucket(peer_number n, peer& p, news& out) {
  auto& fresh = p.in.collected;
  auto less = [](const row& a, const row& b) {
    return std::tuple(a.session, a.kind, a.name->full()) < std::tuple(b.session, b.kind, b.name->full());
  };
  std::sort(fresh.begin(), fresh.end(), less);
  std::vector<row> gone;
  table_.for_each(n, p.in.bucket, [&](const row& r) {
    auto i = std::lower_bound(fresh.begin(), fresh.end(), r, less);
    if (i == fresh.end() || less(r, *i) || i->epoch < r.epoch)
      gone.push_back(r);
  });
  for (auto& r : gone)
    if (table_.remove(n, r)) {
      write(n, r, true);
      out.lost.push_back({n, std::move(r)});
    }
  auto before = out.appeared.size();
  for (const auto& r : fresh)
    appear(n, r, out);
  out.returned.insert(out.returned.end(), out.appeared.begin() + static_cast<std::ptrdiff_t>(before), out.appeared.end());
  counters_.rows_synced += fresh.size();
  fresh.clear();
}

void replica::fill(peer_number number, frame& f, base::time_point now) {
  auto& p = at(number);
  if (!p.is_connected)
    return;
  if (p.in.wants_request && !p.is_purging) {
    p.in.wants_request = false;
    f.sync_request = sync_request{p.node, p.in.of, p.in.applied, {}};
    for (std::uint32_t b = 0; p.in.with_digests && b < table::bucket_count; ++b)
      f.sync_request->digests.push_back(table_.digest(number, b));
    p.in.with_digests = true;
  }
  if (p.in.is_started && p.in.buckets_left == 0 && p.in.confirmed != p.in.applied)
    f.applied = p.in.confirmed = p.in.applied;
  auto& o = p.out;
  if (o.must_start) {
    o.must_start = false;
    f.sync_start = sync_start{me_, own_, o.start, o.start_buckets, o.needs_digests};
  }
  if (!o.is_streaming)
    return;
  if (o.next < log_first_) { // too slow: it is told to compare instead
    o = {};
    f.sync_start = sync_start{me_, own_, 0, 0, true};
    return;
  }
  std::size_t bytes = 0;
  // Changes first: a part that is made later has them, and comes behind them.
  fill_changes(p, f, bytes);
  if (o.next > sequence_ || !o.rest.empty())
    fill_parts(p, f, bytes);
  if (o.next > sequence_ && o.buckets.empty() && o.rest.empty() && now >= o.digest_due) {
    o.digest_due = now + options_.digest_every;
    f.digest = digest{sequence_, table_.digest(self)};
  }
}

void replica::fill_changes(peer& p, frame& f, std::size_t& bytes) {
  auto& o = p.out;
  if (!o.rest.empty())
    return; // a bucket that is under way is of one moment
  for (; o.next <= sequence_ && bytes < options_.frame_bytes; ++o.next) {
    const auto& c = log_[o.next - log_first_];
    if (!f.changes)
      f.changes = changes{me_, own_, o.next, {}};
    if (f.changes->items.size() == limits::changes)
      return;
    f.changes->items.push_back(c);
    bytes += cost(c.what);
  }
}

void replica::fill_parts(peer& p, frame& f, std::size_t& bytes) {
  auto& o = p.out;
  std::size_t rows = 0;
  while (!o.buckets.empty() && bytes < options_.frame_bytes && rows < limits::rows) {
    auto bucket = o.buckets.front();
    bool is_first = o.rest.empty();
    if (is_first && o.next <= sequence_)
      return; // a change has come meanwhile: it goes first
    if (is_first)
      table_.for_each(self, bucket, [&](const row& r) { o.rest.push_back(r); });
    auto& part = f.sync_parts.emplace_back(sync_part{me_, own_, bucket, false, {}});
    while (!o.rest.empty() && bytes < options_.frame_bytes && rows < limits::rows) {
      bytes += cost(o.rest.back());
      part.rows.push_back(std::move(o.rest.back()));
      o.rest.pop_back();
      ++rows;
    }
    bytes += 32; // an empty one is not free
    part.is_last = o.rest.empty();
    if (part.is_last)
      o.buckets.pop_front();
  }
}

bool replica::is_synced(peer_number number) const {
  const auto* p = at(number);
  return p && p->is_connected && p->in.is_started && p->in.buckets_left == 0;
}

bool replica::is_free(peer_number number) const {
  const auto* p = at(number);
  return table_.size(number) == 0 && !(p && (p->is_connected || p->is_known || p->is_purging));
}

std::uint64_t replica::applied(peer_number number) const {
  const auto* p = at(number);
  return p ? p->in.applied : 0;
}

std::uint64_t replica::lag(peer_number number) const {
  const auto* p = at(number);
  return p && p->is_connected ? sequence_ - std::min(sequence_, p->out.confirmed) : 0;
}

} // namespace cluster
