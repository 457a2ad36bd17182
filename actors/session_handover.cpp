// A session goes on at another node (XEP-0198 section 5): what session_resumption.cpp does between two places of one
// node, with messages for the value. The new one asks; the old one lets its stream go, waits until what its client sent has
// ended, sends what is not acknowledged and then what it is; it passes on what still comes until the new one has its row.
#include "actors/peers.hpp"
#include "actors/session_managed.hpp"

namespace actors {

using cluster::control;
using cluster::parcel_kind;

bool session::ask_peer(std::uint64_t earlier, std::uint32_t h, const xmpp::jid_ref& account) {
  auto* others = home_.around().peers();
  std::optional<cluster::peer_number> there;
  if (others)
    others->rows().sessions_of(*account, [&](std::string_view, const cluster::entry& e) {
      if (e.session == earlier && e.node != cluster::self)
        there = e.node;
    });
  if (!there)
    return false;
  if (!has_turn_ && !home_.around().arriving().begin(earlier)) {
    wait_for_turn();
    return true;
  }
  has_turn_ = true;
  account_at_ = *there;
  home_.for_peers(to_peers::relocated{earlier, {}, here()});
  say({.what = control::kind::take_over, .clock = h});
  constexpr auto at_most = std::chrono::seconds{10}; // that node may be lost, or another connection may ask for the same one
  leaves_ = std::make_unique<net::timer>(home_.loop().after(at_most, [this] {
    home_.guard(id(), [this] { on_take_over_refused({}); });
  }));
  return true;
}

/// Its client has asked before, by another connection to this node: what is handed over comes to that one, which has the session in
/// a moment, and from there this one takes it.
void session::wait_for_turn() {
  constexpr int most = 110; // of a tenth of a second: the other one waits 10 s at most
  if (!stream_ || ++waits_ > most)
    return home_.post<session>(home_.index(), id(), [](session& s) { s.on_take_over_refused({}); }); // not inside the stream's own call
  take_over_later();
}

void session::end_turn() {
  if (std::exchange(has_turn_, false))
    home_.around().arriving().end(session_id_);
}

void session::refuse_peer(home& at, cluster::peer_number to, std::uint64_t session, const xmpp::jid_ref& account) {
  auto h = account ? at.around().ended().find(session, *account) : std::nullopt;
  control said{.what = control::kind::not_resumed, .clock = h.value_or(0), .flags = static_cast<std::uint8_t>(h ? control::has_list : 0)};
  at.for_peers(to_peers::send{to, cluster::make_control(session, std::move(said), {nullptr, account})});
}

// --- the old one

bool session::hand_over_to_peer(cluster::peer_number to, std::uint32_t h) {
  if (!may_hand_over(h))
    return false;
  stage_ = place_in_time::moving;
  successor_ = {to, 0, session_id_};
  let_stream_go();
  acknowledge(h);
  if (!is_any_open()) {
    send_value();
    return true;
  }
  leaves_ = std::make_unique<net::timer>(home_.loop().after(home_.around().settings().storage_timeout, [this] {
    home_.guard(id(), [this] {
      if (stage_ == place_in_time::moving)
        send_value();
    });
  }));
  return true;
}

void session::say_to_successor(control what, xmpp::delivery stanza) {
  if (!stanza.to)
    stanza.to = bare_;
  bool is_handed = what.what == control::kind::handed;
  bool is_word = what.what == control::kind::recent && what.ids.empty(); // which must not pass what waits for credit
  auto p = cluster::make_control(session_id_, std::move(what), std::move(stanza));
  p.needs_credit = p.what.what || is_word;
  p.has_completion = is_handed && p.what.what && p.what.what->completion;
  home_.for_peers(to_peers::send{successor_.node, std::move(p)});
}

void session::pass_to_successor(xmpp::delivery&& what) {
  cluster::parcel p;
  p.kind = parcel_kind::to_session;
  p.session = p.order = session_id_;
  p.has_completion = static_cast<bool>(what.what->completion);
  p.what = std::move(what);
  if (!p.what.to && !p.what.what->to)
    p.what.to = full_;
  home_.for_peers(to_peers::send{successor_.node, std::move(p)});
}

void session::send_value() {
  constexpr auto at_most = std::chrono::seconds{10};
  auto doubles = take_doubles(); // they come again, to the new place
  auto m = std::exchange(managed_, nullptr);
  stage_ = place_in_time::moved;
  for (auto& e : m->queue.entries()) {
    limit_->used.release(e.what.what->cost());
    home_.around().stamp(e.what, home_.now() - e.since);
    bool need_not_be = e.what.shared && e.what.shared->is_settled.load(std::memory_order_relaxed); // another session's client has it
    auto flags = static_cast<std::uint8_t>((e.is_spooled || need_not_be ? control::has_list : 0) | (e.may_be_stored ? control::is_full : 0));
    say_to_successor({.what = control::kind::handed, .flags = flags}, std::move(e.what));
  }
  auto ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(m->window).count());
  tell_recent();
  std::uint8_t flags = 0;
  control c{.what = control::kind::adopt, .full = full_, .clock = clock_, .ids = {{completed_mark(), epoch_}, {ms, m->queue.acknowledged()}}};
  xmpp::delivery presence;
  if (view_) {
    flags = flags_of(*view_);
    c.priority = view_->priority;
    presence = {view_->presence, full_};
  }
  c.flags = flags;
  c.jids = std::exchange(directed_, {});
  say_to_successor(std::move(c), std::move(presence));
  if (auto h = std::exchange(held_, nullptr))
    for (auto& d : h->take_all()) {
      limit_->used.release(d.what->cost());
      pass_to_successor(std::move(d));
    }
  for (auto& d : doubles)
    route_again(home_, std::move(d));
  forget_open();
  leaves_ = std::make_unique<net::timer>(home_.loop().after(at_most, [this] { home_.guard(id(), [this] { leave_moved(); }); }));
}

/// What its client has had, so that nothing comes twice on one stream because it has moved.
void session::tell_recent() {
  control c{.what = control::kind::recent};
  bool is_second = false;
  if (recent_)
    recent_->for_each([&](std::uint64_t id) {
      if (is_second = !is_second; is_second)
        c.ids.push_back({id, 0});
      else
        c.ids.back().b = id;
    });
  if (!c.ids.empty())
    say_to_successor(std::move(c));
}

void session::know(const std::vector<base::u128>& ids) {
  if (stage_ != place_in_time::taking_over || ids.size() > xmpp::stream::recent_ids::most)
    return;
  recent_ = std::make_unique<xmpp::stream::recent_ids>();
  for (auto& two : ids)
    for (auto id : {two.a, two.b})
      if (id)
        recent_->insert(id, home_.now(), home_.around().together_since());
  recent_->overtake(home_.now()); // nobody has said how they came
}

/// Its row goes. What its account has sent here is passed on until the word comes that goes behind it.
void session::on_adopted() {
  constexpr auto at_most = std::chrono::seconds{2}; // an account that did not know of this place sends none
  if (stage_ != place_in_time::moved || is_ended_)
    return;
  withdraw_moved();
  home_.for_peers(to_peers::relocated{session_id_, {}, here()});
  leaves_ = std::make_unique<net::timer>(home_.loop().after(at_most, [this] { home_.guard(id(), [this] { leave_moved(); }); }));
}

void session::withdraw_moved() {
  if (!is_published_)
    return;
  publish(true);
  if (account_at_ == cluster::self)
    home_.post_to_entity(charged_account(), [](entity& e) { e.check_owner(); });
}

void session::leave_moved() {
  if (stage_ != place_in_time::moved || is_ended_)
    return;
  if (is_published_ && account_at_ == cluster::self) // nobody has adopted it: it ends here. An account elsewhere sees that by the row
    home_.post_to_entity(charged_account(), [sid = session_id_, me = here()](entity& e) { e.on_left(sid, me); });
  withdraw_moved();
  is_ended_ = true;
  home_.for_peers(to_peers::relocated{session_id_, here(), {}});
  home_.end(*this);
}

/// Behind all that its account has sent from the node that the word names: it goes on as that does, and is answered where the
/// session is. From a build that names none it is taken for its own.
void session::on_passage(cluster::peer_number from, const control& word) {
  if (stage_ == place_in_time::moved && successor_.node != cluster::self) {
    say_to_successor(word);
    return leave_moved();
  }
  if (stage_ == place_in_time::moved)
    return home_.post<session>(successor_.reactor, successor_.ref, [from, word](session& s) { s.on_passage(from, word); });
  auto said_by = word.text.empty() ? from : home_.around().peers()->find(word.text).value_or(from);
  bool is_asked = word.has(control::awaits_word) && !word.text.empty();
  if (!is_asked)
    word_from_ = said_by;
  if (!is_ended_)
    tell_settled_at(is_asked ? said_by : account_at_, {});
}

// --- the new one

void session::adopt(cluster::peer_number from, const control& c, xmpp::delivery&& presence) {
  if (stage_ != place_in_time::taking_over || is_ended_ || c.ids.size() != 2)
    return;
  end_turn();
  leaves_ = nullptr;
  full_ = c.full;
  bare_ = xmpp::bare_of(full_);
  limit_ = new cluster::session_limit{home_.around().settings().session_limits};
  since_ = home_.around().clock().wall();
  clock_ = c.clock;
  base_ = next_ = static_cast<std::uint32_t>(c.ids[0].a) + 1;
  epoch_ = static_cast<std::uint32_t>(c.ids[0].b) + 1;
  directed_ = c.jids;
  managed_ = std::make_unique<managed>();
  managed_->window = std::chrono::milliseconds{c.ids[1].a};
  managed_->queue.begin_at(static_cast<std::uint32_t>(c.ids[1].b));
  managed_->mark_moved = home_.now();
  view_ = std::make_shared<const modules::session_view>(view_of(c, session_id_, full_, presence.what));
  for (auto& w : std::exchange(handed_, {})) {
    limit_->used.charge_always(w.what.what->cost());
    remember(w.what);
    w.what.is_managed = true;
    managed_->queue.push(std::move(w.what), home_.now());
    auto& kept = managed_->queue.entries().back();
    kept.is_spooled = w.is_spooled;
    kept.may_be_stored = w.may_be_stored;
  }
  is_bound_ = true;
  stage_ = place_in_time::silent;
  publish();
  account_at_ = from;
  say({.what = control::kind::adopted});
  account_at_ = cluster::self; // that was the old place's node, and nothing is known of the account's
  check_account(true);
  for (auto& d : std::exchange(early_, {}))
    on_remote_deliver(std::move(d));
  if (!stream_) // lost again meanwhile
    return detach();
  managed_->resumes_until = home_.now() + home_.around().settings().storage_timeout;
  arm_next(); // its client says nothing before it is known whom it has blocked
  resume_if_ready();
}

void session::set_snapshot(modules::snapshot_ref of_account) {
  snapshot_ = std::move(of_account);
  resume_if_ready();
}

} // namespace actors
