// XEP-0198 section 5: a session outlives its stream, and goes on at another one, on this reactor or another. The new
// session actor starts on the new connection's reactor, takes the whole state of the old one, and gets the stragglers
// in order; the old one ends without presence, once what it sent has ended.
#include "actors/session_managed.hpp"

namespace actors {

session::session(home& h, host_ref host, stream& below)
  : home_(h), host_(std::move(host)), stream_(&below), log_id_(below.log_id()), stage_(place_in_time::taking_over) {}

/// Without a stream, waiting for one.
void session::detach() {
  stream_ = nullptr;
  pauses_ = false;
  auto& m = *managed_;
  m.is_asked = m.is_doubted = false;
  m.lost = home_.now();
  if (stage_ == place_in_time::silent) // the second stream went before it was told
    stage_ = place_in_time::own;
  if (!held_)
    held_ = std::make_unique<xmpp::im::held_back>();
  base::log::info("session.detached", "the connection was lost; the session can be resumed",
                  {{"stream", std::to_string(log_id_)}, {"jid", full_->full()}, {"seconds", std::to_string(std::chrono::duration_cast<std::chrono::seconds>(m.window).count())}});
  m.timer.cancel();
  arm_next();
}

// --- the new one

void session::take_over(std::uint64_t earlier, std::uint32_t h, const xmpp::jid_ref& account) {
  session_id_ = earlier;
  resumed_at_ = h;
  bare_ = xmpp::bare_of(account);
  for (auto& row : home_.around().sessions_here(*account)) // another account's is not found
    if (row.id == earlier) {
      home_.post(row.where.reactor, [there = row.where, h, me = here(), earlier, account](home& at) {
        auto* s = at.find<session>(there.ref);
        if (!s || !s->hand_over(me, h))
          at.post<session>(me.reactor, me.ref, [last = at.around().ended().find(earlier, *account)](session& fresh) { fresh.on_not_found(last); });
      });
      return;
    }
  if (ask_peer(earlier, h, account))
    return;
  auto last = home_.around().ended().find(earlier, *account);
  home_.post<session>(home_.index(), id(), [last](session& s) { s.on_not_found(last); }); // not inside the stream's own call
}

/// It may be on its way from one node to another at this moment, and its row, too.
void session::on_not_found(std::optional<std::uint32_t> last) {
  constexpr int most = 4;
  if (last || !home_.around().peers() || ++tries_ > most || stage_ != place_in_time::taking_over || is_ended_)
    return on_take_over_refused(last);
  take_over_later();
}

void session::take_over_later() {
  constexpr auto pause = std::chrono::milliseconds{100};
  leaves_ = std::make_unique<net::timer>(home_.loop().after(pause, [this] {
    home_.guard(id(), [this] {
      if (stage_ == place_in_time::taking_over && !is_ended_)
        take_over(session_id_, resumed_at_, bare_);
    });
  }));
}

/// It may have asked twice, and been answered by the first.
void session::on_take_over_refused(std::optional<std::uint32_t> h) {
  if (stage_ != place_in_time::taking_over || std::exchange(is_ended_, true))
    return;
  end_turn();
  if (session_id_ && home_.around().peers()) // it had asked another node
    home_.for_peers(to_peers::relocated{session_id_, here(), {}});
  for (auto& w : std::exchange(handed_, {}))
    route_again(home_, std::move(w.what));
  if (auto* below = std::exchange(stream_, nullptr))
    below->on_resume_refused(h);
  for (auto& d : std::exchange(early_, {})) // the account had sent here already
    route_again(home_, std::move(d));
  home_.end(*this);
}

void session::adopt(value& from, std::uint32_t h) {
  full_ = from.full;
  bare_ = from.bare;
  own_ = from.own;
  view_ = std::move(from.view);
  clock_ = from.clock;
  epoch_ = from.epoch + 1;
  account_at_ = from.account_at;
  is_bound_ = true;
  limit_ = std::move(from.limit);
  snapshot_ = std::move(from.snapshot);
  session_id_ = from.session_id;
  since_ = from.since;
  directed_ = std::move(from.directed);
  open_ = std::move(from.open);
  base_ = from.base;
  next_ = from.next;
  managed_ = std::move(from.kept);
  held_ = std::move(from.held);
  recent_ = std::move(from.recent);
  stage_ = place_in_time::silent;
  publish();
  acknowledge(h);
  for (auto& d : std::exchange(early_, {}))
    on_deliver(std::move(d));
  if (!snapshot_) // the account may not know where it is
    check_account(true);
  if (!stream_) // lost again meanwhile
    return detach();
  managed_->resumes_until = home_.now() + home_.around().settings().storage_timeout;
  arm_next(); // what was taken from the old stream ends first: then its count is exact
  resume_if_ready();
}

void session::resume_if_ready() {
  if (stage_ == place_in_time::silent && stream_ && snapshot_ && !is_any_open())
    resume_now();
}

/// Its account does not answer, as the store is away: only the stream ends. The client comes again.
void session::postpone_resumption() {
  auto* below = std::exchange(stream_, nullptr);
  below->let_go();
  below->close(xmpp::stream_errc::resource_constraint, "the session cannot go on at this moment");
  detach();
}

void session::resume_now() {
  if (!snapshot_)
    return postpone_resumption();
  stage_ = place_in_time::own;
  auto& m = *managed_;
  m.is_asked = m.is_doubted = m.owes_ack = m.owes_answer = false;
  m.lost = m.asked = {};
  forget_open();
  stream_->on_resumed(full_, completed_mark(), limit_);
  if (!stream_)
    return;
  for (auto& e : m.queue.entries()) {
    auto again = e.what;
    home_.around().stamp(again, home_.now() - e.since);
    stream_->send(std::move(again));
  }
  set_inactive(false); // XEP-0352 section 5.1
  if (!m.queue.empty())
    want_ack();
  arm_next();
}

// --- the old one

bool session::may_hand_over(std::uint32_t h) const {
  return !is_ended_ && is_bound() && stage_ == place_in_time::own && managed_ && managed_->window != base::duration::zero() && managed_->queue.covers(h);
}

void session::let_stream_go() {
  managed_->timer.cancel();
  if (auto* below = std::exchange(stream_, nullptr)) {
    below->let_go();
    below->close(xmpp::stream_errc::conflict, "the session goes on at another connection");
  }
}

bool session::hand_over(cluster::place to, std::uint32_t h) {
  if (!may_hand_over(h))
    return false;
  stage_ = place_in_time::moving;
  successor_ = to;
  resumed_at_ = h;
  let_stream_go();
  if (account_at_ != cluster::self) [[unlikely]] {
    home_.for_peers(to_peers::relocated{session_id_, here(), to});
    return true;
  }
  home_.post_to_entity(charged_account(), [sid = session_id_, me = here(), to](entity& e) { e.on_moved(sid, me, to); });
  return true;
}

/// The account sends to the new place from now on, and everything that it sent here before has come.
void session::on_moved(bool is_attached) {
  if (stage_ != place_in_time::moving)
    return;
  if (!is_attached || is_ended_) { // it ended meanwhile
    home_.post<session>(successor_.reactor, successor_.ref, [last = completed_mark()](session& s) { s.on_take_over_refused(last); });
    stage_ = place_in_time::own;
    return end();
  }
  auto all = std::make_unique<value>();
  all->full = full_;
  all->bare = bare_;
  all->own = std::exchange(own_, nullptr);
  all->view = view_;
  all->clock = clock_;
  all->epoch = epoch_;
  all->account_at = account_at_;
  is_published_ = false; // there it is
  all->limit = limit_;
  all->snapshot = snapshot_;
  all->session_id = session_id_;
  all->since = since_;
  all->directed = std::move(directed_);
  all->open = open_; // those that are open end here first, and are passed on
  all->base = base_;
  all->next = next_;
  managed_->timer.cancel(); // what came meanwhile has armed it: it is of this reactor, and calls this place
  all->kept = std::move(managed_);
  all->held = std::move(held_);
  all->recent = std::move(recent_);
  home_.post<session>(successor_.reactor, successor_.ref, [all = std::move(all), h = resumed_at_](session& s) { s.adopt(*all, h); });
  stage_ = place_in_time::moved;
  is_ended_ = true;
  leave();
}

} // namespace actors
