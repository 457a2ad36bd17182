// An entity among several nodes: which of them it lives on, its sessions on others, and what comes to the wrong one
// (docs/cluster-internals.md).
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"

namespace actors {

using cluster::control;
using cluster::parcel_kind;

namespace {
constexpr std::uint64_t most_words = 8; // from node to node, while they do not agree
constexpr auto pass_after = std::chrono::milliseconds{250};
constexpr std::uint32_t session_timer = UINT32_MAX; // beside the machine's own
constexpr auto look_after = std::chrono::seconds{1};
constexpr std::uint8_t most_looks = 4; // 1, 2, 4, 8 s: a row may be of a session that is gone
} // namespace

/// With its oldest session. One that has just been bound here is in no table yet. Where hashing has no say: here, or it
/// would not have been asked.
cluster::peer_number entity::find_owner() const {
  auto* others = home_.around().peers();
  if (!others || host_->is_pinned || is_leased_)
    return cluster::self;
  if (auto there = others->rows().home_of(*where_.bare))
    return there->node;
  return sessions_.empty() ? others->owner_of(*where_.bare).node : cluster::self;
}

void entity::check_owner() {
  auto now = find_owner();
  if (now != owner_) {
    auto before = std::exchange(owner_, now);
    if (before == cluster::self)
      return give_up();
    if (now == cluster::self)
      begin_anew();
  }
  if (owner_ == cluster::self)
    look_for_sessions();
}

/// Sessions of its own that no table knows, and those of the tables that it does not know.
entity::differences entity::compare_sessions() const {
  differences d;
  auto* others = home_.around().peers();
  if (!others)
    return d;
  for (auto& a : sessions_)
    if (a.is_bound && a.where.node != cluster::self)
      d.untold.push_back(a.session);
  others->rows().sessions_of(*where_.bare, [&](std::string_view, const cluster::entry& e) {
    std::erase(d.untold, e.session);
    if (std::ranges::none_of(sessions_, [&](auto& a) { return a.session == e.session; }))
      d.missing.push_back({{e.node, e.reactor, e.node == cluster::self ? e.ref : e.session}, e.session});
  });
  return d;
}

/// Sessions find their account by themselves, but not one whose node has not seen that the account was somebody else's for a
/// moment: this one let it go, and nobody there knows. And the word of a node that died may have come after all was done about that.
void entity::look_for_sessions(std::uint8_t looks) {
  auto d = compare_sessions();
  if (looks < most_looks && !(d.missing.empty() && d.untold.empty()))
    arm_timer(session_timer, look_after * (1 << looks), [looks](entity& self) { self.mend_sessions(looks); });
}

void entity::mend_sessions(std::uint8_t looks) {
  if (owner_ != cluster::self)
    return;
  auto d = compare_sessions();
  for (auto& m : d.missing)
    turn_away(m.where, m.session, {});
  if (looks + 1 == most_looks)
    for (auto session : d.untold)
      on_detach(session, true);
  look_for_sessions(looks + 1);
}

/// Its rows are what counts. What the address had begun in the store when it was here before goes on, and is waited for by
/// whatever is read from now on; only then is the machine gone that began it.
void entity::begin_anew() {
  begun_ = home_.now();
  if (under_way_.empty() && waiting_.empty() && awaited_.empty())
    return on_crash({});
  auto views = recall_sessions();
  auto held = machine_->take_held();
  finishing_.push_back(exchange_machine());
  timers_.clear();
  attach_again(views);
  for (auto& d : held) // to the new one: by the old one they would be overtaken
    pass_on(std::move(d));
}

/// The account's first session is its owner's, though no table has it yet.
bool entity::may_begin_with(const modules::attach_request& who) {
  auto there = home_.around().peers()->rows().home_of(*where_.bare);
  if (there ? there->node != cluster::self : who.where.node != cluster::self)
    return false;
  owner_ = cluster::self;
  is_beginning_ = true;
  begin_anew();
  return true;
}

/// Until that session has been let in everybody's stanzas go to where the address was, and so do those of this node: what it has
/// sent there may still be held there. True: it has been passed on.
bool entity::goes_back(xmpp::delivery& what) {
  auto& others = *home_.around().peers();
  is_beginning_ = !others.rows().home_of(*where_.bare);
  auto owner = is_beginning_ ? others.owner_of(*where_.bare).node : cluster::self;
  bool came_from_there = what.hops > 0;
  if (owner == cluster::self || came_from_there || is_said_by_server(*what.what, *where_.bare))
    return false;
  send_to_peer(home_, owner, std::move(what));
  return true;
}

/// Its sessions find the new owner by themselves, and tell it what they are. What is under way here is finished.
void entity::give_up() {
  auto said = machine_->take_outbound();
  auto all = std::exchange(sessions_, {});
  former_.assign(all.begin(), all.end());
  for (auto& a : all) {
    say_last_word(a);
    home_.around().registry().withdraw(where_, a.session);
    step(modules::event::detach{a.session, true, true});
    if (!a.is_bound) // it does not look for its account by itself
      turn_away(a.where, a.session, {});
  }
  for (auto& s : said)
    if (auto* a = find_receiver(s.session))
      turn_away(a->where, s.session, std::move(s.what));
  timers_.clear();
  if (auto ids = machine_->arrived_lately(); !ids.empty())
    tell_arrived(std::move(ids), true, 0);
  for (auto& d : machine_->take_held())
    pass_on(std::move(d));
  owes_look_ = true; // marks wait for that
  if (under_way_.empty() && waiting_.empty())
    look_there_again();
  rest();
}

void entity::send_to_session(cluster::peer_number at, std::uint64_t session, xmpp::delivery&& what) {
  cluster::parcel p;
  auto type = what.what->type();
  p.kind = parcel_kind::to_session;
  p.session = p.order = session;
  p.needs_credit = type != xmpp::stanza_type::result && type != xmpp::stanza_type::error;
  p.has_completion = static_cast<bool>(what.what->completion);
  p.what = std::move(what);
  if (p.what.hops < UINT8_MAX)
    ++p.what.hops;
  home_.to_peer(at, std::move(p));
}

/// The table may know a session that has not come to its account yet.
void entity::deliver_unattached(modules::effect::deliver& e) {
  auto [session, what] = std::tie(e.session, e.what);
  auto* others = home_.around().peers();
  auto& to = what.to ? what.to : what.what->to;
  auto there = others && to && !to->is_bare() ? others->rows().find(*to) : std::nullopt;
  if (!there || there->session != session)
    return route_again(home_, std::move(what));
  if (may_await(session) && hold_for_passage(e))
    return;
  if (there->node != cluster::self)
    return send_to_session(there->node, session, std::move(what));
  home_.pass_or_return<&actors::session::on_remote_deliver>(there->reactor, there->ref, std::move(what));
}

/// Not ours, or not for certain: the owner has it, if there is one.
void entity::decline(xmpp::delivery&& what) {
  auto owner = home_.around().peers()->service_owner(*where_.bare);
  if (owner && *owner != cluster::self)
    return send_to_peer(home_, *owner, std::move(what));
  bounce(home_, *what.what, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "no node can answer for it at this moment"});
}

bool entity::may_act() const { return !is_leased_ || home_.around().peers()->owned().fence(*where_.bare).has_value(); }

/// What was stored here for nobody may have been stored after the owner had looked.
void entity::look_there_again() {
  owes_look_ = false;
  if (owner_ != cluster::self)
    tell_owner({.what = control::kind::look_again});
  answer_marks();
}

/// Where this address lives what is held has yet to be handled or passed on; where it does not, all of it has been.
void entity::on_mark(move_mark m) {
  constexpr std::size_t most = 64; // of one address; who asks does not wait for ever
  if (marks_.size() == most)
    return m.answer(home_, where_.bare);
  marks_.push_back(std::move(m));
  answer_marks();
}

void entity::answer_marks() {
  if (passages_ || owes_look_ || (owner_ == cluster::self && (!under_way_.empty() || !waiting_.empty() || machine_->has_held())))
    return;
  for (auto& m : std::exchange(marks_, {})) {
    if (has_written_ && owner_ == cluster::self) // who asks may know of a session that is not known here
      m.have_it_looked_for(home_, where_.bare);
    m.go_on(home_, where_.bare, owner_);
  }
}

void entity::pass_on(xmpp::delivery&& what) {
  if (owner_ == cluster::self)
    return step(modules::event::stanza{std::move(what)});
  send_to_peer(home_, owner_, std::move(what));
}

void entity::say(const attached& to, control what, xmpp::delivery stanza) {
  if (!stanza.to)
    stanza.to = to.full;
  say(to.where.node, to.session, std::move(what), std::move(stanza));
}

void entity::say(cluster::peer_number to, std::uint64_t session, control what, xmpp::delivery stanza) {
  home_.for_peers(to_peers::send{to, cluster::make_control(session, std::move(what), std::move(stanza))});
}

void entity::tell_owner(control what) { say(owner_, 0, std::move(what), {nullptr, where_.bare}); }

/// It is for the account, which is not here: the session looks for it, and says it again.
void entity::turn_away(const cluster::place& where, std::uint64_t session, xmpp::delivery&& what) {
  if (where.node == cluster::self)
    return home_.post<actors::session>(where.reactor, where.ref, [d = std::move(what)](actors::session& s) mutable { s.on_elsewhere(std::move(d)); });
  what.to = where_.bare;
  say(where.node, session, {.what = control::kind::elsewhere}, std::move(what));
}

/// The node that asks ends the sessions, behind the answer that one of them may wait for (kind::changed).
void entity::on_remote_remove(cluster::peer_number from, std::uint64_t question) {
  auto answer = [&h = home_, me = id(), from, question, bare = where_.bare](base::result<void, storage::errc> r) {
    auto code = r ? 0 : static_cast<int>(r.error()) + 1;
    h.post_from_anywhere([from, question, code, bare, me](home& at) {
      if (auto* self = at.find<entity>(me); self && code == 0)
        self->is_removed_ = true;
      control said{.what = control::kind::removed, .clock = question, .code = static_cast<std::uint8_t>(code)};
      at.for_peers(to_peers::send{from, cluster::make_control(0, std::move(said), {nullptr, bare})});
    });
  };
  if (owner_ != cluster::self)
    return answer(base::fail(storage::errc::unavailable)); // it has just moved: to be asked again
  step(modules::event::remove{std::move(answer)});
}

void entity::on_remote_attach(cluster::peer_number from, const cluster::parcel& p) {
  auto& c = *p.said;
  auto full = c.full;
  modules::attach_request who{p.session, full, {from, 0, p.session}, c.clock, new cluster::session_limit{home_.around().settings().session_limits},
                              c.has(control::wants_copies)};
  if (c.has(control::is_back)) {
    who.before = std::make_shared<const modules::session_view>(view_of(c, p.session, full, p.what.what));
    who.has_moved = true;
    who.was_lost = c.has(control::was_lost);
    who.awaits_word = c.has(control::awaits_word);
    who.epoch = c.ids.empty() ? 0 : c.ids.front().a;
  }
  on_attach(std::move(who));
}

void entity::on_said(cluster::peer_number from, const cluster::parcel& p) {
  using kind = control::kind;
  bool is_control = p.kind == parcel_kind::control;
  if (is_control && p.said->what == kind::look_again)
    return look_again(p.said->clock);
  if (is_control && p.said->what == kind::arrived)
    return on_arrived(p.said->ids, p.said->has(control::is_full), p.said->clock);
  if (is_control && p.said->what == kind::attach)
    return on_remote_attach(from, p);
  if (is_control && p.said->what == kind::remove)
    return on_remote_remove(from, p.said->clock);
  auto* a = find_attached(p.session);
  if (!a || a->where.node != from) { // it was attached before this address moved
    if (is_control && p.said->what == kind::no_room)
      return route_again(home_, xmpp::delivery{p.what});
    cluster::place there{from, 0, p.session};
    if (is_control && p.said->what == kind::settled)
      return on_settled(there, p.session, p.said->ids);
    if (p.kind == parcel_kind::spool)
      return on_spool(there, p.session, {p.what});
    if (p.kind == parcel_kind::outbound)
      turn_away(there, p.session, xmpp::delivery{p.what});
    return;
  }
  switch (p.kind) {
    case parcel_kind::outbound: return on_outbound(a->where, p.session, xmpp::delivery{p.what});
    case parcel_kind::sent: return on_sent(p.session, p.what.what);
    case parcel_kind::spool: return on_spool(a->where, p.session, {p.what});
    default: break;
  }
  if (!is_control)
    return;
  switch (p.said->what) {
    case kind::detach: return on_detach(p.session);
    case kind::settled: return on_settled(a->where, p.session, p.said->ids);
    case kind::no_room:
      return step(modules::event::no_room{p.session, p.what, p.said->has(control::is_full) ? base::room::full : base::room::over});
    default: return;
  }
}

void entity::on_row_gone(cluster::peer_number node, std::uint64_t session, bool is_silent) {
  if (auto* a = find_attached(session); a && a->where.node == node)
    on_detach(session, is_silent);
}

void entity::on_peer_lost(cluster::peer_number n) {
  std::vector<std::uint64_t> gone;
  for (auto& a : sessions_)
    if (a.where.node == n)
      gone.push_back(a.session);
  for (auto id : gone)
    on_detach(id, true);
  check_owner();
}

void entity::on_lost(std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions) { step(modules::event::lost{std::move(sessions)}); }

void entity::on_arrived(std::vector<base::u128> ids, bool may_be_stored, std::uint64_t hops) {
  machine_->know_arrived(ids); // also before it is known here that the address has moved to this node
  if (owner_ == cluster::self)
    return step(modules::event::arrived{std::move(ids), may_be_stored});
  pass_words(std::move(ids), may_be_stored, false, hops);
}

void entity::tell_arrived(std::vector<base::u128> ids, bool may_be_stored, std::uint64_t hops) {
  tell_owner({.what = control::kind::arrived, .clock = hops, .flags = static_cast<std::uint8_t>(may_be_stored ? control::is_full : 0), .ids = std::move(ids)});
}

void entity::look_again(std::uint64_t hops) {
  if (owner_ == cluster::self)
    return step(modules::event::look_again{});
  pass_words({}, false, true, hops);
}

/// At once from where the address was. What comes from such a node waits a while, longer each time: rows are slower than words.
void entity::pass_words(std::vector<base::u128> ids, bool may_be_stored, bool is_look, std::uint64_t hops) {
  constexpr std::size_t most_ids = 512;
  if (hops >= most_words)
    return;
  if (!words_)
    words_ = std::make_unique<words>();
  auto& w = *words_;
  w.ids.insert(w.ids.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), most_ids - w.ids.size())));
  w.may_be_stored |= may_be_stored;
  w.is_look |= is_look;
  w.hops = std::max(w.hops, hops);
  if (w.hops == 0)
    return say_words();
  w.timer = home_.loop().after(pass_after * static_cast<int>(w.hops), [this] { home_.guard(id(), [this] { say_words(); }); });
}

void entity::say_words() {
  auto w = std::move(words_);
  if (!w->ids.empty())
    owner_ == cluster::self ? step(modules::event::arrived{std::move(w->ids), w->may_be_stored}) : tell_arrived(std::move(w->ids), w->may_be_stored, w->hops + 1);
  if (w->is_look)
    owner_ == cluster::self ? step(modules::event::look_again{}) : tell_owner({.what = control::kind::look_again, .clock = w->hops + 1});
  if (!has_work())
    rest();
}

void entity::on_found_again(std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions) { step(modules::event::found_again{std::move(sessions)}); }

} // namespace actors
