// XEP-0198 Stream Management 1.6.1 at a session: what the client says of it, the unacknowledged queue, and time
// (docs/delivery.md). And XEP-0352, which comes right before the queue.
#include "actors/session_managed.hpp"
#include <algorithm>

namespace actors {

namespace management = xmpp::stream::management;
using xmpp::stanza_errc;
using xmpp::stanza_kind;

namespace {
constexpr std::size_t ask_at_once = 256;               // that many unasked: now, not in 100 ms
constexpr auto look_once_more = std::chrono::seconds{1}; // before a client counts as lost
} // namespace

// --- what the client says

void session::on_management(const xmpp::element& e) {
  if (!stream_)
    return;
  auto& below = stream_->below();
  if (e.name() == "r" && managed_)
    return on_ack_wanted();
  if (e.name() == "a" && managed_)
    return on_ack(e);
  if (e.name() == "enable" && !managed_)
    return below.send(enable(management::parse_enable(e)));
  below.send(management::failed_xml(stanza_errc::unexpected_request));
}

std::string session::enable(const management::enable& wanted) {
  managed_ = std::make_unique<managed>();
  managed_->mark_moved = home_.now();
  if (!wanted.resume || host_->management.window == std::chrono::seconds::zero())
    return management::enabled_xml({}, 0);
  auto window = host_->management.window;
  if (wanted.max_s)
    window = std::min(std::chrono::seconds{*wanted.max_s}, host_->management.longest_window);
  managed_->window = window;
  auto id = resumption_text(session_id_, home_.around().resumption_key());
  return management::enabled_xml(id, static_cast<std::uint32_t>(window.count()));
}

void session::on_ack(const xmpp::element& e) {
  auto h = management::parse_ack(e);
  if (!h) {
    stream_->below().send(management::failed_xml(stanza_errc::bad_request));
    return;
  }
  if (!managed_->queue.covers(*h)) {
    auto sent = managed_->queue.sent();
    return stream_->close_with(management::handled_too_high_xml(*h, sent), xmpp::stream_errc::undefined_condition);
  }
  managed_->is_asked = managed_->is_doubted = false;
  acknowledge(*h);
  if (!managed_->queue.empty())
    want_ack();
}

/// Ends the wait for what the client has. The queue covers `h`.
void session::acknowledge(std::uint32_t h) {
  std::vector<base::u128> stored, shared;
  std::uint32_t bytes = 0, messages = 0;
  bool is_told = false;
  (void)managed_->queue.acknowledge(h, [&](management::unacknowledged::entry& e) {
    auto& s = *e.what.what;
    bytes += s.cost();
    ++messages;
    e.what.settle();
    home_.complete(s.completion, modules::outcome::acknowledged);
    if (s.type() == xmpp::stanza_type::error && open_count() > 0) [[unlikely]] {
      on_told(&s);
      is_told = true;
    }
    if (!managed_->doubles.empty()) [[unlikely]]
      acknowledge_doubles(e.what);
    if (e.is_spooled || e.may_be_stored || e.what.is_stored || e.what.is_again)
      stored.push_back(s.stanza_id);
    else if (e.what.shared && e.what.shared->is_elsewhere)
      shared.push_back(s.stanza_id);
    e.what = {};
  });
  if (messages)
    limit_->used.release(bytes, messages);
  if (!stored.empty())
    tell_settled(std::move(stored));
  if (!shared.empty()) [[unlikely]]
    tell_arrived(std::move(shared));
  if (is_told)
    stage_ == place_in_time::own ? move_mark() : pass_ended();
}

void session::tell_settled(std::vector<base::u128> ids) { tell_settled_at(account_at_, std::move(ids)); }

void session::tell_settled_at(cluster::peer_number node, std::vector<base::u128> ids) {
  if (node != cluster::self) [[unlikely]]
    return say_at(node, {.what = cluster::control::kind::settled, .ids = std::move(ids)});
  home_.post_to_entity(charged_account(), [me = here(), sid = session_id_, ids = std::move(ids)](entity& e) mutable { e.on_settled(me, sid, std::move(ids)); });
}

/// Others of the account's sessions need not have it stored. When this word is lost, one of them may get it once more.
void session::tell_arrived(std::vector<base::u128> ids) {
  if (account_at_ != cluster::self) [[likely]]
    return say({.what = cluster::control::kind::arrived, .ids = std::move(ids)});
  home_.post_to_entity(charged_account(), [ids = std::move(ids)](entity& e) mutable { e.on_arrived(std::move(ids)); });
}

// --- what the client is sent

void session::send_on(xmpp::delivery&& what) {
  remember(what);
  if (!managed_) {
    if (stream_) [[likely]]
      return stream_->send(std::move(what));
    limit_->used.release(what.what->cost());
    return route_again(home_, std::move(what));
  }
  what.is_managed = true;
  managed_->queue.push(what, home_.now());
  if (stream_ && stage_ == place_in_time::own)
    stream_->send(std::move(what));
  want_ack();
}

/// Asks at once when no <r/> is open and the last is over 100 ms old, else when that time has passed: an ack for each
/// message of a fast stream costs more than the server's own work.
void session::want_ack() {
  auto& m = *managed_;
  auto now = home_.now();
  if (stream_ && stage_ == place_in_time::own && !m.is_asked && (now - m.asked >= ask_again || m.queue.size() >= ask_at_once)) {
    m.is_asked = true;
    m.asked = now;
    stream_->below().ask_for_ack();
  }
  arm(now + ask_again);
}

namespace {
/// 8 bytes of the stanza-id; a carbon copy is another message.
std::uint64_t short_id(const xmpp::delivery& d) { return d.what->stanza_id.a ^ static_cast<std::uint64_t>(d.is_copy); }
bool is_same(const xmpp::delivery& a, const xmpp::delivery& b) { return a.what->stanza_id == b.what->stanza_id && a.is_copy == b.is_copy; }
/// Its sender gives the same one the same name: a client by its origin-id, a session that routes again by its completion.
/// Of a copy nobody sees what it copies: it has that one's id, and may come again for the same reasons.
bool may_come_again(const xmpp::delivery& d) {
  return d.what->kind() == stanza_kind::message && d.what->stanza_id && (d.what->completion || d.what->tag().origin_id || d.is_copy || d.is_again || d.is_stored);
}
} // namespace

void session::remember(const xmpp::delivery& what) {
  if (!may_come_again(what))
    return;
  if (!recent_)
    recent_ = std::make_unique<xmpp::stream::recent_ids>();
  recent_->insert(short_id(what), home_.now(), home_.around().together_since());
  if (what.is_again)
    recent_->overtake(home_.now());
}

/// The same message once more: whoever sent it lost its stream, its node, or who held it. What is not acknowledged is
/// known for longer than what is.
bool session::is_known(const xmpp::delivery& what) {
  if (!recent_ || !may_come_again(what))
    return false;
  bool looks_so = what.is_again || what.is_copy || what.what->tag().origin_id || recent_->may_be_overtaken(home_.now());
  if (!looks_so) [[likely]]
    return false;
  if (recent_->contains(short_id(what), home_.now(), home_.around().together_since()))
    return true;
  return managed_ && !managed_->queue.empty() && home_.now() - managed_->queue.entries().front().since >= xmpp::stream::recent_ids::life
         && find_unacknowledged(what);
}

xmpp::stream::management::unacknowledged::entry* session::find_unacknowledged(const xmpp::delivery& what) {
  if (!managed_)
    return nullptr;
  auto all = managed_->queue.entries();
  auto i = std::ranges::find_if(all, [&](auto& e) { return is_same(e.what, what); });
  return i == all.end() ? nullptr : &*i;
}

/// Its client gets it once. Whoever waits for the second one learns what becomes of the first, and so does who waits for that:
/// one may be its sender, the other the account, which has it stored from an earlier try.
void session::drop_known(xmpp::delivery&& what) {
  auto* first = find_unacknowledged(what);
  auto completion = what.what->completion;
  if (!first) { // acknowledged, or written to a client that cannot say so
    what.settle();
    home_.complete(completion, modules::outcome::acknowledged);
  } else if (completion && !(completion == first->what.what->completion)
             && std::ranges::find(managed_->doubles, completion, [](auto& d) { return d.what->completion; }) == managed_->doubles.end()) {
    if (first->is_spooled && !what.is_stored) // there is a row, or soon will be
      store({what});
    return managed_->doubles.push_back(std::move(what)); // it stays charged
  }
  limit_->used.release(what.what->cost());
}

void session::acknowledge_doubles(const xmpp::delivery& first) {
  std::erase_if(managed_->doubles, [&](auto& d) {
    if (!is_same(d, first))
      return false;
    limit_->used.release(d.what->cost());
    d.settle();
    home_.complete(d.what->completion, modules::outcome::acknowledged);
    return true;
  });
}

/// Those whose wait nobody else ends, when what is in the queue ends with this session or goes elsewhere.
std::vector<xmpp::delivery> session::take_doubles() {
  auto all = std::exchange(managed_->doubles, {});
  for (auto& d : all)
    limit_->used.release(d.what->cost());
  std::erase_if(all, [this](auto& d) {
    auto* first = d.is_stored ? nullptr : find_unacknowledged(d);
    return first && first->is_spooled;
  });
  return all;
}

/// What nobody has acknowledged for a while is stored by the account, so that its sender need not wait.
void session::spool(base::time_point now) {
  std::vector<xmpp::delivery> late;
  for (auto& e : managed_->queue.entries()) {
    if (now - e.since < home_.around().settings().spool_after)
      break;
    auto& s = *e.what.what;
    bool is_settled = e.what.shared && e.what.shared->is_settled.load(std::memory_order_relaxed);
    if (e.is_spooled || e.what.is_copy || e.what.is_stored || is_settled || s.kind() != stanza_kind::message || !s.completion)
      continue;
    e.is_spooled = true;
    late.push_back(e.what);
    home_.around().stamp(late.back(), now - e.since, {}); // should it come again it has been passed
    for (auto& d : managed_->doubles)
      if (is_same(d, e.what) && !d.is_stored)
        late.push_back(d);
  }
  if (!late.empty())
    store(std::move(late));
}

void session::store(std::vector<xmpp::delivery> late) {
  if (account_at_ != cluster::self) [[unlikely]] {
    for (auto& d : late)
      send_to_account(cluster::parcel_kind::spool, std::move(d));
    return;
  }
  home_.post_to_entity(charged_account(), [me = here(), sid = session_id_, late = std::move(late)](entity& e) mutable { e.on_spool(me, sid, std::move(late)); });
}

void session::on_unspooled(xmpp::delivery&& what) {
  if (is_ended_ && stage_ != place_in_time::moved) // it was let go as the account's
    return route_again(home_, std::move(what));
  spool_again(what.what->stanza_id);
}

void session::spool_again(base::u128 stanza_id) {
  if (stage_ == place_in_time::moved && successor_.node != cluster::self)
    return say_to_successor({.what = cluster::control::kind::unspooled, .ids = {stanza_id}});
  if (stage_ == place_in_time::moved)
    return home_.post<session>(successor_.reactor, successor_.ref, [stanza_id](session& s) { s.spool_again(stanza_id); });
  if (!managed_)
    return;
  for (auto& e : managed_->queue.entries())
    if (e.is_spooled && e.what.what->stanza_id == stanza_id) {
      e.is_spooled = false;
      e.may_be_stored = true;
      home_.around().stamp(e.what, home_.now() - e.since, {});
      e.since = home_.now(); // once more in a while
    }
  arm(home_.now() + home_.around().settings().spool_after);
}

/// What ends with this session and must go elsewhere. What the account has stored stays its own.
std::vector<xmpp::delivery> session::drop_unacknowledged() {
  std::vector<xmpp::delivery> again;
  auto drop = [&](xmpp::delivery&& d) {
    limit_->used.release(d.what->cost());
    d.is_managed = false;
    again.push_back(std::move(d));
  };
  if (managed_)
    again = take_doubles();
  if (auto m = std::exchange(managed_, nullptr))
    for (auto& e : m->queue.entries()) {
      if (e.is_spooled)
        limit_->used.release(e.what.what->cost());
      else {
        home_.around().stamp(e.what, home_.now() - e.since);
        drop(std::move(e.what));
      }
    }
  if (auto h = std::exchange(held_, nullptr))
    for (auto& d : h->take_all())
      drop(std::move(d));
  for (auto& d : std::exchange(early_, {}))
    drop(std::move(d));
  return again;
}

// --- time

void session::arm(base::time_point due) {
  auto& m = *managed_;
  if (m.timer.is_armed() && m.due <= due)
    return;
  m.due = due;
  home_.loop().arm(m.timer, due - home_.now(), [this] { home_.guard(id(), [this] { on_time(); }); });
}

void session::on_time() {
  if (!managed_ || is_ended_)
    return;
  auto& m = *managed_;
  auto& limits = home_.around().settings();
  auto now = home_.now();
  if (stage_ == place_in_time::silent && now >= m.resumes_until)
    return resume_now();
  if (!stream_ && stage_ == place_in_time::own && now - m.lost >= m.window) {
    base::log::info("session.expired", "a session was not resumed in time", {{"stream", std::to_string(log_id_)}, {"jid", full_->full()}});
    return end();
  }
  if (stream_ && m.is_asked && stream_->below().waits_for_link())
    m.asked = now; // it may have answered, we do not listen
  if (stream_ && m.is_asked && now - m.asked >= limits.ack_timeout) {
    if (std::exchange(m.is_doubted, true)) {
      base::log::info("session.silent", "the client did not acknowledge in time; its connection counts as lost",
                      {{"stream", std::to_string(log_id_)}, {"jid", full_->full()}, {"peer", stream_->below().socket().peer()}});
      return stream_->below().abort(); // comes back as on_stream_lost()
    }
    m.asked = now + look_once_more - limits.ack_timeout; // this node may have stood still, not the client
  }
  if (stream_ && stage_ == place_in_time::own && m.owes_ack && (m.owes_answer || m.told != completed_mark()))
    tell_handled();
  spool(now);
  if (open_count() > 0 && now - m.mark_moved >= abandoned_after(*host_))
    route_abandoned_again();
  if (managed_ && now >= m.again_at)
    send_waiting();
  if (managed_ && !m.queue.empty())
    want_ack();
  if (managed_)
    arm_next();
}

void session::arm_next() {
  auto& m = *managed_;
  auto& limits = home_.around().settings();
  auto now = home_.now();
  auto due = base::time_point::max();
  if (stage_ == place_in_time::silent)
    due = std::min(due, m.resumes_until);
  else if (!stream_)
    due = std::min(due, m.lost + m.window);
  if (stream_ && m.is_asked)
    due = std::min(due, m.asked + limits.ack_timeout);
  if (stream_ && m.owes_ack)
    due = std::min(due, m.owes_answer ? m.told_at + ask_again : now + ask_again);
  for (auto& e : m.queue.entries())
    if (!e.is_spooled && e.what.what->completion && e.what.what->kind() == stanza_kind::message && !e.what.is_copy && !e.what.is_stored) {
      due = std::min(due, std::max(e.since + limits.spool_after, now + std::chrono::milliseconds{10}));
      break;
    }
  if (open_count() > 0)
    due = std::min({due, m.mark_moved + abandoned_after(*host_), m.again_at});
  if (due != base::time_point::max())
    arm(std::max(due, now + std::chrono::milliseconds{10}));
}

// --- client state (XEP-0352)

/// A client that is away counts as inactive, too: what supersedes itself is not kept twice for it.
void session::set_inactive(bool is) {
  is_inactive_ = is;
  if (is && !held_)
    held_ = std::make_unique<xmpp::im::held_back>();
  else if (!is && stream_)
    release_held();
  if (!is && held_ && held_->empty() && stream_)
    held_ = nullptr;
}

void session::release_held() {
  if (held_)
    for (auto& d : held_->take_all())
      send_on(std::move(d));
}

} // namespace actors
