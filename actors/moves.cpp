// Marks, and what waits for them.
#include "actors/moves.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "base/metrics.hpp"
#include <algorithm>

namespace actors {

namespace {
using cluster::control;
using cluster::peer_number;
constexpr std::uint8_t most_hops = 8;
constexpr int id_bits = 48; // of a mark: below the reactor's number
constexpr std::size_t most_waiting = 1'024, most_bytes = 8u << 20; // for one account; on one reactor
constexpr std::size_t most_kept = 1'024; // accounts, before old ones are looked for
constexpr auto remembered = std::chrono::seconds{15}; // what was passed on: no mark is waited for longer
constexpr std::uint8_t came_back = 3; // here, there, and here again

void send_mark(home& at, peer_number to, const move_mark& m, const xmpp::jid_ref& bare) {
  auto p = cluster::make_control(0, {.what = control::kind::passing, .clock = m.id, .code = m.hops, .type = m.depth, .text = m.origin}, {nullptr, bare});
  p.needs_credit = true; // it must not pass what waits for that
  at.for_peers(to_peers::send{to, std::move(p)});
}
} // namespace

bool is_said_by_server(const xmpp::stanza& s, const xmpp::jid& to) { return !s.from || s.from->is_domain() || (s.from->is_bare() && same_bare(*s.from, to)); }

void count_held() {
  static auto& all = base::metrics::make_counter("covey_stanzas_held_total", "Stanzas that waited until what was sent before them to an old node was through.");
  all.add();
}

// --- the mark

void move_mark::arrive(home& at, const xmpp::jid_ref& bare) && {
  auto go_on = [m = std::move(*this), bare](home& there) {
    there.moves.behind_relayed(bare, there.around().peers()->owner_of(*bare).node, m.depth, [m, bare](home& h) { m.look_here(h, bare); });
  };
  if (depth > 0) // what waits here may wait for this very mark
    return go_on(at);
  at.moves.behind_those_from_peers(bare, std::move(go_on));
}

void move_mark::look_here(home& at, const xmpp::jid_ref& bare) const {
  auto& node = at.around();
  if (auto* address = node.registry().charge_if_there(*bare, home::control_cost))
    return at.post_to_entity(*address, [m = *this](entity& e) mutable { e.on_mark(std::move(m)); });
  pass(at, bare, node.peers()->owner_of(*bare).node);
}

void move_mark::go_on(home& at, const xmpp::jid_ref& bare, peer_number owner) const {
  at.moves.behind_relayed(bare, owner, depth, [m = *this, bare, owner](home& there) { m.pass(there, bare, owner); });
}

void move_mark::pass(home& at, const xmpp::jid_ref& bare, peer_number owner) const {
  if (owner == cluster::self || hops == most_hops)
    return answer(at, bare);
  at.moves.pass(*this, bare, owner);
}

void move_mark::answer(home& at, const xmpp::jid_ref& bare) const {
  auto there = at.around().peers()->find(origin);
  if (there == cluster::self)
    return move_keeper::tell(at, id);
  if (there) // else it does not wait for this one any more
    at.for_peers(to_peers::send{*there, cluster::make_control(0, {.what = control::kind::passed, .clock = id}, {nullptr, bare})});
}

void move_mark::have_it_looked_for(home& at, const xmpp::jid_ref& bare) const {
  if (auto there = at.around().peers()->find(origin); there && *there != cluster::self)
    at.for_peers(to_peers::send{*there, cluster::make_control(0, {.what = control::kind::look_again}, {nullptr, bare})});
}

// --- what waits

bool move_keeper::hold(xmpp::delivery& what) {
  if (what.hops > 0)
    return !(relayed_.empty() && from_peers_.empty()) && hold_from_peer(what);
  auto& node = home_.around();
  const auto& to = what.to ? *what.to : *what.what->to;
  auto lately = node.peers()->moved_lately(to);
  bool have_come_back = node.held_from_peers.load(std::memory_order_relaxed) > 0 || !from_peers_.empty();
  if ((!lately && waiting_ == 0 && !have_come_back) || is_said_by_server(*what.what, to)) [[likely]]
    return false;
  auto i = moved_.find(to.hash());
  if (have_come_back && (i == moved_.end() || i->second.waiting.empty()) && hold_with_those_from_peers(what))
    return true;
  if (lately && (i == moved_.end() || i->second.number != lately->number)) {
    auto h = node.find_host(to.domain());
    if (!h || h->is_pinned) // its accounts stay
      return false;
    if (moved_.size() >= std::max(look_at_, most_kept))
      forget_old();
    i = moved_.try_emplace(to.hash()).first;
    i->second.bare = xmpp::bare_of(what.to ? what.to : what.what->to);
    i->second.number = lately->number;
    set_marks(i->second, *lately);
  }
  if (i == moved_.end() || i->second.marks == 0)
    return false;
  auto& m = i->second;
  if (!has_room(m.waiting, what)) { // then order is worth less than that they come
    m.marks = 0;
    std::erase_if(marks_, [&](auto& one) { return one.second == m.bare->hash(); });
    release(m);
    return false;
  }
  if (m.waiting.empty())
    ++waiting_;
  keep(m.waiting, what);
  return true;
}

/// What was sent from here before, and has come back, may be among those that wait with the address's reactor.
bool move_keeper::hold_with_those_from_peers(xmpp::delivery& what) {
  const auto& to = what.to ? what.to : what.what->to;
  if (auto all = from_peers_.find(to->hash()); all != from_peers_.end())
    return keep_if_room(all->second.waiting, what);
  auto reactor = home_.around().reactor_of(*to);
  if (reactor == home_.index() || has_asked_ || !has_room({}, what))
    return false;
  auto bare = xmpp::bare_of(to);
  keep(from_peers_[bare->hash()].waiting, what);
  home_.post(reactor, [bare, me = home_.index()](home& there) {
    there.moves.behind_those_from_peers(bare, [account = bare->hash(), me](home& at) {
      at.post(me, [account](home& mine) {
        mine.moves.has_asked_ = true;
        mine.moves.release_from_peers(account);
        mine.moves.has_asked_ = false;
      });
    });
  });
  return true;
}

/// What this reactor has passed on to a third node before may come back, as the address lives here after all: it comes first.
bool move_keeper::hold_from_peer(xmpp::delivery& what) {
  const auto& to = what.to ? what.to : what.what->to;
  if (what.hops >= came_back)
    return false;
  if (auto all = from_peers_.find(to->hash()); all != from_peers_.end())
    return keep_if_room(all->second.waiting, what);
  auto there = relayed_.find(to->hash());
  if (there == relayed_.end())
    return false;
  auto owner = home_.around().peers()->owner_of(*to).node;
  if (!has_room({}, what) || std::ranges::all_of(there->second, [&](auto& r) { return r.to == owner || !may_come_back(r); }))
    return false;
  auto bare = xmpp::bare_of(to);
  home_.around().held_from_peers.fetch_add(1, std::memory_order_relaxed);
  keep(from_peers_[bare->hash()].waiting, what);
  behind_relayed(bare, owner, 0, [account = bare->hash()](home& at) {
    at.around().held_from_peers.fetch_sub(1, std::memory_order_relaxed);
    at.moves.release_from_peers(account);
  });
  return true;
}

void move_keeper::release_from_peers(std::uint64_t account) {
  auto all = std::move(from_peers_.extract(account).mapped());
  route_late(std::move(all.waiting));
  for (auto& then : all.behind)
    then(home_);
}

void move_keeper::behind_those_from_peers(const xmpp::jid_ref& bare, std::function<void(home&)> then) {
  constexpr std::size_t most = 64; // of one account; who asks does not wait for ever
  auto all = from_peers_.find(bare->hash());
  if (all == from_peers_.end() || all->second.behind.size() == most)
    return then(home_);
  all->second.behind.push_back(std::move(then));
}

bool move_keeper::keep_if_room(std::vector<late>& waiting, xmpp::delivery& what) {
  if (!has_room(waiting, what))
    return false;
  keep(waiting, what);
  return true;
}

bool move_keeper::has_room(const std::vector<late>& waiting, const xmpp::delivery& what) const {
  return waiting.size() < most_waiting && bytes_ + what.what->cost() <= most_bytes;
}

void move_keeper::keep(std::vector<late>& waiting, xmpp::delivery& what) {
  count_held();
  if (waiting.empty())
    home_.around().operations.fetch_add(1, std::memory_order_relaxed); // the node does not end meanwhile
  bytes_ += what.what->cost();
  waiting.push_back({std::move(what), home_.now()});
}

/// To every place where it may have been when something was sent there. By way of this node nothing can be passed: that finds the
/// entity as long as it holds anything, or waits with what has come back.
void move_keeper::set_marks(moved& m, const cluster::move& what) {
  auto& others = *home_.around().peers();
  std::vector<peer_number> places{what.from.begin(), what.from.begin() + what.count};
  if (what.was_hashed)
    std::ranges::copy(others.hashed_lately(*m.bare), std::back_inserter(places));
  std::ranges::sort(places);
  places.erase(std::unique(places.begin(), places.end()), places.end());
  auto now = others.owner_of(*m.bare).node;
  for (auto n : places)
    if (n != cluster::self && n != now && others.is_alive(n)) {
      auto id = next_mark();
      marks_.emplace(id, m.bare->hash());
      ++m.marks;
      send_mark(home_, n, {others.own_name(), id}, m.bare);
    }
}

std::uint64_t move_keeper::next_mark() { return std::uint64_t{home_.index()} << id_bits | ++last_mark_; }

/// As a mark of this reactor's own: where its next place is lost this node answers, as what was before it is lost there, too.
void move_keeper::pass(const move_mark& mark, const xmpp::jid_ref& bare, peer_number to) {
  auto all = std::make_shared<behind>(behind{0, [mark, bare](home& at) { mark.answer(at, bare); }});
  send_own(all, bare, to, {{}, 0, static_cast<std::uint8_t>(mark.hops + 1), mark.depth});
}

void move_keeper::send_own(const std::shared_ptr<behind>& whose, const xmpp::jid_ref& bare, peer_number to, move_mark m) {
  m.origin = home_.around().peers()->own_name();
  m.id = next_mark();
  own_marks_.emplace(m.id, own_mark{whose, bare->hash(), to, home_.now()});
  ++whose->marks;
  send_mark(home_, to, m, bare);
}

void move_keeper::tell(home& at, std::uint64_t mark) {
  if (auto reactor = mark >> id_bits; reactor < at.around().homes().size())
    at.post(static_cast<std::uint16_t>(reactor), [mark](home& there) { there.moves.on_answer(mark); });
}

void move_keeper::on_answer(std::uint64_t mark) {
  if (auto one = own_marks_.extract(mark)) {
    forget_relayed(one.mapped());
    auto& all = *one.mapped().whose;
    return --all.marks == 0 ? all.then(home_) : void();
  }
  auto whose = marks_.extract(mark);
  if (!whose)
    return;
  auto i = moved_.find(whose.mapped());
  if (i != moved_.end() && i->second.marks > 0 && --i->second.marks == 0)
    release(i->second);
}

void move_keeper::release(moved& m) {
  if (m.waiting.empty())
    return;
  --waiting_;
  route_late(std::exchange(m.waiting, {})); // `m` may be gone, or hold again, as soon as one is routed
}

void move_keeper::route_late(std::vector<late> all) {
  home_.around().operations.fetch_sub(1, std::memory_order_relaxed);
  for (auto& d : all) {
    bytes_ -= d.what.what->cost();
    home_.around().stamp(d.what, home_.now() - d.since);
  }
  for (auto& d : all)
    route(home_, std::move(d.what));
}

// --- what has been passed on

bool move_keeper::may_come_back(const relayed& r) const { return home_.now() - r.last < remembered && home_.around().peers()->is_alive(r.to); }

void move_keeper::note_relayed(const xmpp::jid& to, peer_number node) {
  auto now = home_.now();
  if (relayed_.size() >= most_kept && !relayed_.contains(to.hash())) {
    std::erase_if(relayed_, [&](auto& one) { return std::ranges::all_of(one.second, [&](auto& r) { return now - r.last >= remembered; }); });
    if (relayed_.size() >= most_kept) // order is worth less than memory
      return;
  }
  auto& all = relayed_[to.hash()];
  if (auto r = std::ranges::find(all, node, &relayed::to); r != all.end())
    r->last = now;
  else
    all.push_back({node, now});
}

/// A mark of this node's own to each of those places: the one that waits would take a shorter way than what it is to come behind, for where
/// the address lives is known better by now.
void move_keeper::behind_relayed(const xmpp::jid_ref& bare, peer_number owner, std::uint8_t depth, std::function<void(home&)> then) {
  constexpr std::uint8_t deepest = 3; // two nodes may have passed on to each other
  auto there = relayed_.find(bare->hash());
  if (there == relayed_.end() || depth >= deepest)
    return then(home_);
  auto all = std::make_shared<behind>(behind{0, std::move(then)});
  for (auto& r : there->second)
    if (r.to != owner && may_come_back(r))
      send_own(all, bare, r.to, {{}, 0, 0, static_cast<std::uint8_t>(depth + 1)});
  if (all->marks == 0)
    all->then(home_);
}

/// All of that is through.
void move_keeper::forget_relayed(const own_mark& mark) {
  auto there = relayed_.find(mark.account);
  if (there == relayed_.end())
    return;
  std::erase_if(there->second, [&](auto& r) { return r.to == mark.to && r.last <= mark.since; });
  if (there->second.empty())
    relayed_.erase(there);
}

/// Those whose moves nobody remembers.
void move_keeper::forget_old() {
  auto& others = *home_.around().peers();
  std::erase_if(moved_, [&](auto& one) { return one.second.marks == 0 && !others.moved_lately(*one.second.bare); });
  look_at_ = 2 * moved_.size();
}

} // namespace actors
