// Presence: who is told what when a resource comes, changes and goes (RFC 6121 section 4).
#include "actors/account.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_type;

void account::deliver_to_available(const xmpp::delivery& what, effects& out) {
  for (auto& m : members_)
    if (m.view.is_available)
      out.deliver(m.view.id, what);
}

// --- from elsewhere

void account::on_presence(xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  const auto& to = what.to ? *what.to : *s.to;
  if (xmpp::im::is_subscription(s.type()))
    return on_inbound_subscription(what.what, out);
  out.complete(s.completion, modules::outcome::acknowledged);
  if (s.type() == stanza_type::probe)
    return on_probe(s, out);
  if (node_.peers())
    remember_visitor(s, what.to ? what.to : s.to);
  if (!to.is_bare()) { // section 8.5.3.2.2: to nobody's resource is ignored
    if (auto* m = find_resource(to))
      out.deliver(m->view.id, what);
    return;
  }
  if (s.type() == stanza_type::error)
    return;
  deliver_to_available(what, out);
}

void account::remember_visitor(const xmpp::stanza& s, const xmpp::jid_ref& to) {
  constexpr std::size_t most = 1'000;
  auto is_it = [&](const visitor& v) { return *v.who == *s.from && *v.to == *to; };
  if (s.type() == stanza_type::unavailable) {
    if (visitors_ && std::erase_if(*visitors_, [&](auto& v) { return *v.who == *s.from; }) > 0 && visitors_->empty())
      visitors_ = nullptr;
    return;
  }
  auto* c = s.type() == stanza_type::available ? find_contact(*s.from) : nullptr;
  if (s.type() != stanza_type::available || (c && c->state.to) || (visitors_ && (visitors_->size() >= most || std::any_of(visitors_->begin(), visitors_->end(), is_it))))
    return;
  if (auto there = node_.peers()->rows().find(*s.from); !there || there->node == cluster::self)
    return; // a room, a service, or somebody of this node
  if (!visitors_)
    visitors_ = std::make_unique<std::vector<visitor>>();
  visitors_->push_back({s.from, to});
}

/// Section 4.3.2. A probe of the account itself asks for its other resources.
void account::on_probe(const xmpp::stanza& probe, effects& out) {
  if (!has_roster_) {
    auto from = probe.from;
    (void)load_roster(out, [this, from](effects& o) { // a probe has no error: who asks again is told
      if (may_see_presence(*from))
        send_current(from, o);
      else
        o.route({xmpp::im::make_presence(stanza_type::unsubscribed, bare_, xmpp::bare_of(from)), {}});
    });
    return;
  }
  if (may_see_presence(*probe.from))
    return send_current(probe.from, out);
  out.route({xmpp::im::make_presence(stanza_type::unsubscribed, bare_, xmpp::bare_of(probe.from)), {}});
}

void account::send_current(const xmpp::jid_ref& to, effects& out) {
  if (is_blocked(*to))
    return;
  for (auto& m : members_)
    if (m.view.is_available)
      out.route({m.view.presence, to});
}

void account::send_unavailable(const xmpp::jid_ref& to, effects& out) {
  for (auto& m : members_)
    if (m.view.is_available)
      out.route({xmpp::im::make_unavailable(m.view.full, to), to});
}

// --- from the own sessions

void account::on_own_presence(member& from, xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  auto parsed = xmpp::im::parse_presence(s);
  if (!parsed)
    return refuse(s, parsed.error(), out);
  out.complete(s.completion, modules::outcome::acknowledged);
  if (!parsed->is_available) {
    if (from.view.is_available)
      become_unavailable(from, what.what, out);
    return;
  }
  from.view.is_available = true;
  from.view.priority = parsed->priority;
  from.view.presence = what.what;
  out.publish(from.view);
  auto id = from.view.id;
  introduce(from, out);
  auto* still = find_member(id);
  if (still && is_ready(*still) && !std::exchange(still->has_sent_presence, true))
    on_ready(*still, out);
}

/// Contacts are read at the first presence; messages do not wait for it.
void account::introduce(member& from, effects& out) {
  auto presence = from.view.presence;
  if (has_roster_) {
    broadcast(presence, out);
    return become_available(from, out);
  }
  bool is_taken = load_roster(out, [this, id = from.view.id, presence](effects& o) {
    auto* m = find_member(id);
    if (!m || m->view.presence != presence)
      return; // gone again, or another presence came meanwhile: it waits for the contacts, too
    broadcast(presence, o);
    become_available(*m, o);
  });
  if (!is_taken)
    refuse(*presence, {stanza_errc::resource_constraint, xmpp::error_type::wait, "too many changes wait"}, out);
}

/// To everybody who may see it: contacts, and the own other resources (section 4.2.2).
void account::broadcast(const xmpp::stanza_ref& presence, effects& out) {
  for (auto& c : contacts_)
    if (c.state.from && !is_blocked(*c.jid))
      out.route({presence, c.jid});
  for (auto& m : members_)
    if (m.view.is_available)
      out.deliver(m.view.id, {presence, m.view.full});
}

void account::say(std::uint64_t session, xmpp::stanza_ref presence, effects& out) {
  xmpp::delivery what{std::move(presence), {}};
  if (auto* m = find_member(session))
    on_own_presence(*m, what, out);
}

/// Initial presence: what the others are (section 4.2.2 and 4.3.1), and who has asked meanwhile. Once until the
/// resource is unavailable: with the first presence that found the contacts read, which need not be the first one.
void account::become_available(member& from, effects& out) {
  if (std::exchange(from.view.is_introduced, true))
    return;
  if (node_.peers())
    out.publish(from.view);
  probe(from, out);
  for (auto& m : members_)
    if (m.view.is_available && m.view.id != from.view.id)
      out.deliver(from.view.id, {m.view.presence, from.view.full});
  if (std::any_of(contacts_.begin(), contacts_.end(), [](auto& c) { return c.state.pending_in; }))
    deliver_requests(from.view.id, out);
}

/// Section 4.3.1: the answers are for this resource alone.
void account::probe(const member& from, effects& out) {
  xmpp::stanza_ref probe;
  for (auto& c : contacts_)
    if (c.state.to && !is_blocked(*c.jid)) {
      if (!probe) {
        probe = xmpp::im::make_presence(stanza_type::probe, bare_, c.jid);
        probe->from = from.view.full;
      }
      out.route({probe, c.jid});
    }
}

/// Section 4.5.2. `last_words`: what the client said, if it said goodbye.
void account::become_unavailable(member& from, const xmpp::stanza_ref& last_words, effects& out) {
  from.view.is_available = false;
  from.has_sent_presence = false;
  from.view.presence = nullptr;
  from.view.is_introduced = false;
  out.publish(from.view);
  auto presence = last_words ? last_words : xmpp::im::make_unavailable(from.view.full);
  for (auto& c : contacts_)
    if (c.state.from && !is_blocked(*c.jid))
      out.route({presence, c.jid});
  for (auto& m : members_)
    if (m.view.is_available)
      out.deliver(m.view.id, {presence, m.view.full});
  if (last_words)
    out.deliver(from.view.id, {presence, from.view.full});
}

namespace {
/// Those of `all`, sorted by hash, that are the account's.
template <class F>
void for_each_named(const std::vector<xmpp::jid_ref>& all, const xmpp::jid& bare, F f) {
  auto i = std::lower_bound(all.begin(), all.end(), bare.hash(), [](auto& j, std::uint64_t hash) { return j->hash() < hash; });
  for (; i != all.end() && (*i)->hash() == bare.hash(); ++i)
    if (same_bare(**i, bare))
      f(*i);
}
} // namespace

bool account::is_anybody_available() const {
  return std::any_of(members_.begin(), members_.end(), [](auto& m) { return m.view.is_available; });
}

/// The account has come here with this session, behind what others were told. Where it was lost, so may be what contacts asked it,
/// and what it told them.
void account::catch_up(std::uint64_t session, bool was_lost, effects& out) {
  with_roster(out, [this, session, was_lost](bool is_there, effects& o) {
    auto* m = find_member(session);
    if (!is_there || !m || !node_.peers())
      return;
    if (was_lost && m->view.is_introduced && m->view.presence) {
      broadcast(m->view.presence, o);
      return probe(*m, o);
    }
    for (auto& t : node_.peers()->told_lately())
      t.are_lost ? tell_lost(*t.names, o) : meet_again(*t.names, o);
  });
}

void account::on(modules::event::lost& e, effects& out) {
  if (is_anybody_available())
    with_roster(out, [this, names = e.sessions](bool, effects& o) { tell_lost(*names, o); });
}

void account::on(modules::event::found_again& e, effects& out) {
  if (is_anybody_available())
    with_roster(out, [this, names = e.sessions](bool, effects& o) { meet_again(*names, o); });
}

/// Their node says nothing for them any more. Who has come back meanwhile is not lost.
void account::tell_lost(const std::vector<xmpp::jid_ref>& sessions, effects& out) {
  auto is_gone = [&](const xmpp::jid& j) { return !node_.peers() || !node_.peers()->rows().find(j); };
  for_each_named(sessions, *bare_, [&](auto& j) {
    if (!find_resource(*j))
      deliver_to_available({xmpp::im::make_unavailable(j), bare_}, out);
  });
  for (auto& c : contacts_) // the fewer of the two
    if (c.state.to && !is_blocked(*c.jid))
      for_each_named(sessions, *c.jid, [&](auto& j) {
        if (is_gone(*j))
          deliver_to_available({xmpp::im::make_unavailable(j), bare_}, out);
      });
  if (!visitors_)
    return;
  std::erase_if(*visitors_, [&](auto& v) {
    bool is_lost = false;
    for_each_named(sessions, *v.who, [&](auto& j) { is_lost |= *j == *v.who && is_gone(*j); });
    if (!is_lost)
      return false;
    auto* to = v.to->is_bare() ? nullptr : find_resource(*v.to);
    xmpp::delivery gone{xmpp::im::make_unavailable(v.who), v.to};
    if (to)
      out.deliver(to->view.id, std::move(gone));
    else if (v.to->is_bare())
      deliver_to_available(gone, out);
    return true;
  });
  if (visitors_->empty())
    visitors_ = nullptr;
}

/// Either side may have given the other up, or both: they are asked, and told.
void account::meet_again(const std::vector<xmpp::jid_ref>& sessions, effects& out) {
  if (!is_anybody_available())
    return;
  for (auto& c : contacts_) {
    bool is_there = false; // several sessions of one account are asked once
    for_each_named(sessions, *c.jid, [&](auto&) { is_there = true; });
    if (!is_there || is_blocked(*c.jid))
      continue;
    if (c.state.to)
      out.route({xmpp::im::make_presence(stanza_type::probe, bare_, c.jid), {}});
    if (c.state.from)
      for (auto& m : members_)
        if (m.view.is_introduced && m.view.presence)
          out.route({m.view.presence, c.jid});
  }
}

} // namespace actors
