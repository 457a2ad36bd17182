// What becomes of the messages that a client has sent (docs/delivery.md): each waits for its outcome, and the client is told, as
// XEP-0198's `h`, how far all have one.
#include "actors/session_managed.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_kind;

namespace {
constexpr int most_tries = 3;
constexpr auto again_after = std::chrono::seconds{1};
constexpr std::uint32_t most_open = 4'096; // then the client is not read
} // namespace

/// IQs and presence are done when they are handed on; a message when somebody has it, a subscription when it is stored.
void session::open_completion(const xmpp::stanza_ref& s) {
  if (open_count() == open_.size()) {
    std::vector<open_stanza> bigger(open_.empty() ? 16 : open_.size() * 2);
    for (auto k = base_; k != next_; ++k)
      bigger[k & (bigger.size() - 1)] = std::move(slot(k));
    open_.swap(bigger);
  }
  auto number = next_++;
  bool waits = s->kind() == stanza_kind::message || (s->kind() == stanza_kind::presence && xmpp::im::is_subscription(s->type()));
  if (!waits)
    return number == base_ ? move_mark() : void();
  if (open_count() == 1)
    managed_->mark_moved = home_.now();
  s->completion = {id(), number, home_.index(), 0};
  slot(number) = {s, home_.now(), 0};
  if (open_count() >= most_open && stream_ && !pauses_) {
    pauses_ = true;
    stream_->below().pause();
  }
}

void session::on_completed(std::uint32_t number, modules::outcome how, const xmpp::error_ref& why) {
  bool goes_on_here = stage_ == place_in_time::moved && successor_.node == cluster::self;
  if (goes_on_here) {
    home_.post<session>(successor_.reactor, successor_.ref, [from = here(), number, how, why](session& s) { s.on_completed_before(from, number, how, why); });
    if (how == modules::outcome::abandoned) // it is sent once more, and its end comes here, too
      return;
  }
  if (number - base_ >= open_count())
    return; // ended before
  auto& kept = slot(number);
  if (!kept.is_open())
    return;
  if (how == modules::outcome::abandoned)
    return send_again(kept);
  if (why && !goes_on_here && tell_bounced(kept, *why))
    return stage_ == place_in_time::own ? void() : move_mark();
  kept.what = nullptr;
  if (number == base_)
    move_mark();
}

/// By no other way: the account may not know this session at this moment, or not be able to read its rows. True: it counts as
/// handled only when the client has acknowledged the error. Whom no stream reaches now is told so by the count alone, and sends it
/// again: an error that only waits here would be lost with this node.
bool session::tell_bounced(open_stanza& kept, const xmpp::stanza_error& why) {
  auto error = xmpp::make_error(*kept.what, why);
  if (!error)
    return false;
  if (is_ended_) {
    route(home_, {std::move(error), {}});
    return false;
  }
  kept.told = error;
  if (stream_ && stage_ == place_in_time::own)
    reply(std::move(error));
  return true;
}

/// The client has the error.
void session::on_told(const xmpp::stanza* error) {
  for (auto k = base_; k != next_; ++k)
    if (auto& kept = slot(k); kept.told == error)
      kept = {};
}

/// This session will not hear of what it has told any more.
void session::drop_told() {
  for (auto k = base_; k != next_; ++k)
    if (auto& kept = slot(k); kept.told)
      kept = {};
  pass_ended();
}

void session::pass_ended() {
  while (base_ != next_ && !slot(base_).what)
    ++base_;
}

bool session::is_any_open() {
  for (auto k = base_; k != next_; ++k)
    if (slot(k).is_open())
      return true;
  return false;
}

/// Whoever held it is gone: once more, though its sender may have left, too. At once the first time; then in a moment, as
/// links may come and go several times before all know who is there.
void session::send_again(open_stanza& kept) {
  if (kept.tries == 0 || !managed_ || is_ended_)
    return send_once_more(kept);
  kept.is_waiting = true;
  managed_->again_at = std::min(managed_->again_at, home_.now() + again_after);
  arm(managed_->again_at);
}

/// Always stamped: what was said later may have overtaken it.
void session::send_once_more(open_stanza& kept) {
  kept.is_waiting = false;
  if (++kept.tries > most_tries)
    return bounce(home_, *kept.what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "it could not be delivered"}); // ends it
  route(home_, {kept.what, {}, {}, false, false, false, true, home_.around().delayed_since(*kept.what, home_.now() - kept.since, {})});
}

void session::send_waiting() {
  managed_->again_at = base::time_point::max();
  for (auto k = base_; k != next_; ++k) // an outcome that comes at once may end any of them
    if (auto& kept = slot(k); kept.is_open() && kept.is_waiting)
      send_once_more(kept);
}

void session::wait_to_leave(base::time_point until) {
  auto after = std::min(abandoned_after(*host_), until - home_.now());
  leaves_ = std::make_unique<net::timer>(home_.loop().after(after, [this, until] {
    home_.guard(id(), [this, until] {
      if (home_.now() >= until)
        return home_.end(*this);
      if (stage_ == place_in_time::ended) // else its client sends again, at the new place
        route_abandoned_again();
      if (open_count() > 0)
        wait_to_leave(until);
    });
  }));
}

void session::on_completed_before(const cluster::place& from, std::uint32_t number, modules::outcome how, const xmpp::error_ref& why) {
  if (!has_forgotten_)
    on_completed(number, how, why);
  else if (how == modules::outcome::abandoned) // that number is another stanza's now, and its client has sent this one again
    home_.post<session>(from.reactor, from.ref, [number](session& s) { s.forget_open(number); });
}

void session::forget_open(std::uint32_t number) {
  if (number - base_ >= open_count())
    return;
  slot(number) = {};
  if (number == base_)
    move_mark();
}

/// The client has been told less than what came before: it sends the rest again, under the same numbers.
void session::forget_open() {
  has_forgotten_ = true;
  for (auto k = base_; k != next_; ++k)
    slot(k) = {};
  next_ = base_;
}

void session::move_mark() {
  pass_ended();
  if (is_ended_ && open_count() == 0)
    return home_.end(*this);
  if (stage_ == place_in_time::moving && successor_.node != cluster::self && !is_any_open())
    return send_value();
  if (!managed_)
    return;
  auto& m = *managed_;
  m.mark_moved = home_.now();
  if (stage_ == place_in_time::silent)
    return resume_if_ready();
  if (!stream_)
    return;
  if (m.owes_ack && open_count() == 0)
    tell_handled();
  if (pauses_ && open_count() < most_open / 2) {
    pauses_ = false;
    stream_->below().resume();
  }
}

/// Answered at once. Only who asks again within 100 ms, while there is nothing new to say, waits for the rest of them: one
/// write for each <r/> of a fast sender costs more than its messages.
void session::on_ack_wanted() {
  auto& m = *managed_;
  if (m.told != completed_mark() || home_.now() - m.told_at >= ask_again)
    return tell_handled();
  m.owes_answer = true;
  m.owes_ack = true;
  arm(m.told_at + ask_again);
}

/// What this does not cover yet follows unasked: as soon as nothing is open, else how far it has come by on_time(), for
/// an ack of each completion would cost more than it tells.
void session::tell_handled() {
  auto& m = *managed_;
  m.told = completed_mark();
  m.told_at = home_.now();
  m.owes_answer = false;
  m.owes_ack = open_count() > 0;
  stream_->below().tell_handled(m.told);
  if (m.owes_ack)
    arm(home_.now() + ask_again);
}

/// An entity that crashed, or a queue that was dropped, cannot say so: after a while what came before is sent again. Its
/// receivers know it by its identity.
void session::route_abandoned_again() {
  auto now = home_.now();
  if (managed_)
    managed_->mark_moved = now;
  for (auto k = base_; k != next_; ++k) // an outcome that comes at once may end any of them
    if (auto& kept = slot(k); kept.is_open() && (!kept.is_waiting || !managed_) && now - kept.since >= abandoned_after(*host_))
      send_again(kept);
}

} // namespace actors
