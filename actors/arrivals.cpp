// What other nodes send, on the reactor that it is for; and what they did not take.
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include "cluster/link.hpp"

namespace actors {

using cluster::control;
using cluster::parcel_kind;

namespace {
/// Control must get there; what a peer may send is bounded by its credit.
void to_account(home& at, cluster::peer_number from, cluster::parcel&& p) {
  auto bare = xmpp::bare_of(p.receiver());
  if (p.kind == parcel_kind::outbound || p.kind == parcel_kind::sent)
    p.what.to = nullptr; // the stanza names its own
  auto& address = at.around().registry().charge_always(bare, at.index(), home::control_cost);
  at.post_to_entity(address, [from, p = std::move(p)](entity& e) { e.on_said(from, p); });
}

move_mark mark_of(const control& c) { return {c.text, c.clock, c.code, c.type}; }

/// What is in memory of it is dropped; the sessions of one that is gone end.
void on_changed(home& at, const xmpp::jid_ref& bare, bool is_removed) {
  at.around().absent().erase(*bare);
  auto* address = at.around().registry().charge_if_there(*bare, home::control_cost);
  if (!address)
    return;
  at.post_to_entity(*address, [is_removed](entity& e) {
    if (is_removed)
      e.end_sessions(xmpp::stream_errc::not_authorized, "the account has been removed");
    if (!is_removed || !e.is_removed()) // where it was carried out nothing is out of date
      e.start_again();
  });
}
} // namespace

std::uint8_t flags_of(const modules::session_view& v) {
  auto flag = [](bool is, control::flag f) { return is ? unsigned{f} : 0u; };
  return static_cast<std::uint8_t>(flag(v.is_available, control::is_available) | flag(v.wants_copies, control::wants_copies)
                                   | flag(v.is_interested, control::is_interested) | flag(v.is_introduced, control::is_introduced));
}

modules::session_view view_of(const control& c, std::uint64_t session, const xmpp::jid_ref& full, const xmpp::stanza_ref& presence) {
  bool is_available = c.has(control::is_available) && presence;
  return {session, full, c.priority, is_available, c.has(control::wants_copies), c.has(control::is_interested),
          is_available && c.has(control::is_introduced), presence};
}

void arrive(home& at, cluster::peer_number from, const cluster::place& to, cluster::parcel&& p) {
  switch (p.kind) {
    case parcel_kind::to_entity: return route(at, std::move(p.what));
    case parcel_kind::to_session:
      if (auto* s = at.find<session>(to.ref))
        return s->on_remote_deliver(std::move(p.what));
      return route_again(at, std::move(p.what));
    case parcel_kind::outbound:
    case parcel_kind::sent:
    case parcel_kind::spool: return to_account(at, from, std::move(p));
    case parcel_kind::control: break;
  }
  if (!p.what.to && !p.what.what && (p.said->is_for_account() || p.said->what == control::kind::changed))
    return; // for nobody
  if (p.said->what == control::kind::broadcast)
    return at.around().peers()->is_new(p.said->clock) ? broadcast_here(at, p.said->text, p.what.what) : void();
  if (p.said->what == control::kind::changed)
    return on_changed(at, p.what.to, p.said->has(control::is_full));
  if (p.said->what == control::kind::removed)
    return at.around().peers()->on_removed(p.said->clock, p.said->code);
  if (p.said->what == control::kind::passing)
    return p.what.to ? mark_of(*p.said).arrive(at, xmpp::bare_of(p.what.to)) : void();
  if (p.said->what == control::kind::passed)
    return move_keeper::tell(at, p.said->clock);
  if (p.said->is_for_account())
    return to_account(at, from, std::move(p));
  if (auto* s = at.find<session>(to.ref))
    return s->on_said(from, *p.said, std::move(p.what));
  if (p.said->what == control::kind::take_over)
    session::refuse_peer(at, from, p.session, p.what.to);
  else if (p.said->what == control::kind::handed)
    route_again(at, std::move(p.what));
}

void on_returned(home& at, cluster::parcel&& p) {
  auto with_session = [&](auto f) { at.post<session>(p.sender_reactor, p.sender, std::move(f)); };
  switch (p.kind) {
    case parcel_kind::to_entity: return route_returned(at, std::move(p.what));
    case parcel_kind::to_session: return route_again(at, std::move(p.what));
    case parcel_kind::outbound:
      return with_session([d = p.what](session& s) mutable { s.on_elsewhere(std::move(d), true); });
    case parcel_kind::spool:
      return at.pass_or_return<&session::on_unspooled>(p.sender_reactor, p.sender, std::move(p.what));
    case parcel_kind::sent: return;
    case parcel_kind::control: break;
  }
  if (p.said->what == control::kind::take_over)
    with_session([](session& s) { s.on_take_over_refused({}); });
  else if (p.said->what == control::kind::handed)
    route_again(at, std::move(p.what));
  else if (p.said->what == control::kind::attach)
    with_session([](session& s) { s.on_elsewhere({}, true); });
  else if (p.said->what == control::kind::settled)
    with_session([ids = p.said->ids](session& s) { s.on_settled_elsewhere(ids); });
  else if (p.said->what == control::kind::passing) // nobody there has anything any more
    mark_of(*p.said).answer(at, xmpp::bare_of(p.what.to));
  else if (p.said->what == control::kind::no_room || (p.said->what == control::kind::elsewhere && p.what.what))
    route_again(at, std::move(p.what));
}

std::vector<cluster::session_row> node::sessions_here(const xmpp::jid& bare) const {
  if (!peers_)
    return registry_.sessions_of(bare);
  std::vector<cluster::session_row> all;
  peers_->rows().sessions_of(bare, [&](std::string_view full, const cluster::entry& e) {
    if (e.node != cluster::self)
      return;
    if (auto name = xmpp::parse_jid(full))
      all.push_back({*name, {cluster::self, e.reactor, e.ref}, e.session, e.clock, e.what.priority, (e.what.flags & cluster::attributes::available) != 0});
  });
  return all;
}

std::size_t node::session_count() const { return peers_ ? peers_->rows().session_count(cluster::self) : registry_.session_count(); }

} // namespace actors
