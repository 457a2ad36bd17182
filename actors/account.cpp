// What a stanza to or from an account does: RFC 6120 section 10.5, RFC 6121 section 8.
#include "actors/account.hpp"
#include "actors/account_rows.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include <algorithm>

namespace actors {

namespace {
constexpr auto room_after = std::chrono::seconds{1};
} // namespace

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
  if (m->is_unserved && is_ready(*m)) // what was stored meanwhile was said before what waits
    on_ready(*m, out);
  if (!m->holds_messages && !m->waits_for_look)
    give_held(*m, out);
}

void account::give_held(member& m, effects& out) {
  m.held_bytes = 0;
  for (auto& d : take_stamped(m, std::chrono::seconds{2}))
    out.deliver(m.view.id, std::move(d));
}

void account::want_copies(std::uint64_t session, bool wants, effects& out) {
  if (auto* m = find_member(session); m && std::exchange(m->view.wants_copies, wants) != wants && node_.peers())
    out.publish(m->view);
  refresh_copies(out);
}

/// Only while a session wants copies do the others show what they send.
void account::refresh_copies(effects& out) {
  bool wanted = members_.size() > 1 && std::any_of(members_.begin(), members_.end(), [](auto& m) { return m.view.wants_copies; });
  if (wanted == snapshot_->copies_sent)
    return;
  modules::snapshot_ref fresh{new modules::account_snapshot{wanted, snapshot_->blocked}};
  share(std::move(fresh), out);
}

std::vector<xmpp::delivery> account::take_held() {
  auto all = std::exchange(waiting_, {});
  for (auto& ev : std::exchange(early_, {}))
    if (auto* in = std::get_if<modules::event::stanza>(&ev))
      all.push_back(std::move(in->what));
    else if (auto* back = std::get_if<modules::event::no_room>(&ev))
      all.push_back(std::move(back->what));
  for (auto& m : members_)
    for (auto& d : take_held(m))
      all.push_back(std::move(d));
  return all;
}

bool account::has_held() const {
  auto holds = [](auto& m) { return !m.held.empty(); };
  return !waiting_.empty() || !early_.empty() || std::ranges::any_of(members_, holds);
}

/// What was said later may have overtaken it: to another session of the account, or to this one.
std::vector<xmpp::delivery> account::take_stamped(member& m, base::duration least) const {
  std::vector<xmpp::delivery> all;
  for (auto now = node_.clock().now(); auto& h : std::exchange(m.held, {})) {
    node_.stamp(h.what, now - h.since, least);
    all.push_back(std::move(h.what));
  }
  return all;
}

/// What was held for a session that gets no more, nobody has acknowledged, and nobody else here holds: one message to several of
/// them goes its way anew once, and those that have been given it know it.
std::vector<xmpp::delivery> account::take_held(member& m) const {
  auto all = take_stamped(m, {});
  std::erase_if(all, [this](auto& d) {
    auto holds_it = [&](auto& other) { return std::ranges::any_of(other.held, [&](auto& o) { return o.what.what == d.what; }); };
    bool is_settled = d.shared && d.shared->is_settled.load(std::memory_order_relaxed);
    return (is_settled || std::ranges::any_of(members_, holds_it)) && !d.lose();
  });
  for (auto& d : all)
    d.is_again |= static_cast<bool>(d.shared);
  return all;
}

std::vector<modules::event::outbound> account::take_outbound() {
  std::vector<modules::event::outbound> all;
  early_.remove_if([&](auto& ev) {
    auto* said = std::get_if<modules::event::outbound>(&ev);
    if (said)
      all.push_back(std::move(*said));
    return said != nullptr;
  });
  return all;
}

std::shared_ptr<const modules::session_view> account::recall(std::uint64_t session) const {
  for (auto& m : members_)
    if (m.view.id == session)
      return std::make_shared<modules::session_view>(m.view);
  for (auto& ev : early_) // a crash before this one
    if (auto* who = std::get_if<modules::event::attach>(&ev); who && who->who.session == session)
      return who->who.before;
  return nullptr;
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
  if (other && who.has_moved && other->clock > who.clock) { // both were bound while their nodes did not hear each other
    out.end_session(who.session, xmpp::stream_errc::conflict, "replaced by a new session with this resource");
    return nullptr;
  }
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
  if (other->is_elsewhere && settle_waits_ == 0)
    look_in_a_moment(out); // what its client has acknowledged may be on its way
  modules::event::detach gone{other->view.id}; // its own detach, when it comes, finds nothing left to do
  on(gone, out);
  return who.full;
}

void account::on(modules::event::attach& e, effects& out) {
  if (is_removed_) // the last of its sessions are still leaving
    return out.refuse(e.who.session, {stanza_errc::resource_constraint, xmpp::error_type::wait});
  std::optional<xmpp::stanza_error> refused;
  auto full = settle_conflict(e.who, out, refused);
  if (!full && !refused && e.who.has_moved)
    return; // it ends
  if (!full)
    return out.refuse(e.who.session, refused ? *refused : stanza_errc::conflict);
  exists_ = presence_of_rows::known; // it has just logged in
  member m;
  m.clock = e.who.clock;
  m.is_elsewhere = e.who.where.node != cluster::self;
  if (e.who.before) { // this machine crashed: for its sessions nothing has happened
    has_begun_anew_ = true;
    m.view = *e.who.before;
    if (e.who.has_moved && !m.view.is_introduced) // it has just logged in: what asked for the roster may have been answered elsewhere
      m.view.is_interested = true;
    m.has_sent_presence = is_ready(m);
    m.limit = e.who.limit;
    members_.push_back(std::move(m));
    if (auto& again = members_.back(); again.view.is_available && !again.view.is_introduced)
      introduce(again, out);
    out.share(e.who.session, snapshot_);
    refresh_copies(out);
    if (e.who.has_moved) { // its contacts must be known should a node be lost; and something may have been stored by the node where it was
      catch_up(e.who.session, e.who.was_lost, out);
      has_word_ |= e.who.was_lost; // who is lost says nothing any more
      settle_later(out);
      expect_messages(members_.back(), out);
    }
    for (auto& d : std::exchange(waiting_, {})) // nobody need look whether there is such an account
      handle(d, out);
    return;
  }
  m.view.id = e.who.session;
  m.view.full = full;
  m.view.wants_copies = e.who.wants_copies;
  m.limit = e.who.limit;
  members_.push_back(std::move(m));
  out.share(e.who.session, snapshot_); // before it can say anything
  refresh_copies(out);
  out.accept(e.who.session, full);
  if (members_.size() == 1 && settle_waits_ == 0 && node_.peers() && node_.peers()->has_successor())
    look_in_a_moment(out);
  for (auto& d : std::exchange(waiting_, {}))
    handle(d, out);
}

void account::on(modules::event::detach& e, effects& out) {
  auto i = std::find_if(members_.begin(), members_.end(), [&](auto& m) { return m.view.id == e.session; });
  if (i == members_.end())
    return;
  auto gone = std::move(*i);
  members_.erase(i);
  refresh_copies(out);
  if (gone.view.is_available && !e.is_silent)
    become_unavailable(gone, nullptr, out);
  if (members_.empty() && exists_ == presence_of_rows::known)
    exists_ = presence_of_rows::unknown; // it may be removed now: the next stanza looks again
  if (!e.is_moved) {
    modules::session_ended ev{gone.view, *this, out};
    (void)host_->view.ended.run(ev);
  }
  for (auto& d : take_held(gone)) // never shown to its client
    if (bool is_last = d.lose(); is_last || e.is_moved) // where all move each is given it once more
      out.route(std::move(d));
}

// --- inbound

/// RFC 6121 section 8.5.1: there is no such account. Presence is ignored.
void account::refuse_absent(const xmpp::stanza& what, effects& out) {
  if (what.kind() == stanza_kind::presence)
    return out.complete(what.completion, modules::outcome::refused);
  out.bounce(what, stanza_errc::service_unavailable);
}

void account::on(modules::event::stanza& e, effects& out) {
  if (exists_ == presence_of_rows::known) [[likely]]
    return handle(e.what, out);
  wait_for_account(std::move(e.what), out);
}

void account::handle(xmpp::delivery& what, effects& out) {
  // RFC 6120 section 10.1: nothing from a contact overtakes its own subscription stanza, which waits
  // for the disk
  if (!changing_.empty() && std::any_of(changing_.begin(), changing_.end(), [&](auto& j) { return same_bare(*j, *what.what->from); }))
    return wait_for_change(what, out);
  process(what, out);
}

void account::wait_for_change(const xmpp::delivery& what, effects& out) {
  bool is_taken = enqueue([this, held = what](effects& o) mutable {
    process(held, o);
    finish(o);
  }, out, what.what->cost() + least_operation);
  if (!is_taken)
    out.bounce(*what.what, stanza_errc::resource_constraint);
}

void account::process(xmpp::delivery& what, effects& out) {
  auto type = what.what->type();
  if (is_removed_ && type != stanza_type::result && type != stanza_type::error) // its sessions still get their answers
    return refuse_absent(*what.what, out);
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
  constexpr std::size_t most_held = 1'024, most_held_bytes = 1u << 20;
  bool can_wait = what.what->kind() == stanza_kind::message && what.what->type() != stanza_type::error; // errors answer, as IQs do
  if (can_wait && (to.holds_messages || to.waits_for_look || to.is_overflowing)) [[unlikely]] {
    auto is_same = [&](auto& d) { return d.what.what == what.what; };
    if (what.is_again && std::any_of(to.held.begin(), to.held.end(), is_same))
      return;
    if (to.is_overflowing || to.held.size() >= most_held || to.held_bytes >= most_held_bytes) // in order behind what is kept already
      return what.lose() ? undelivered(what, out, true) : void();
    to.held_bytes += what.what->cost();
    to.held.push_back({what, now_});
    return;
  }
  out.deliver(to.view.id, what);
}

/// One message to one or several of the account's sessions, and copies to those that want them.
void account::give_message(std::span<member* const> to, xmpp::delivery what, effects& out) {
  bool is_copied = snapshot_->copies_sent && !host_->view.delivered.empty();
  if (to.size() > 1 || is_copied) {
    what.shared = new xmpp::delivery_share;
    what.shared->holders.store(static_cast<std::uint32_t>(to.size()), std::memory_order_relaxed);
    if (node_.peers()) // a session here may go on at another node
      remember_given(what);
  }
  boost::container::small_vector<std::uint64_t, 4> receivers;
  for (auto* m : to) {
    receivers.push_back(m->view.id);
    give(*m, what, out);
  }
  if (!is_copied)
    return;
  modules::message_delivered ev{what, {receivers.data(), receivers.size()}, *this, out};
  (void)host_->view.delivered.run(ev);
}

/// A session on another node that the table knows, and that is on its way here: the account has just moved. 0: there is none.
std::uint64_t account::find_unattached(const xmpp::jid& full) const {
  auto there = node_.peers() ? node_.peers()->rows().find(full) : std::nullopt;
  return there ? there->session : 0;
}

void account::on_message(xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  if (what.is_again && has_arrived(s.stanza_id)) [[unlikely]] {
    what.settle();
    return out.complete(s.completion, modules::outcome::acknowledged);
  }
  const auto& to = what.to ? *what.to : *s.to;
  auto type = s.type();
  member* named = to.is_bare() ? nullptr : find_resource(to);
  if (named) [[likely]] // RFC 6121 section 8.5.3.1: even with a negative priority
    return give_message(std::span{&named, 1}, what, out);
  if (auto id = to.is_bare() ? 0 : find_unattached(to)) [[unlikely]]
    return out.deliver(id, what);
  bool some_ready = std::any_of(members_.begin(), members_.end(), [&](auto& m) { return is_ready(m); });
  using xmpp::im::target;
  auto where = to.is_bare() ? (some_ready ? target::bare_ready : target::bare_unready)
                            : (some_ready ? target::full_ready : target::full_unready);
  switch (xmpp::im::action_for(type, where)) {
    case xmpp::im::message_action::to_resource:
    case xmpp::im::message_action::to_all_ready: {
      boost::container::small_vector<member*, 4> ready;
      for (auto& m : members_)
        if (is_ready(m))
          ready.push_back(&m);
      return give_message({ready.data(), ready.size()}, what, out);
    }
    case xmpp::im::message_action::store:
      return undelivered(what, out, true);
    case xmpp::im::message_action::bounce:
      return out.bounce(s, stanza_errc::service_unavailable);
    case xmpp::im::message_action::drop:
      return out.complete(s.completion, modules::outcome::refused);
  }
}

/// Nobody takes it now: whoever keeps messages may have it.
void account::undelivered(const xmpp::delivery& late, effects& out, bool bounces) {
  auto& what = late.what;
  modules::message_undelivered ev{late, *this, out};
  auto v = host_->view.undelivered.run(ev);
  if (v.what() == modules::verdict::kind::taken)
    return;
  if (v.what() == modules::verdict::kind::refuse)
    return out.bounce(*what, v.error());
  if (v.passes() && bounces && xmpp::im::worth_an_error(xmpp::im::facts_of(*what)))
    return out.bounce(*what, stanza_errc::service_unavailable);
  out.complete(what->completion, modules::outcome::refused);
}

/// A session does not take what it is sent, or not fast enough (DESIGN: bounds).
void account::on(modules::event::no_room& e, effects& out) {
  auto& s = *e.what.what;
  if (s.kind() == stanza_kind::message && s.type() != stanza_type::error) {
    if (auto* m = find_member(e.session); m && !std::exchange(m->is_overflowing, true))
      out.set_timer(look_for_room, room_after);
    return e.what.lose() ? undelivered(e.what, out, true) : void();
  }
  if (s.kind() == stanza_kind::iq && s.is_request())
    return out.bounce(s, stanza_errc::resource_constraint);
  out.complete(s.completion, modules::outcome::refused);
}

/// Sessions that had no room get what was kept for them meanwhile, once they have read.
void account::on(modules::event::timer& e, effects& out) {
  if (e.id == settle && settle_waits_ > 0)
    return on_settle_time(out);
  if (e.id != look_for_room)
    return;
  bool some_are_full = false;
  for (std::size_t k = 0; k < members_.size(); ++k) {
    auto& m = members_[k];
    if (!m.is_overflowing)
      continue;
    auto& limits = node_.settings().session_limits;
    if (m.limit->used.messages() > limits.messages / 2 || m.limit->used.bytes() > limits.bytes / 2) {
      some_are_full = true;
      continue;
    }
    m.is_overflowing = false;
    if (!is_ready(m))
      continue;
    on_ready(m, out);
  }
  if (some_are_full)
    out.set_timer(look_for_room, room_after);
}

void account::on_iq(xmpp::delivery& what, effects& out) {
  auto& s = *what.what;
  const auto& to = what.to ? *what.to : *s.to;
  if (!to.is_bare()) { // RFC 6121 sections 8.5.3.1 and 8.5.3.2.3
    if (auto* m = find_resource(to))
      return out.deliver(m->view.id, what);
    if (auto id = find_unattached(to))
      return out.deliver(id, what);
    return out.bounce(s, stanza_errc::service_unavailable);
  }
  if (!s.is_request()) // section 8.5.2.1.3: the account handles it, and nobody asked
    return out.complete(s.completion, modules::outcome::refused);
  out.complete(s.completion, modules::outcome::acknowledged);
  if (has_roster_ || same_bare(*s.from, *bare_))
    return serve(what.what, out);
  // who may ask hangs on the roster
  bool is_taken = enqueue([this, ask = what.what](effects& o) {
    read_roster(o, [this, ask](std::optional<storage::errc> failed, effects& o1) {
      if (failed)
        o1.bounce(*ask, rows::error_of(*failed));
      else
        serve(ask, o1);
      finish(o1);
    });
  }, out, s.cost() + least_operation);
  if (!is_taken)
    out.bounce(s, stanza_errc::resource_constraint);
}

void account::serve(const xmpp::stanza_ref& what, effects& out) {
  if (auto reply = serve_iq(home::current(), host_, modules::at::account, what, this, &out))
    out.route({std::move(reply), {}});
}

// --- from the account's own sessions

void account::on(modules::event::outbound& e, effects& out) {
  if (is_removed_)
    return refuse(*e.what.what, stanza_errc::not_authorized, out);
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
