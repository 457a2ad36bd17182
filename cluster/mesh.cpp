// Membership, table and links of one node, put together.
#include "cluster/mesh.hpp"
#include "cluster/codec.hpp"
#include <algorithm>

namespace cluster {

mesh::mesh(member own, std::uint64_t process, mesh_options o, table& rows, base::random& r)
  : members_(own, process, std::move(o.members), r, [this](peer_number n) { return rows_.is_free(n) && !link_to(n); }),
    rows_(rows, own.node, o.rows), link_options_(o.stanzas), pace_(o.pace), random_(r),
    room_(o.pace.burst) {
  rows_.begin(own.life);
}

mesh::peer& mesh::at(peer_number n) {
  if (peers_.size() <= n)
    peers_.resize(n + 1u);
  return peers_[n];
}

/// Every event begins here: a gap of the own clock comes before anything else.
void mesh::begin(base::time_point now, effects& out) {
  members_.look_at_clock(now, todo_);
  carry(now, out);
}

void mesh::start(base::time_point now, effects& out) {
  forget_at_ = now + members_.options().dead_after;
  members_.start(now, todo_);
  carry(now, out);
}

void mesh::tick(base::time_point now, effects& out) {
  begin(now, out);
  members_.tick(now, todo_);
  carry(now, out);
  if (forget_at_ && now >= *forget_at_) {
    forget_at_.reset();
    for (std::size_t n = 1; n < members_.peers().size(); ++n)
      if (auto number = static_cast<peer_number>(n); members_.at(number).state == peer_state::known)
        rows_.dead(number);
  }
  const auto& o = members_.options();
  for (std::size_t n = 1; n < peers_.size(); ++n)
    if (auto& p = peers_[n]; p.established && (now - p.spoken >= o.heartbeat || now - p.gossiped >= o.gossip))
      p.is_dirty = true;
  go_on(now, out);
}

void mesh::go_on(base::time_point, effects& out) {
  if (rows_.purge(out.rows))
    every_peer_is_dirty(); // one may have waited for it
  rows_.show(out.rows);
}

base::time_point mesh::wanted_at() const {
  return rows_.has_work() ? base::time_point{} : next_turn_.value_or(next_due_);
}

void mesh::refill(base::time_point now) {
  auto a_second = std::max(pace_.frames, pace_.of_peer * static_cast<double>(peers_.size() - 1));
  room_ = std::min(pace_.burst, room_ + a_second * std::chrono::duration<double>(now - refilled_).count());
  refilled_ = now;
}

void mesh::dialled(connection c, base::time_point now, effects& out) {
  begin(now, out);
  members_.dialled(c, now, todo_);
  carry(now, out);
}

void mesh::dial_failed(connection c, bool is_refused, base::time_point now, effects& out) {
  begin(now, out);
  members_.dial_failed(c, is_refused, now, todo_);
  carry(now, out);
}

void mesh::accepted(connection c, base::time_point now, effects& out) {
  begin(now, out);
  members_.accepted(c, now, todo_);
  carry(now, out);
}

void mesh::broken(connection c, base::time_point now, effects& out) {
  begin(now, out);
  members_.broken(c, now, todo_);
  carry(now, out);
}

void mesh::received(connection c, std::string_view bytes, base::time_point now, effects& out) {
  begin(now, out);
  ++counters_.frames_in;
  counters_.bytes_in += bytes.size();
  auto f = decode(bytes);
  if (!f) {
    ++counters_.malformed;
    members_.hang_up(c, refusal::malformed, now, todo_);
    return carry(now, out);
  }
  if (f->farewell)
    members_.on_farewell(c, *f->farewell, now, todo_);
  else if (f->greeting)
    members_.on_greeting(c, *f->greeting, now, todo_);
  auto from = members_.heard(c, now, todo_);
  carry(now, out);
  if (!from || f->greeting || f->farewell) // a greeting stands alone; what comes over no peer's connection is dropped
    return;
  auto& p = at(*from);
  if (f->heartbeat)
    out.are_candidates_new |= members_.on_heartbeat(*from, *f->heartbeat);
  members_.on_members(f->members, now);
  auto rows = rows_.receive(*from, *f, out.rows);
  link_news got;
  auto stanzas = p.link->receive(*f, got);
  take(*from, std::move(got), out);
  counters_.replayed += rows == replica::verdict::replayed || stanzas == link::verdict::replayed;
  if (rows == replica::verdict::hostile || stanzas == link::verdict::hostile) {
    ++counters_.hostile;
    members_.hang_up(c, refusal::malformed, now, todo_);
    carry(now, out);
  }
  p.is_link_dirty = true;
  p.is_dirty |= f->changes || f->sync_request || !f->sync_parts.empty() || f->sync_start || f->digest || f->applied;
}

void mesh::written(connection c, base::time_point now, effects& out) {
  begin(now, out);
  for (auto& p : peers_)
    if (p.established == c && p.in_flight > 0) {
      --p.in_flight;
      p.is_link_dirty = true;
      p.is_dirty |= p.said_rows;
    }
}

std::vector<connection> mesh::waiting_for_writes() const {
  std::vector<connection> all;
  for (const auto& p : peers_)
    if (p.established && p.in_flight > 0 && (p.is_dirty || p.is_link_dirty || p.said_rows))
      all.push_back(p.established);
  return all;
}

void mesh::take(peer_number n, link_news&& got, effects& out) {
  auto add = [](auto& to, auto& some) {
    if (to.empty())
      to.swap(some);
    else
      std::move(some.begin(), some.end(), std::back_inserter(to));
  };
  out.arrived.reserve(out.arrived.size() + got.arrived.size());
  for (auto& p : got.arrived) {
    if (p.what.what)
      p.what.what->completion.node = n;
    out.arrived.push_back({n, std::move(p)});
  }
  counters_.malformed += got.unreadable;
  out.unreadable += got.unreadable;
  add(out.ended, got.ended);
  add(out.returned, got.returned);
}

void mesh::carry(base::time_point now, effects& out) {
  while (!todo_.empty()) {
    auto todo = std::exchange(todo_, {});
    for (const auto& e : todo)
      std::visit([&](const auto& one) { carry(one, now, out); }, e);
  }
}

void mesh::carry(const membership::dial& e, base::time_point, effects& out) { out.net.push_back(effects::dial{e.c, e.address}); }
void mesh::carry(const membership::close& e, base::time_point, effects& out) { out.net.push_back(effects::close{e.c}); }
void mesh::carry(const membership::refused& e, base::time_point, effects& out) { out.refused.push_back(e); }

void mesh::carry(const membership::greet& e, base::time_point, effects& out) {
  frame f;
  f.greeting = e.what;
  if (e.is_known)
    if (const auto& l = at(e.to).link) {
      f.greeting->link = l->name();
      f.greeting->taken = l->taken();
      f.greeting->completions_taken = l->completions_taken();
    }
  put(e.c, f, out);
}

void mesh::carry(const membership::part& e, base::time_point, effects& out) {
  frame f;
  f.farewell = e.what;
  put(e.c, f, out);
}

void mesh::carry(const membership::up& e, base::time_point now, effects& out) {
  auto& p = at(e.peer);
  // Whoever answers decides: the link that both still have goes on, else there is a new one on both sides.
  if (p.link && p.link->name() == e.link) {
    p.link->resume(e.taken, e.completions_taken);
  } else {
    end_link(p, out);
    p.link = std::make_unique<cluster::link>(e.is_answered ? e.link : random_.number() | 1, ++last_generation_, link_options_);
  }
  p.link->speak(e.version);
  p.established = e.c;
  p.in_flight = 0;
  p.spoken = p.gossiped = now - members_.options().gossip;
  p.is_held = false;
  p.is_dirty = true;
  rows_.connected(e.peer, members_.at(e.peer).who.node, e.life, out.rows);
  if (e.is_new)
    out.peers.push_back({e.peer, peer_state::alive, e.life, false});
}

void mesh::carry(const membership::down& e, base::time_point, effects&) {
  at(e.peer).established = 0;
  rows_.disconnected(e.peer);
}

void mesh::carry(const membership::ended& e, base::time_point, effects& out) {
  auto& p = at(e.peer);
  p.established = 0;
  if (e.is_replaced)
    return; // its rows stay until those of the next life are compared with them; and the link, if that one still has it
  end_link(p, out);
  rows_.dead(e.peer);
  out.peers.push_back({e.peer, members_.at(e.peer).state, e.life, e.is_process_gone});
}

void mesh::carry(const membership::suspect& e, base::time_point, effects& out) {
  auto& p = at(e.peer);
  p.is_held = e.is;
  p.is_dirty = true;
  out.peers.push_back({e.peer, e.is ? peer_state::suspected : peer_state::alive, members_.at(e.peer).who.life, false});
}

void mesh::carry(const membership::reborn& e, base::time_point, effects& out) {
  for (std::size_t n = 1; n < peers_.size(); ++n) {
    peers_[n].established = 0; // a link goes on where the peer has not given this node up: the greetings tell
    rows_.disconnected(static_cast<peer_number>(n));
  }
  rows_.begin(e.life);
  out.reborn = e.life;
}

void mesh::end_link(peer& p, effects& out) {
  if (!p.link)
    return;
  link_news got;
  p.link->close(got);
  std::move(got.returned.begin(), got.returned.end(), std::back_inserter(out.returned));
  p.link.reset();
}

void mesh::publish(const row& r, base::time_point now, effects& out) {
  begin(now, out);
  rows_.publish(r, out.rows);
  every_peer_is_dirty();
}

void mesh::withdraw(const row& r, base::time_point now, effects& out) {
  begin(now, out);
  rows_.withdraw(r);
  every_peer_is_dirty();
}

base::room mesh::send(peer_number to, parcel&& p, base::time_point now, effects& out) {
  begin(now, out);
  auto& peer = at(to);
  if (!peer.link)
    return base::room::full;
  auto room = peer.link->send(std::move(p));
  peer.is_link_dirty = true;
  return room;
}

void mesh::complete(peer_number from, const xmpp::completion_id& id, ending how, base::time_point now, effects& out, xmpp::error_ref why) {
  begin(now, out);
  auto& p = at(from);
  if (!p.link || p.link->generation() != id.number)
    return; // of an earlier life: its sender has routed it again
  p.link->complete(id.session, how, std::move(why));
  p.is_link_dirty = true;
}

void mesh::handled(peer_number from, std::uint64_t stanzas, std::uint64_t bytes, base::time_point now, effects& out) {
  begin(now, out);
  if (auto& p = at(from); p.link) {
    p.link->handled(stanzas, bytes);
    p.is_link_dirty = true;
  }
}

bool mesh::load(const storage::row& r) {
  return rows_.load(r, [this](node_id n) { return members_.number_of(n); });
}

void mesh::drain(base::time_point now, effects& out) {
  begin(now, out);
  members_.drain();
  for (auto& p : peers_)
    p.spoken = {}; // said with the next heartbeat, which is now
  every_peer_is_dirty();
}

void mesh::leave(base::time_point now, effects& out) {
  begin(now, out);
  next_turn_.reset();
  room_ = pace_.burst;
  every_peer_is_dirty();
  flush(now, out); // what there is to say comes before the farewell
  members_.leave(now, todo_);
  carry(now, out);
  for (auto& p : peers_) {
    p.established = 0;
    end_link(p, out);
  }
}

void mesh::every_peer_is_dirty() {
  for (auto& p : peers_)
    p.is_dirty = true;
}

void mesh::flush(base::time_point now, effects& out) {
  if (next_turn_) {
    if (now < *next_turn_)
      return;
    next_turn_.reset();
    refill(now);
  }
  next_due_ = base::time_point::max();
  for (auto left = peers_.size(); left > 1 && !next_turn_; --left) { // who comes in vain is first the next time
    auto next = last_written_ + 1 < peers_.size() ? last_written_ + 1 : 1;
    flush(static_cast<peer_number>(next), now, out);
    if (!next_turn_)
      last_written_ = next;
  }
}

/// What the link has to say goes now; else it is known when.
bool mesh::is_due(peer& p, base::time_point now) {
  auto what = p.link->wants_to_say(p.is_held);
  p.is_link_dirty = what != link::urgency::nothing;
  if (!p.is_link_dirty)
    return false;
  if (!p.totals_at)
    p.totals_at = now + pace_.totals;
  if (what != link::urgency::may_wait_long && !p.answers_at)
    p.answers_at = now + pace_.answers;
  auto due = std::min(*p.totals_at, p.answers_at.value_or(*p.totals_at));
  if (what == link::urgency::soon)
    due = std::min(due, p.stanzas_at);
  else if (what == link::urgency::now)
    due = now;
  if (now < due)
    next_due_ = std::min(next_due_, due);
  return now >= due;
}

/// One write in flight: what gathers meanwhile goes with the next.
void mesh::flush(peer_number n, base::time_point now, effects& out) {
  auto& p = at(n);
  if (!(p.is_dirty || p.is_link_dirty) || !p.established || p.in_flight > 0 || next_turn_)
    return;
  if (!p.is_dirty && !is_due(p, now))
    return;
  if (room_ < 1)
    refill(now);
  if (room_ < 1) {
    next_turn_ = now + pace_.turn;
    return;
  }
  p.is_dirty = p.is_link_dirty = false;
  p.answers_at.reset();
  p.totals_at.reset();
  p.stanzas_at = std::max(p.stanzas_at, now - pace_.at_once * pace_.apart) + pace_.apart;
  frame f;
  const auto& o = members_.options();
  rows_.fill(n, f, now);
  p.link->fill(f, p.is_held);
  p.is_link_dirty = p.link->wants_to_say(p.is_held) != link::urgency::nothing; // what this frame does not hold
  if (f.stanzas && f.stanzas->lent.size() >= pace_.many)
    p.stanzas_at += pace_.apart_of_many - pace_.apart;
  if (now - p.gossiped >= o.gossip) {
    p.gossiped = now;
    f.members = members_.alive();
  }
  if (now - p.spoken >= o.heartbeat) {
    p.spoken = now;
    f.heartbeat = heartbeat{members_.is_draining()};
  }
  p.said_rows = f.changes || !f.sync_parts.empty();
  if (f.is_empty())
    return;
  ++p.in_flight;
  --room_;
  put(p.established, f, out);
}

void mesh::put(connection c, const frame& f, effects& out) {
  auto bytes = encode(f);
  ++counters_.frames_out;
  counters_.bytes_out += bytes.size();
  out.net.push_back(effects::write{c, std::move(bytes)});
}

std::vector<candidate> mesh::candidates() const {
  std::vector<candidate> all;
  if (!members_.is_draining())
    all.push_back({members_.own().node, self, members_.own().reactors});
  for (std::size_t n = 1; n < members_.peers().size(); ++n)
    if (const auto& p = members_.at(static_cast<peer_number>(n)); (p.state == peer_state::alive || p.state == peer_state::suspected) && !p.is_draining)
      all.push_back({p.who.node, static_cast<peer_number>(n), p.who.reactors});
  std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.node < b.node; });
  return all;
}

bool mesh::misses_somebody() const {
  const auto& all = members_.peers();
  return std::any_of(all.begin() + 1, all.end(), [](auto& p) { return p.state == peer_state::suspected || p.state == peer_state::dead; });
}

} // namespace cluster
