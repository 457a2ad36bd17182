// Life and death of peers, as time and connections show it.
#include "cluster/membership.hpp"
#include <algorithm>

namespace cluster {

using namespace std::chrono_literals;

membership::membership(member own, std::uint64_t process, membership_options o, base::random& r, is_free_function is_free)
  : own_(std::move(own)), process_(process), options_(std::move(o)), random_(r), is_free_(std::move(is_free)), seeds_(options_.seeds.size()) {}

void membership::start(base::time_point now, effects& out) {
  last_ = now;
  has_started_ = true;
  tick(now, out);
}

void membership::look_at_clock(base::time_point now, effects& out) {
  if (!has_started_ || has_left_)
    return;
  constexpr base::duration usual = 250ms, late = 500ms; // from one tick to the next
  auto gap = now - last_;
  last_ = now;
  if (gap > options_.gap)
    return rise(own_.life, now, out);
  if (gap > late) // this process stood still: what was said meanwhile has not even been read
    for (auto& p : peers_)
      p.heard += gap - usual;
}

/// A new life: every connection is closed, peers are greeted again. That they were silent while we were away means nothing.
void membership::rise(life above, base::time_point now, effects& out) {
  own_.life = std::max(own_.life, above) + 1;
  for (auto& [c, l] : lines_)
    out.push_back(close{c});
  lines_.clear();
  out.push_back(reborn{own_.life});
  for (std::size_t n = 1; n < peers_.size(); ++n) {
    auto& p = peers_[n];
    if (p.established)
      out.push_back(down{static_cast<peer_number>(n)});
    p.established = p.dialling = 0;
    p.heard = p.broken = p.next_dial = now;
    p.refusals = p.attempts = 0;
    p.has_redialled = false;
  }
  for (auto& s : seeds_)
    s = {};
}

void membership::tick(base::time_point now, effects& out) {
  if (has_left_ || !has_started_)
    return;
  std::vector<connection> late;
  for (const auto& [c, l] : lines_)
    if ((l.to == self || peers_[l.to].established != c) && now - behind_ - l.since > (l.is_open ? options_.greeting_limit : options_.dial_limit))
      late.push_back(c);
  for (auto c : late) {
    auto i = lines_.find(c);
    if (i == lines_.end())
      continue; // went with another one
    out.push_back(close{c});
    if (i->second.is_dialled)
      dial_failed(c, false, now, out);
    else
      forget_line(c);
  }
  for (std::size_t n = 1; n < peers_.size(); ++n)
    tick_peer(static_cast<peer_number>(n), now, out);
  dial_seeds(now, out);
}

void membership::tick_peer(peer_number n, base::time_point now, effects& out) {
  auto& p = peers_[n];
  auto unheard = silence(p, now);
  if (p.state == peer_state::alive && unheard >= options_.suspected_after) {
    p.state = peer_state::suspected;
    out.push_back(suspect{n, true});
  }
  if (p.state == peer_state::suspected && unheard >= options_.dead_after)
    bury(n, peer_state::dead, false, out);
  if (p.established && !p.has_redialled && unheard >= options_.redial_after) {
    p.has_redialled = true;
    drop(p.established, out);
    p.next_dial = now;
  }
  if (!p.established && !p.dialling && p.state != peer_state::left && now >= p.next_dial && !p.who.address.empty())
    dial_peer(n, now, out);
}

void membership::dial_peer(peer_number n, base::time_point now, effects& out) {
  auto& p = peers_[n];
  auto c = next_connection();
  p.dialling = c;
  p.dialled = now;
  lines_[c] = {n, no_seed, now, true, false};
  out.push_back(dial{c, p.who.address});
}

/// A seed is dialled as long as nobody who is alive answered there: it may be the way to the other half of a split, or the
/// name of a node whose address has changed.
void membership::dial_seeds(base::time_point now, effects& out) {
  for (std::size_t i = 0; i < seeds_.size(); ++i) {
    auto& s = seeds_[i];
    const auto& address = options_.seeds[i];
    bool is_reached = address == own_.address || s.node == own_.node;
    for (std::size_t n = 1; n < peers_.size() && !is_reached; ++n)
      is_reached = (peers_[n].who.address == address || (s.node && peers_[n].who.node == s.node))
                   && (peers_[n].state == peer_state::alive || peers_[n].state == peer_state::suspected);
    if (is_reached || s.dialling || now < s.next_dial)
      continue;
    s.dialling = next_connection();
    lines_[s.dialling] = {self, i, now, true, false};
    out.push_back(dial{s.dialling, address});
  }
}

void membership::dialled(connection c, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return out.push_back(close{c});
  i->second.is_open = true;
  i->second.since = now;
  out.push_back(greet{c, i->second.to, make_greeting(i->second.to, false), i->second.to != self});
}

base::duration membership::pause(std::uint32_t attempts) {
  auto most = 250ms * (1 << std::min(attempts, 4u)); // up to 4 s
  return most / 2 + std::chrono::nanoseconds{static_cast<std::int64_t>(random_.number() % static_cast<std::uint64_t>(std::chrono::nanoseconds{most}.count()))};
}

void membership::dial_failed(connection c, bool is_refused, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  auto l = i->second;
  forget_line(c);
  if (l.to == self) {
    if (l.seed != no_seed)
      seeds_[l.seed].next_dial = now + pause(++seeds_[l.seed].attempts);
    return;
  }
  auto& p = peers_[l.to];
  bool is_here = p.state == peer_state::alive || p.state == peer_state::suspected;
  ++p.attempts;
  p.next_dial = now + (is_here ? base::duration{200ms} : pause(p.attempts));
  if (p.established)
    return;
  p.refusals = is_refused ? p.refusals + 1 : 0;
  if (p.state == peer_state::dead && p.refusals >= 2) // it was silent, and its machine is back without it
    p.is_process_gone = true;
  if (!is_here)
    return;
  // Its machine answers that nobody listens, again and again, after the connection was reset: the process is gone.
  if (p.refusals >= 2 && now - p.broken >= options_.refused_for)
    bury(l.to, peer_state::dead, true, out);
}

void membership::accepted(connection c, base::time_point now, effects& out) {
  std::size_t strangers = 0;
  for (const auto& [number, l] : lines_)
    strangers += !l.is_dialled && l.to == self;
  if (has_left_ || strangers >= options_.most_strangers)
    return out.push_back(close{c});
  lines_[c] = {self, no_seed, now, false, true};
}

void membership::forget_line(connection c) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  if (auto& l = i->second; l.to != self) {
    auto& p = peers_[l.to];
    if (p.dialling == c)
      p.dialling = 0;
    if (p.established == c)
      p.established = 0;
  } else if (l.seed != no_seed && seeds_[l.seed].dialling == c) {
    seeds_[l.seed].dialling = 0;
  }
  lines_.erase(i);
}

/// Closes it, with what follows for the peer.
void membership::drop(connection c, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  auto to = i->second.to;
  bool was_established = to != self && peers_[to].established == c;
  forget_line(c);
  out.push_back(close{c});
  if (was_established)
    out.push_back(down{to});
}

void membership::broken(connection c, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  auto l = i->second;
  if (l.to == self || peers_[l.to].established != c)
    return l.is_dialled ? dial_failed(c, false, now, out) : forget_line(c);
  forget_line(c);
  auto& p = peers_[l.to];
  p.broken = now;
  p.refusals = p.attempts = 0;
  p.next_dial = now + (own_.node < p.who.node ? base::duration{} : base::duration{100ms}); // not both at once
  out.push_back(down{l.to});
}

std::optional<peer_number> membership::heard(connection c, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end() || i->second.to == self || peers_[i->second.to].established != c)
    return std::nullopt;
  auto& p = peers_[i->second.to];
  p.heard = now;
  p.has_redialled = false;
  if (p.state == peer_state::suspected) {
    p.state = peer_state::alive;
    out.push_back(suspect{i->second.to, false});
  }
  return i->second.to;
}

/// That life is over for us. Whoever it is must come back with another one.
void membership::bury(peer_number n, peer_state as, bool is_process_gone, effects& out) {
  auto& p = peers_[n];
  bool was_here = p.state == peer_state::alive || p.state == peer_state::suspected;
  p.state = as;
  p.is_process_gone = is_process_gone;
  p.gone = last_;
  p.dead_life = std::max(p.dead_life, p.who.life);
  p.refusals = 0;
  if (p.established)
    drop(p.established, out);
  if (p.dialling) {
    out.push_back(close{p.dialling});
    forget_line(p.dialling);
  }
  if (was_here)
    out.push_back(ended{n, p.who.life, false, is_process_gone});
}

void membership::leave(base::time_point, effects& out) {
  has_left_ = true;
  for (auto& [c, l] : lines_) {
    if (l.is_open)
      out.push_back(part{c, {refusal::leaving, own_.life, own_.node}});
    out.push_back(close{c});
  }
  lines_.clear();
  for (auto& p : peers_)
    p.established = p.dialling = 0;
}

void membership::hang_up(connection c, refusal why, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  if (i->second.is_open)
    out.push_back(part{c, {why, 0, own_.node}});
  auto to = i->second.to;
  out.push_back(refused{to == self ? std::string{} : peers_[to].who.name, why, true});
  if (to != self)
    peers_[to].next_dial = now + pause(2);
  drop(c, out);
}

std::vector<member> membership::alive() const {
  std::vector<member> all;
  for (std::size_t n = 1; n < peers_.size(); ++n)
    if (peers_[n].state == peer_state::alive)
      all.push_back(peers_[n].who);
  return all;
}

membership::reach membership::reachable() const {
  reach r;
  for (std::size_t n = 1; n < peers_.size(); ++n) {
    const auto& p = peers_[n];
    r.reached += p.state == peer_state::alive;
    r.missing += p.state == peer_state::suspected || (p.state == peer_state::dead && !p.is_process_gone);
  }
  return r;
}

std::optional<peer_number> membership::find(node_id n) const {
  for (std::size_t i = 1; i < peers_.size(); ++i)
    if (peers_[i].who.node == n)
      return static_cast<peer_number>(i);
  return std::nullopt;
}

/// What still names it by its number elsewhere is a matter of seconds; that one life of it was dead is forgotten with it.
std::optional<peer_number> membership::longest_gone() const {
  std::optional<peer_number> oldest;
  for (std::size_t i = 1; i < peers_.size(); ++i) {
    const auto& p = peers_[i];
    auto n = static_cast<peer_number>(i);
    bool is_here = p.state == peer_state::alive || p.state == peer_state::suspected;
    if (!is_here && !p.established && last_ - p.gone >= options_.reuse_after && (!oldest || p.gone < peers_[*oldest].gone) && is_free_(n))
      oldest = n;
  }
  return oldest;
}

std::optional<peer_number> membership::add(const member& m) {
  std::optional<peer_number> n;
  if (peers_.size() < most_peers) {
    n = static_cast<peer_number>(peers_.size());
    peers_.emplace_back();
  } else if ((n = longest_gone())) {
    if (auto c = peers_[*n].dialling)
      forget_line(c); // it is closed when it comes to something
    peers_[*n] = {};
  }
  if (n) {
    peers_[*n].who = m;
    peers_[*n].gone = last_;
  }
  return n;
}

peer_number membership::number_of(node_id n) {
  if (auto found = find(n))
    return *found;
  auto fresh = add({n, 0, {}, {}, 1});
  return fresh ? *fresh : self;
}

void membership::on_members(const std::vector<member>& known, base::time_point now) {
  for (const auto& m : known) {
    if (m.node == own_.node)
      continue;
    auto found = find(m.node);
    if (!found) {
      if (auto fresh = add(m)) {
        peers_[*fresh].who.life = 0; // hearsay
        peers_[*fresh].next_dial = now;
      }
      continue;
    }
    auto& p = peers_[*found];
    bool is_here = p.state == peer_state::alive || p.state == peer_state::suspected;
    if (is_here || m.life <= std::max(p.dead_life, p.who.life))
      continue; // we know better, or it is the life that we have buried
    p.who.address = m.address;
    if (p.state == peer_state::left)
      p.state = peer_state::known;
    p.next_dial = std::min(p.next_dial, now);
  }
}

} // namespace cluster
