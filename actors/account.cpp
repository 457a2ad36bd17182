// What a stanza to or from an account does: RFC 6120 section 10.5, RFC 6121 section 8.
#include "actors/account.hpp"
#include "actors/account_rows.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_kind;
using xmpp::stanza_type;

account::account(xmpp::jid_ref bare, host_ref host, node& around)
  : bare_(std::move(bare)), host_(std::move(host)), node_(around) {}

account::~account() = default;

void account::step(modules::entity_event& ev, base::time_point now, effects& out) {
  now_ = now;
  if (start_ != start::done && must_wait(ev)) [[unlikely]]
    return wait_for_rows(std::move(ev), out);
  std::visit([&](auto& e) { on(e, out); }, ev);
}

bool account::is_idle() const {
  return members_.empty() && waiting_.empty() && early_.empty() && operations_.empty() && !is_busy_;
}

// --- what modules see

std::span<const modules::session_view> account::sessions() const {
  views_.clear();
  for (auto& m : members_)
    views_.push_back(m.view);
  return views_;
}

bool account::may_see_presence(const xmpp::jid& j) const {
  auto* c = find_contact(j);
  return (c && c->state.from) || same_bare(j, *bare_);
}

bool account::knows(const xmpp::jid& j) const {
  auto* c = find_contact(j);
  return c && c->is_listed;
}

void account::for_each_contact(const on_contact& f) const {
  for (auto& c : contacts_)
    f(c.jid, c.state);
}

std::any& account::state(const void* module) {
  for (auto& [owner, s] : states_)
    if (owner == module)
      return s;
  return states_.emplace_back(module, std::any{}).second;
}

void account::share(modules::snapshot_ref fresh, effects& out) {
  snapshot_ = std::move(fresh);
  for (auto& m : members_)
    out.share(m.view.id, snapshot_);
}

void account::hold_messages(std::uint64_t session) {
  if (auto* m = find_member(session))
    m->holds_messages = true;
}

void account::release_messages(std::uint64_t session, effects& out) {
  auto* m = find_member(session);
  if (!m)
    return;
  m->holds_messages = false;
  for (auto& d : std::exchange(m->held, {}))
    out.deliver(session, std::move(d));
}

// --- sessions come and go

account::member* account::find_member(std::uint64_t session) {
  for (auto& m : members_)
    if (m.view.id == session)
      return &m;
  return nullptr;
}

account::member* account::find_resource(const xmpp::jid& full) {
  for (auto& m : members_)
    if (m.view.full->resource() == full.resource())
      return &m;
  return nullptr;
}

/// The name under which the session may be bound (RFC 6120 section 7.7.2.2). Null: not at all.
xmpp::jid_ref account::settle_conflict(const modules::attach_request& who, effects& out,
                                       std::optional<xmpp::stanza_error>& refused) {
  auto* other = find_resource(*who.full);
  if (!other && members_.size() >= host_->max_sessions) {
    refused.emplace(stanza_errc::resource_constraint); // RFC 6120 section 7.6.2.1
    return nullptr;
  }
  if (!other)
    return who.full;
  switch (host_->on_conflict) {
    case conflict_policy::refuse:
      refused.emplace(stanza_errc::conflict);
      return nullptr;
    case conflict_policy::rename: {
      auto name = std::string{who.full->resource()}.substr(0, 1'000) + '-' + node_.random().hex(4);
      auto renamed = xmpp::with_resource(*bare_, name);
      return renamed ? *renamed : nullptr;
    }
    case conflict_policy::replace:
      break;
  }
  out.end_session(other->view.id, xmpp::stream_errc::conflict, "replaced by a new session with this resource");
  modules::event::detach gone{other->view.id}; // its own detach, when it comes, finds nothing left to do
  on(gone, out);
  return who.full;
}

void account::on(modules::event::attach& e, effects& out) {
  std::optional<xmpp::stanza_error> refused;
  auto full = settle_conflict(e.who, out, refused);
  if (!full)
    return out.refuse(e.who.session, refused ? *refused : stanza_errc::conflict);
  exists_ = presence_of_rows::known; // it has just logged in
  member m;
  m.view.id = e.who.session;
  m.view.full = full;
  members_.push_back(std::move(m));
  out.share(e.who.session, snapshot_); // before it can say anything
  out.accept(e.who.session, full);
  for (auto& d : std::exchange(waiting_, {}))
    handle(d, out);
}

void account::on(modules::event::detach& e, effects& out) {
  auto i = std::find_if(members_.begin(), members_.end(), [&](auto& m) { return m.view.id == e.session; });
  if (i == members_.end())
    return;
  auto gone = std::move(*i);
  members_.erase(i);
  if (gone.view.is_available)
    become_unavailable(gone, nullptr, out);
  if (members_.empty() && exists_ == presence_of_rows::known)
    exists_ = presence_of_rows::unknown; // it may be removed now: the next stanza looks again
  modules::session_ended ev{gone.view, *this, out};
  (void)host_->view.ended.run(ev);
  for (auto& d : gone.held) // never shown to its client
    out.route(std::move(d));
}

// --- inbound

void account::on(modules::event::stanza& e, effects& out) {
  if (exists_ == presence_of_rows::known) [[likely]]
    return handle(e.what, out);
  wait_for_account(std::move(e.what), out);
}

void account::handle(xmpp::delivery& what, effects& out) {
  // RFC 6120 section 10.1: nothing from a contact overtakes its own subscription stanza, which waits
  // for the disk
  if (!changing_.empty() && std::any_of(changing_.begin(), changing_.end(), [&](auto& j) { return same_bare(*j, *what.what->from); }))
    return enqueue([this, held = what](effects& o) mutable {
      process(held, o);
      finish(o);
    }, out);
  process(what, out);
}

void account::process(xmpp::delivery& what, effects& out) {
  if (!host_->view.received.empty()) {
    modules::stanza_received ev{what, *this, out};
    auto v = host_->view.received.run(ev);
    if (v.what() == modules::verdict::kind::refuse)
      return out.bounce(*what.what, v.error());
    if (v.what() == modules::verdict::kind::drop)
      return out.complete(what.what->completion, modules::outcome::refused);
    if (!v.passes())
      return;
  }
  switch (what.what->kind()) {
    case stanza_kind::message: return on_message(what, out);
    case stanza_kind::presence: return on_presence(what, out);
    case stanza_kind::iq: return on_iq(what, out);
    case stanza_kind::other: break;
  }
}

void account::give(member& to, const xmpp::delivery& what, effects& out) {
  if (to.holds_messages && what.what->kind() == stanza_kind::message) [[unlikely]]
    to.held.push_back(what); // charged to the entity's own bound: at most what one login takes
  else
    out.deliver(to.view.id, what);
}

void account::on_message(xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  const auto& to = what.to ? *what.to : *s.to;
  auto type = s.type();
  member* named = to.is_bare() ? nullptr : find_resource(to);
  if (named) [[likely]] // RFC 6121 section 8.5.3.1: even with a negative priority
    return give(*named, what, out);
  bool some_ready = std::any_of(members_.begin(), members_.end(), [&](auto& m) { return is_ready(m); });
  using xmpp::im::target;
  auto where = to.is_bare() ? (some_ready ? target::bare_ready : target::bare_unready)
                            : (some_ready ? target::full_ready : target::full_unready);
  switch (xmpp::im::action_for(type, where)) {
    case xmpp::im::message_action::to_resource:
    case xmpp::im::message_action::to_all_ready: {
      bool is_copy = false; // the first is the original
      for (auto& m : members_)
        if (is_ready(m))
          give(m, {what.what, what.to, std::exchange(is_copy, true)}, out);
      return;
    }
    case xmpp::im::message_action::store:
      return undelivered(what.what, out, true);
    case xmpp::im::message_action::bounce:
      return out.bounce(s, stanza_errc::service_unavailable);
    case xmpp::im::message_action::drop:
      return out.complete(s.completion, modules::outcome::refused);
  }
}

/// Nobody takes it now: whoever keeps messages may have it.
void account::undelivered(const xmpp::stanza_ref& what, effects& out, bool bounces) {
  modules::message_undelivered ev{what, *this, out};
  auto v = host_->view.undelivered.run(ev);
  if (v.what() == modules::verdict::kind::taken)
    return;
  if (v.what() == modules::verdict::kind::refuse)
    return out.bounce(*what, v.error());
  if (v.passes() && bounces)
    return out.bounce(*what, stanza_errc::service_unavailable);
  out.complete(what->completion, modules::outcome::refused);
}

/// A session does not take what it is sent, or not fast enough (DESIGN: bounds).
void account::on(modules::event::no_room& e, effects& out) {
  auto& s = *e.what.what;
  if (e.what.is_copy)
    return;
  if (s.kind() == stanza_kind::message && s.type() != stanza_type::error)
    return undelivered(e.what.what, out, true);
  if (s.kind() == stanza_kind::iq && s.is_request())
    return out.bounce(s, stanza_errc::resource_constraint);
  out.complete(s.completion, modules::outcome::refused);
}

void account::on_iq(xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  const auto& to = what.to ? *what.to : *s.to;
  if (!to.is_bare()) { // RFC 6121 sections 8.5.3.1 and 8.5.3.2.3
    if (auto* m = find_resource(to))
      return out.deliver(m->view.id, what);
    return out.bounce(s, stanza_errc::service_unavailable);
  }
  if (!s.is_request()) // section 8.5.2.1.3: the account handles it, and nobody asked
    return out.complete(s.completion, modules::outcome::refused);
  out.complete(s.completion, modules::outcome::acknowledged);
  if (auto reply = serve_iq(home::current(), host_, modules::at::account, what.what, this, &out))
    out.route({std::move(reply), {}});
}

// --- from the account's own sessions

void account::on(modules::event::outbound& e, effects& out) {
  if (!host_->view.sent.empty()) {
    modules::stanza_sent ev{e.what, *this, out};
    auto v = host_->view.sent.run(ev);
    if (v.what() == modules::verdict::kind::refuse)
      return refuse(*e.what.what, v.error(), out);
    if (!v.passes())
      return out.complete(e.what.what->completion, modules::outcome::refused);
  }
  auto& s = *e.what.what;
  if (s.kind() == stanza_kind::iq)
    return on_own_iq(e.session, e.what, out);
  auto* from = find_member(e.session);
  if (s.kind() != stanza_kind::presence || !from)
    return out.complete(s.completion, modules::outcome::refused);
  if (xmpp::im::is_subscription(s.type()))
    return on_outbound_subscription(e.session, e.what.what, out);
  on_own_presence(*from, e.what, out);
}

void account::answer(std::uint64_t session, xmpp::stanza_ref what, effects& out) {
  if (what)
    out.deliver(session, {std::move(what), {}});
}

void account::on_own_iq(std::uint64_t session, xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  out.complete(s.completion, modules::outcome::acknowledged);
  if (!s.is_request())
    return;
  if (auto done = xmpp::stream::answer_when_bound(s))
    return answer(session, done, out);
  thread_local xmpp::document parser;
  auto payload = parser.parse(s.bytes()).first_child();
  if (payload.is("query", xmpp::im::roster_ns))
    return s.type() == stanza_type::get ? on_roster_get(session, what.what, out)
                                        : on_roster_set(session, what.what, out);
  answer(session, serve_iq(home::current(), host_, modules::at::account, what.what, this, &out), out);
}

void account::refuse(const xmpp::stanza& what, xmpp::stanza_error why, effects& out) {
  out.bounce(what, why);
}

} // namespace actors
