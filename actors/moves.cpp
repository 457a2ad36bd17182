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

void send_mark(home& at, peer_number to, const move_mark& m, const xmpp::jid_ref& bare) {
  auto p = cluster::make_control(0, {.what = control::kind::passing, .clock = m.id, .code = m.hops, .text = m.origin}, {nullptr, bare});
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
  auto& node = at.around();
  if (auto* address = node.registry().charge_if_there(*bare, home::control_cost))
    return at.post_to_entity(*address, [m = std::move(*this)](entity& e) mutable { e.on_mark(std::move(m)); });
  go_on(at, bare, node.peers()->owner_of(*bare).node);
}

void move_mark::go_on(home& at, const xmpp::jid_ref& bare, peer_number owner) const {
  if (owner == cluster::self || hops == most_hops)
    return answer(at);
  send_mark(at, owner, {origin, id, static_cast<std::uint8_t>(hops + 1)}, bare);
}

void move_mark::answer(home& at) const {
  auto* others = at.around().peers();
  if (origin == others->own_name())
    return move_keeper::tell(at, id);
  if (auto there = others->find(origin)) // else it does not wait for this one any more
    at.for_peers(to_peers::send{*there, cluster::make_control(0, {.what = control::kind::passed, .clock = id})});
}

// --- what waits

bool move_keeper::hold(xmpp::delivery& what) {
  if (what.hops > 0)
    return false;
  auto& node = home_.around();
  const auto& to = what.to ? *what.to : *what.what->to;
  auto lately = node.peers()->rows().moved(to);
  if ((!lately && waiting_ == 0) || is_said_by_server(*what.what, to)) [[likely]]
    return false;
  auto i = moved_.find(to.hash());
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
  auto cost = what.what->cost();
  if (m.waiting.size() >= most_waiting || bytes_ + cost > most_bytes) { // then order is worth less than that they come
    m.marks = 0;
    std::erase_if(marks_, [&](auto& one) { return one.second == m.bare->hash(); });
    release(m);
    return false;
  }
  count_held();
  if (m.waiting.empty()) {
    ++waiting_;
    node.operations.fetch_add(1, std::memory_order_relaxed); // the node does not end meanwhile
  }
  bytes_ += cost;
  m.waiting.push_back({std::move(what), home_.now()});
  return true;
}

/// To every place where it may have been when something was sent there. By way of this node nothing can be passed: that finds the
/// entity as long as it holds anything.
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
      auto id = std::uint64_t{home_.index()} << id_bits | ++last_mark_;
      marks_.emplace(id, m.bare->hash());
      ++m.marks;
      send_mark(home_, n, {others.own_name(), id}, m.bare);
    }
}

void move_keeper::tell(home& at, std::uint64_t mark) {
  if (auto reactor = mark >> id_bits; reactor < at.around().homes().size())
    at.post(static_cast<std::uint16_t>(reactor), [mark](home& there) { there.moves.on_answer(mark); });
}

void move_keeper::on_answer(std::uint64_t mark) {
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
  home_.around().operations.fetch_sub(1, std::memory_order_relaxed);
  auto all = std::exchange(m.waiting, {}); // `m` may be gone, or hold again, as soon as one is routed
  for (auto& d : all) {
    bytes_ -= d.what.what->cost();
    home_.around().stamp(d.what, home_.now() - d.since);
  }
  for (auto& d : all)
    route(home_, std::move(d.what));
}

/// Those whose moves nobody remembers.
void move_keeper::forget_old() {
  auto& rows = home_.around().peers()->rows();
  std::erase_if(moved_, [&](auto& one) { return one.second.marks == 0 && !rows.moved(*one.second.bare); });
  look_at_ = 2 * moved_.size();
}

} // namespace actors
