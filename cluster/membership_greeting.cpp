// The greeting: who may talk to us, as which life, over which connection.
#include "cluster/membership.hpp"
#include <algorithm>

namespace cluster {

using namespace std::chrono_literals;

greeting membership::make_greeting(peer_number to, bool is_answer) const {
  greeting g;
  g.cluster = options_.cluster;
  g.version = options_.version;
  g.oldest_version = options_.oldest_version;
  g.release = options_.release;
  g.self = own_;
  g.process = process_;
  g.profile = xmpp::jid_profile_version;
  g.is_answer = is_answer;
  g.is_draining = is_draining();
  if (to != self) {
    g.to = peers_[to].who.node;
    g.your_dead_life = peers_[to].dead_life;
  }
  return g;
}

/// Its connection stands, and something came over it not long ago.
bool membership::is_well(const peer& p, base::time_point now) const {
  return p.state == peer_state::alive && p.established && silence(p, now) < options_.suspected_after;
}

refusal membership::judge(connection c, const line& l, const greeting& g, base::time_point now) const {
  if (g.cluster != options_.cluster)
    return refusal::wrong_cluster;
  if (g.version < options_.oldest_version || g.oldest_version > options_.version || g.profile != xmpp::jid_profile_version)
    return refusal::incompatible;
  if (g.is_answer != l.is_dialled)
    return refusal::malformed;
  if (g.self.node == own_.node)
    return refusal::duplicate_identity;
  auto found = find(g.self.node);
  for (std::size_t n = 1; n < peers_.size(); ++n)
    if (peers_[n].who.name == g.self.name && peers_[n].who.node != g.self.node && is_well(peers_[n], now))
      return refusal::duplicate_name;
  if (!found)
    return peers_.size() < most_peers || longest_gone() ? refusal::none : refusal::full;
  const auto& p = peers_[*found];
  if (g.self.life <= p.dead_life)
    return refusal::declared_dead;
  bool is_here = p.state == peer_state::alive || p.state == peer_state::suspected;
  if (is_here && g.self.life < p.who.life)
    return refusal::declared_dead;
  if (is_here && g.process != p.process && (g.self.life == p.who.life || is_well(p, now)))
    return refusal::duplicate_identity; // a restarted one's connection would have been reset
  // Somebody who dials a seed does not know yet whom it reaches, nor what link it has with us: it dials us by name next.
  if (is_here && g.to == 0 && !g.is_answer && g.self.life == p.who.life)
    return refusal::busy;
  if (!l.is_dialled && p.dialling && p.dialling != c && !p.established && own_.node < p.who.node)
    return refusal::busy;
  return refusal::none;
}

void membership::on_greeting(connection c, const greeting& g, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  auto l = i->second;
  if (l.to != self && peers_[l.to].established == c)
    return hang_up(c, refusal::malformed, now, out); // one is enough
  if (has_left_)
    return hang_up(c, refusal::leaving, now, out);
  bool is_own_echo = g.self.node == own_.node && g.process == process_;
  if (l.seed != no_seed) {
    seeds_[l.seed].node = g.self.node;
    if (is_own_echo) { // a seed under another of our own names
      seeds_[l.seed].dialling = 0;
      l.seed = no_seed;
    }
  }
  if (is_own_echo) {
    out.push_back(close{c});
    return forget_line(c);
  }
  if (auto why = judge(c, l, g, now); why != refusal::none) {
    auto found = find(g.self.node);
    farewell f{why, 0, own_.node};
    if (why == refusal::declared_dead)
      f.dead_life = std::max(peers_[*found].dead_life, peers_[*found].who.life - (peers_[*found].state == peer_state::alive ? 1 : 0));
    out.push_back(part{c, f});
    if (why != refusal::busy && why != refusal::declared_dead)
      out.push_back(refused{g.self.name, why, true});
    if (l.is_dialled) {
      out.push_back(close{c});
      dial_failed(c, false, now, out);
    } else {
      drop(c, out);
    }
    // Both may have declared the other dead; then both begin anew.
    if (g.to == own_.node && g.self.node != own_.node && g.your_dead_life >= own_.life && why != refusal::wrong_cluster)
      rise(g.your_dead_life, now, out);
    return;
  }
  if (g.to == own_.node && g.your_dead_life >= own_.life) // else it means who was here before us
    return rise(g.your_dead_life, now, out);
  settle_name(g, now, out);
  establish(c, g, now, out);
}

/// A node with this name and another identity that is not well: its disk was lost, this is its successor.
void membership::settle_name(const greeting& g, base::time_point, effects& out) {
  for (std::size_t n = 1; n < peers_.size(); ++n) {
    auto& p = peers_[n];
    if (p.who.name == g.self.name && p.who.node != g.self.node && p.state != peer_state::left)
      bury(static_cast<peer_number>(n), peer_state::left, false, out);
  }
}

void membership::establish(connection c, const greeting& g, base::time_point now, effects& out) {
  auto found = find(g.self.node);
  auto n = found ? *found : *add(g.self);
  auto& p = peers_[n];
  bool was_here = p.state == peer_state::alive || p.state == peer_state::suspected;
  bool is_same = was_here && p.who.life == g.self.life;
  if (auto other = p.established) { // the peer would not have come again if that one still worked
    forget_line(other);
    out.push_back(close{other});
    out.push_back(down{n});
  }
  if (p.dialling && p.dialling != c) {
    out.push_back(close{p.dialling});
    forget_line(p.dialling);
  }
  if (was_here && !is_same)
    out.push_back(ended{n, p.who.life, true, false});
  if (p.state == peer_state::suspected && is_same)
    out.push_back(suspect{n, false});
  auto& l = lines_[c];
  if (l.seed != no_seed)
    seeds_[l.seed].dialling = 0;
  l.to = n;
  p.who = g.self;
  p.release = g.release;
  p.process = g.process;
  p.state = peer_state::alive;
  p.heard = now;
  p.dialling = 0;
  p.established = c;
  p.attempts = p.refusals = 0;
  p.is_draining = g.is_draining;
  p.has_redialled = p.is_process_gone = false;
  p.told = refusal::none;
  out.push_back(up{n, c, g.self.life, !is_same, g.is_answer, g.link, g.taken, g.completions_taken, std::min(g.version, options_.version)});
  if (!g.is_answer)
    out.push_back(greet{c, n, make_greeting(n, true), true});
}

void membership::on_farewell(connection c, const farewell& f, base::time_point now, effects& out) {
  auto i = lines_.find(c);
  if (i == lines_.end())
    return;
  auto l = i->second;
  if (l.seed != no_seed && f.node)
    seeds_[l.seed].node = f.node;
  bool is_established = l.to != self && peers_[l.to].established == c;
  if (f.reason == refusal::declared_dead && f.dead_life >= own_.life)
    return rise(f.dead_life, now, out);
  if (f.reason == refusal::leaving && is_established)
    return bury(l.to, peer_state::left, false, out);
  out.push_back(close{c});
  if (is_established) {
    out.push_back(refused{peers_[l.to].who.name, f.reason, false});
    return broken(c, now, out);
  }
  if (l.to != self && peers_[l.to].told != f.reason && f.reason != refusal::busy) {
    peers_[l.to].told = f.reason;
    out.push_back(refused{peers_[l.to].who.name, f.reason, false});
  } else if (l.to == self && l.seed != no_seed && seeds_[l.seed].attempts == 0) {
    out.push_back(refused{options_.seeds[l.seed], f.reason, false});
  }
  if (l.is_dialled)
    dial_failed(c, false, now, out);
  else
    forget_line(c);
}

} // namespace cluster
