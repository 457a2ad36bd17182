// A session among several nodes: its row in every node's table, and its account where that lives on another one
// (docs/cluster-internals.md).
#include "actors/peers.hpp"
#include "actors/session_managed.hpp"
#include "base/metrics.hpp"
#include "xmpp/im/block_list.hpp"

namespace actors {

using cluster::control;
using cluster::parcel_kind;

namespace {
constexpr std::uint8_t most_returns = 3; // each after two seconds
} // namespace

void session::publish(bool is_removal) {
  if (!home_.around().peers() || !full_)
    return;
  assert(session_id_);
  is_published_ = !is_removal;
  cluster::row r;
  r.name = full_;
  r.session = session_id_;
  r.clock = clock_;
  r.ref = id();
  r.epoch = epoch_;
  r.reactor = home_.index();
  if (view_) {
    r.what.priority = view_->priority;
    r.what.flags = static_cast<std::uint8_t>((view_->is_available ? cluster::attributes::available : 0) | (view_->wants_copies ? cluster::attributes::carbons : 0));
  }
  if (managed_)
    r.what.flags |= cluster::attributes::managed;
  home_.for_peers(to_peers::row{std::move(r), is_removal});
}

void session::on_view(const modules::session_view& v) {
  if (stage_ == place_in_time::moved && successor_.node != cluster::self)
    return;
  if (stage_ == place_in_time::moved)
    return home_.post<session>(successor_.reactor, successor_.ref, [v](session& s) { s.on_view(v); });
  if (is_ended_)
    return;
  bool is_shown = !view_ || view_->is_available != v.is_available || view_->priority != v.priority || view_->wants_copies != v.wants_copies;
  view_ = std::make_shared<const modules::session_view>(v);
  if (is_shown && is_published_)
    publish();
}

void session::say_at(cluster::peer_number node, control what, xmpp::delivery stanza) {
  stanza.to = bare_;
  auto p = cluster::make_control(session_id_, std::move(what), std::move(stanza));
  p.sender = id();
  p.sender_reactor = home_.index();
  home_.for_peers(to_peers::send{node, std::move(p)});
}

void session::send_to_account(parcel_kind k, xmpp::delivery&& what) {
  cluster::parcel p;
  p.kind = k;
  p.session = p.order = session_id_;
  p.sender = id();
  p.sender_reactor = home_.index();
  p.has_completion = k != parcel_kind::sent && what.what->completion;
  if (k != parcel_kind::spool) // that goes to one of its sessions again
    what.to = bare_;
  p.what = std::move(what);
  if (!p.what.to)
    p.what.to = bare_;
  home_.to_peer(account_at_, std::move(p));
}

void session::wait_for_link(cluster::peer_number to) {
  if (stream_ && !is_ended_)
    stream_->below().wait_for_link(to);
}

void session::on_remote_deliver(xmpp::delivery&& what) {
  if (stage_ == place_in_time::moved && successor_.node != cluster::self)
    return pass_to_successor(std::move(what));
  if (!limit_) // it takes over from another node
    return early_.push_back(std::move(what));
  if (is_ended_ && stage_ != place_in_time::moved)
    return route_again(home_, std::move(what));
  auto type = what.what->type();
  bool is_reply = type == xmpp::stanza_type::result || type == xmpp::stanza_type::error;
  auto room = limit_->used.charge(what.what->cost());
  if (room == base::room::full)
    close(xmpp::stream_errc::resource_constraint, "the client does not read what it is sent");
  if (room == base::room::ok || (room == base::room::over && (is_reply || what.what->kind() == xmpp::stanza_kind::presence)))
    return on_deliver(std::move(what));
  if (room == base::room::over)
    limit_->used.release(what.what->cost());
  if (is_ended_ || is_reply)
    return route_again(home_, std::move(what));
  if (!what.to)
    what.to = bare_;
  auto p = cluster::make_control(session_id_, {.what = control::kind::no_room, .flags = static_cast<std::uint8_t>(room == base::room::full ? control::is_full : 0)}, std::move(what));
  p.needs_credit = true;
  p.has_completion = static_cast<bool>(p.what.what->completion);
  home_.for_peers(to_peers::send{account_at_, std::move(p)});
}

void session::on_said(cluster::peer_number from, const control& c, xmpp::delivery&& what) {
  switch (c.what) {
    case control::kind::accepted: return on_accepted(c.full);
    case control::kind::refused:
      return on_refused({static_cast<xmpp::stanza_errc>(c.code), static_cast<xmpp::error_type>(c.type), c.text});
    case control::kind::close: return close(static_cast<xmpp::stream_errc>(c.code), c.text);
    case control::kind::share: {
      auto list = c.has(control::has_list) ? std::make_shared<const xmpp::im::block_list>(c.jids) : nullptr;
      return set_snapshot(modules::snapshot_ref{new modules::account_snapshot{c.has(control::wants_copies), std::move(list)}});
    }
    case control::kind::view: return on_view(view_of(c, session_id_, full_, what.what));
    case control::kind::unspooled: return c.ids.empty() ? void() : spool_again(c.ids.front());
    case control::kind::elsewhere:
      if (!c.ids.empty())
        return on_settled_elsewhere(c.ids);
      return on_elsewhere(std::move(what));
    case control::kind::take_over:
      if (!hand_over_to_peer(from, static_cast<std::uint32_t>(c.clock)))
        refuse_peer(home_, from, session_id_, bare_);
      return;
    case control::kind::not_resumed:
      return on_not_found(c.has(control::has_list) ? std::optional{static_cast<std::uint32_t>(c.clock)} : std::nullopt);
    case control::kind::handed: return stage_ == place_in_time::taking_over ? handed_.push_back({std::move(what), c.has(control::has_list), c.has(control::is_full)}) : route_again(home_, std::move(what));
    case control::kind::recent: return c.ids.empty() ? on_passage(from, c) : know(c.ids);
    case control::kind::adopt: return adopt(from, c, std::move(what));
    case control::kind::adopted: return on_adopted();
    default: return;
  }
}

// --- the account moves

/// Of its account, by the table.
cluster::peer_number session::known_home() const {
  auto there = home_.around().peers()->rows().home_of(*bare_);
  return there ? there->node : cluster::self;
}

/// Nobody has taken over, and it has taken over whatever it had to.
bool session::is_in_place() const { return !is_ended_ && (stage_ == place_in_time::own || stage_ == place_in_time::silent); }

/// `is_sure`: it is not where this session took it to be, or does not know it.
void session::check_account(bool is_sure) {
  auto* others = home_.around().peers();
  if (!others || !is_in_place())
    return;
  auto now = known_home();
  if (now == account_at_ && !is_sure)
    return;
  auto before = std::exchange(account_at_, now);
  using c = control;
  if (!is_bound_) { // what asked for it is on its way to nowhere
    home_.for_peers(to_peers::relocated{session_id_, {}, here()});
    if (now != cluster::self)
      return say({.what = c::kind::attach, .full = full_, .clock = clock_});
    return home_.post_to_entity(charged_account(), [who = modules::attach_request{session_id_, full_, here(), clock_, limit_}](entity& e) { e.on_attach(who); });
  }
  auto v = view_ ? view_ : std::make_shared<const modules::session_view>(modules::session_view{session_id_, full_, 0, false, false, false, false, nullptr});
  bool was_lost = before != cluster::self && !others->is_alive(before);
  bool awaits_word = before != cluster::self && before != now && !was_lost && before != std::exchange(word_from_, cluster::self);
  if (now == cluster::self) {
    modules::attach_request who{session_id_, full_, here(), clock_, limit_, v->wants_copies, v, true, awaits_word, was_lost, epoch_ + 1ull};
    return home_.post_to_entity(charged_account(), [who](entity& e) { e.on_attach(who); });
  }
  auto flags = static_cast<std::uint8_t>(c::is_back | (was_lost ? c::was_lost : 0) | (awaits_word ? c::awaits_word : 0) | flags_of(*v));
  say({.what = c::kind::attach, .full = full_, .clock = clock_, .flags = flags, .priority = v->priority, .ids = {{epoch_ + 1ull, 0}}}, {v->presence, {}});
}

void session::on_peer_lost(cluster::peer_number n) {
  if (stage_ == place_in_time::taking_over && session_id_ && account_at_ == n)
    return on_take_over_refused({});
  if (account_at_ == n)
    check_account(true);
}

void session::on_elsewhere(xmpp::delivery&& what, bool is_returned) {
  if (stage_ == place_in_time::moved && successor_.node != cluster::self)
    return say_to_successor({.what = control::kind::elsewhere}, std::move(what));
  if (stage_ == place_in_time::moved)
    return home_.post<session>(successor_.reactor, successor_.ref, [d = std::move(what)](session& s) mutable { s.on_elsewhere(std::move(d)); });
  if (is_ended_)
    return what.what ? home_.complete(what.what->completion, modules::outcome::refused) : void();
  bool do_tables_differ = !is_returned && account_at_ == known_home();
  if (do_tables_differ || waits_for_account())
    return wait_for_account(std::move(what));
  check_account(!is_returned || !what.what); // what comes back has its attach before it
  if (what.what) {
    what.to = nullptr;
    if (is_returned && what.hops >= most_returns) // there is a link, and it is full. Its account could not even pass on an error
      return refuse(*what.what, {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "it could not be delivered"});
    to_own_account(std::move(what));
  }
}

bool session::waits_for_account() const { return turned_away_ && turned_away_->is_waiting; }

/// Its account's node has turned this away, and the table here still names that one: they will agree in a moment. To ask again at once,
/// for each stanza anew, would fill the links until then.
void session::wait_for_account(xmpp::delivery&& what) {
  constexpr auto pause = std::chrono::milliseconds{20};
  constexpr std::size_t most = 256;
  constexpr std::uint64_t most_bytes = 1u << 20;
  if (!turned_away_)
    turned_away_ = std::make_unique<turned_away>();
  auto& t = *turned_away_;
  if (!std::exchange(t.is_waiting, true)) {
    static auto& all = base::metrics::make_counter("covey_sessions_turned_away_total", "Times that the node of a session's account said that it lives elsewhere, and the table did not say so yet.");
    all.add();
    home_.loop().arm(t.timer, pause, [this] { home_.guard(id(), [this] { go_to_account_again(); }); });
  }
  if (!what.what)
    return;
  t.bytes += what.what->cost();
  t.waiting.push_back(std::move(what));
  if (t.waiting.size() >= most || t.bytes >= most_bytes)
    go_to_account_again();
}

/// One question for all of them: either it is taken, and they are behind it, or all of them come back, in order.
void session::go_to_account_again() {
  auto& t = *turned_away_;
  t.timer.cancel();
  t.is_waiting = false;
  t.bytes = 0;
  check_account(true);
  for (auto& d : std::exchange(t.waiting, {})) {
    if (!is_in_place()) {
      on_elsewhere(std::move(d));
      continue;
    }
    d.to = nullptr;
    to_own_account(std::move(d));
  }
}

void session::on_settled_elsewhere(std::vector<base::u128> ids) {
  if (is_ended_)
    return; // the rows are for the next login
  check_account(true);
  tell_settled(std::move(ids));
}

} // namespace actors
