// Who owns the target's address? The registry answers; the rest are the cases where nobody does.
#include "actors/router.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/session.hpp"
#include "xmpp/element.hpp"

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_kind;
using xmpp::stanza_type;

namespace {
constexpr int most_hops = 8; // two nodes may each think for a moment that the other is it

/// Presence that only concerns who is online (RFC 6121 section 4.3.2: not for the absent).
bool is_plain_presence(const xmpp::stanza& s) {
  return s.kind() == stanza_kind::presence
         && (s.type() == stanza_type::available || s.type() == stanza_type::unavailable
             || s.type() == stanza_type::probe);
}

/// The same for all stanzas of one pair.
std::uint64_t mix_order(const xmpp::jid_ref& from, const xmpp::jid_ref& to) {
  return (from ? from->hash() * 0x9e3779b97f4a7c15 : 0) ^ to->hash();
}

/// Over the soft limit only what cannot be refused goes on.
bool may_go_over(const xmpp::stanza& s) {
  return s.type() == stanza_type::result || s.type() == stanza_type::error
         || (s.kind() == stanza_kind::presence && !is_plain_presence(s));
}

void hand_over(home& at, const cluster::registry::found& f, xmpp::delivery&& what) {
  const auto& s = *what.what;
  if (f.room == base::room::ok || (f.room == base::room::over && may_go_over(s)))
    return at.pass_to_entity(*f.at, std::move(what));
  if (f.room == base::room::over)
    f.at->limit.release(s.cost());
  bounce(at, s, stanza_errc::resource_constraint);
}

/// Another node serves this host alone.
void route_to_pinned(home& at, const host_elsewhere& h, const xmpp::jid& to, xmpp::delivery&& what) {
  auto* others = at.around().peers();
  const auto& s = *what.what;
  if (!to.is_domain() && is_plain_presence(s) && !others->rows().home_of(to)) // not for the absent
    return at.complete(s.completion, modules::outcome::refused);
  if (auto there = others->find(h.node))
    return send_to_peer(at, *there, std::move(what));
  bounce(at, s, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the node that serves " + h.domain + " is away"});
}

/// Nobody has this address in memory.
void route_to_absent(home& at, const xmpp::jid_ref& to, xmpp::delivery&& what) {
  auto& node = at.around();
  const auto& s = *what.what;
  auto h = node.find_host(to->domain());
  if (!h) {
    if (auto there = node.peers() ? node.find_elsewhere(to->domain()) : nullptr)
      return route_to_pinned(at, *there, *to, std::move(what));
    return bounce(at, s, stanza_errc::remote_server_not_found); // by federation, which this node has not been given
  }
  if (to->is_domain())
    return serve_host(at, h, std::move(what));
  bool is_service = h->view.entities.contains(to->local());
  if (is_service && h->is_shared)
    return route_to_service(at, to, std::move(what));
  if (auto* others = node.peers(); others && !h->is_pinned) {
    if (!is_service && is_plain_presence(s) && !others->rows().home_of(*to))
      return at.complete(s.completion, modules::outcome::refused);
    if (auto owner = others->owner_of(*to); owner.node != cluster::self) {
      if (at.moves.hold(what)) // it has moved since route() looked
        return;
      return send_to_peer(at, owner.node, std::move(what));
    }
  }
  if (!is_service) {
    if (is_plain_presence(s))
      return at.complete(s.completion, modules::outcome::refused);
    if (node.absent().contains(*to, at.now())) {
      if (s.kind() == stanza_kind::presence) // RFC 6121 section 8.5.1: ignore
        return at.complete(s.completion, modules::outcome::refused);
      return bounce(at, s, stanza_errc::service_unavailable);
    }
  }
  auto bare = xmpp::bare_of(to);
  hand_over(at, node.registry().charge_or_create(bare, node.reactor_of(*bare), s.cost()), std::move(what));
}

} // namespace

void route_to_service(home& at, const xmpp::jid_ref& name, xmpp::delivery&& what) {
  auto& node = at.around();
  auto owner = node.peers()->service_owner(*name);
  if (!owner)
    return bounce(at, *what.what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "no node can answer for it at this moment"});
  if (*owner != cluster::self)
    return send_to_peer(at, *owner, std::move(what));
  auto bare = xmpp::bare_of(name);
  auto cost = what.what->cost();
  hand_over(at, node.registry().charge_or_create(bare, node.reactor_of(*bare), cost), std::move(what));
}

void route(home& at, xmpp::delivery&& what) {
  const auto& s = *what.what;
  const auto& to = what.to ? what.to : s.to;
  assert(to);
  if (at.around().peers() && at.moves.hold(what))
    return;
  auto& registry = at.around().registry();
  auto cost = s.cost();
  auto f = is_plain_presence(s) ? registry.charge_online(*to, cost) : registry.charge(*to, cost);
  if (f.at)
    return hand_over(at, f, std::move(what));
  auto target = to; // outlives the move
  route_to_absent(at, target, std::move(what));
}

void send_to_peer(home& at, cluster::peer_number to, xmpp::delivery&& what) {
  if (what.hops > most_hops)
    return route_again(at, std::move(what));
  cluster::parcel p;
  const auto& s = *what.what;
  p.needs_credit = s.type() != stanza_type::result && s.type() != stanza_type::error;
  p.has_completion = static_cast<bool>(s.completion);
  p.order = mix_order(s.from, what.to ? what.to : s.to);
  if (what.hops > 0) [[unlikely]]
    at.moves.note_relayed(what.to ? *what.to : *s.to, to);
  if (what.hops < UINT8_MAX)
    ++what.hops;
  p.what = std::move(what);
  at.to_peer(to, std::move(p));
}

void route_again(home& at, xmpp::delivery&& what) {
  if (!what.what || !what.lose())
    return;
  bool may_go_on = what.what->completion ? what.hops < UINT8_MAX : what.hops <= most_hops; // else it has been everywhere
  if (what.what->completion && may_go_on) // its sender still has it, and decides
    return at.complete(what.what->completion, modules::outcome::abandoned);
  if (!may_go_on)
    return bounce(at, *what.what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "it could not be delivered"});
  if (is_plain_presence(*what.what) || what.what->type() == stanza_type::result
      || what.what->type() == stanza_type::error)
    return;
  route(at, {std::move(what.what), std::move(what.to), {}, false, false, false, true, what.delayed_us, what.hops});
}

void route_returned(home& at, xmpp::delivery&& what) {
  const auto& s = *what.what;
  bool is_said_once = is_plain_presence(s) || s.type() == stanza_type::result || s.type() == stanza_type::error;
  if (!is_said_once || s.completion)
    return route_again(at, std::move(what));
  if (what.hops <= most_hops)
    route(at, std::move(what));
}

void bounce(home& at, const xmpp::stanza& what, const xmpp::stanza_error& why) {
  if (what.completion)
    return at.complete(what.completion, modules::outcome::bounced, std::make_shared<const xmpp::stanza_error>(why));
  auto answer = what.from ? xmpp::make_error(what, why) : nullptr;
  if (answer && answer->to)
    route(at, {std::move(answer), {}});
}

xmpp::stanza_ref serve_iq(home* at, const host_ref& h, modules::at scope,
                          const xmpp::stanza_ref& what, modules::account_view* account,
                          modules::effects* out) {
  thread_local xmpp::document parser; // one per reactor: requests are decoded one at a time
  auto root = parser.parse(what->bytes());
  auto payload = root.first_child();
  auto& table = scope == modules::at::host ? h->view.host_iqs : h->view.account_iqs;
  bool is_set = what->type() == stanza_type::set;
  auto own = [&](bool set) { return table.find(modules::host_view::handler_key{payload.ns(), set}); };
  auto i = payload ? own(is_set) : table.end();
  if (i == table.end()) {
    if (payload && own(!is_set) != table.end()) // the namespace is known, not this verb
      return xmpp::make_error(*what, stanza_errc::not_allowed);
    return xmpp::make_error(*what, stanza_errc::service_unavailable);
  }
  modules::iq_request request{what, payload, h->view, is_set, account, out, {}};
  request.later = [at, what, h]() -> modules::responder {
    struct once { // dropped unanswered: the sender must not wait for ever
      home& at;
      xmpp::stanza_ref request;
      std::atomic<bool> answered{false};
      void answer(base::result<std::string, xmpp::stanza_error> r) {
        if (answered.exchange(true))
          return;
        auto reply = r ? xmpp::make_result(*request, *r) : xmpp::make_error(*request, r.error());
        at.post_from_anywhere([reply = std::move(reply)](home& h) {
          if (reply)
            route(h, {reply, {}});
        });
      }
      ~once() { answer(base::fail(xmpp::stanza_error{stanza_errc::internal_server_error})); }
      once(home& a, xmpp::stanza_ref s) : at(a), request(std::move(s)) {}
    };
    auto shared = std::make_shared<once>(*at, what);
    return [shared](auto r) { shared->answer(std::move(r)); };
  };
  modules::iq_reply reply = [&] {
    try {
      return i->second(request);
    } catch (const std::exception& e) {
      base::log::error("module.failed", "an IQ handler threw", {{"namespace", payload.ns()}, {"what", e.what()}});
      return modules::iq_reply::error(stanza_errc::internal_server_error);
    }
  }();
  if (auto* xml = std::get_if<std::string>(&reply.get()))
    return xmpp::make_result(*what, *xml);
  if (auto* error = std::get_if<xmpp::stanza_error>(&reply.get()))
    return xmpp::make_error(*what, *error);
  return nullptr;
}

void serve_host(home& at, const host_ref& h, xmpp::delivery&& what) {
  const auto& s = *what.what;
  if (auto service = h->view.entities.find(""); service != h->view.entities.end()) {
    auto& node = at.around();
    if (h->is_shared)
      return route_to_service(at, h->view.domain, std::move(what));
    if (auto* others = node.peers(); others && !h->is_pinned)
      if (auto owner = others->owner_of(*h->view.domain); owner.node != cluster::self)
        return send_to_peer(at, owner.node, std::move(what));
    return hand_over(at, node.registry().charge_or_create(h->view.domain, node.reactor_of(*h->view.domain), s.cost()),
                     std::move(what));
  }
  if (s.kind() == stanza_kind::iq && s.is_request()) {
    at.complete(s.completion, modules::outcome::acknowledged);
    if (auto reply = serve_iq(&at, h, modules::at::host, what.what))
      route(at, {std::move(reply), {}});
    return;
  }
  if (s.kind() == stanza_kind::message && s.type() != stanza_type::error)
    return bounce(at, s, stanza_errc::service_unavailable); // nobody reads there
  at.complete(s.completion, modules::outcome::refused);
}

/// A link that ends may leave it open whether it came, and what asked for it may come again: each node passes it on once.
void broadcast(home& at, const std::string& domain, const xmpp::stanza_ref& what) {
  auto* others = at.around().peers();
  auto id = (what->stanza_id ? what->stanza_id.a : at.around().random().number()) >> 1;
  if (!others || others->is_new(id))
    broadcast_here(at, domain, what);
  if (others)
    for (auto n : others->alive()) {
      auto p = cluster::make_control(0, {.what = cluster::control::kind::broadcast, .clock = id, .text = domain}, {what, {}});
      p.needs_credit = true;
      p.sender = n; // where it goes again, should the link end
      at.for_peers(to_peers::send{n, std::move(p)});
    }
}

/// A session that goes on at another place gets it from both, and may lose and route it: so it looks like what comes again.
void broadcast_here(home& at, const std::string& domain, const xmpp::stanza_ref& what) {
  for (auto* target : at.around().homes())
    at.post(target->index(), [domain, what](home& h) {
      h.table().for_each([&](light& l) {
        if (auto* s = dynamic_cast<session*>(&l); s && s->is_bound() && s->full()->domain() == domain)
          s->on_broadcast({what, s->full(), {}, false, false, false, true});
      });
    });
}

} // namespace actors
