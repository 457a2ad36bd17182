// Stamps, checks and sends on what one client says; passes outward what it is sent.
#include "actors/session_managed.hpp"
#include "actors/connection.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "actors/stream.hpp"

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_kind;
using xmpp::stanza_type;

session::session(home& h, host_ref host, stream& below, std::uint64_t session_id,
                 base::ref<cluster::session_limit> limit)
  : home_(h), host_(std::move(host)), stream_(&below), limit_(std::move(limit)),
    session_id_(session_id), since_(h.around().clock().wall()), log_id_(below.log_id()) {}

session::~session() { end_turn(); }

void session::attach(const xmpp::jid_ref& wanted, const xmpp::stream::bind_extras& extras) {
  full_ = wanted;
  bare_ = xmpp::bare_of(wanted);
  if (extras.enable_management || extras.inactive)
    extras_ = std::make_unique<xmpp::stream::bind_extras>(extras);
  clock_ = home_.around().next_bind_clock();
  if (auto* others = home_.around().peers())
    if (auto there = others->rows().home_of(*bare_); there && there->node != cluster::self) {
      account_at_ = there->node;
      using c = cluster::control;
      home_.for_peers(to_peers::relocated{session_id_, {}, here()}); // the answer comes here
      return say({.what = c::kind::attach, .full = wanted, .clock = clock_, .flags = static_cast<std::uint8_t>(extras.carbons ? c::wants_copies : 0)});
    }
  modules::attach_request who{session_id_, wanted, here(), clock_, limit_, extras.carbons};
  home_.post_to_entity(charged_account(), [who](entity& e) { e.on_attach(who); });
}

/// For control that must get there.
cluster::address& session::charged_account() { return home_.around().registry().charge_always(bare_, home_.index(), home::control_cost); }

/// For what may be refused. Among several nodes the account may move, and its row go.
cluster::registry::found session::charge_account() {
  if (own_) [[likely]]
    return {own_, own_->limit.charge(home::control_cost)};
  auto f = home_.around().registry().charge(*bare_, home::control_cost);
  return f.at ? f : cluster::registry::found{&charged_account(), base::room::ok};
}

void session::on_accepted(const xmpp::jid_ref& full) {
  if (std::exchange(is_bound_, true))
    return; // by an account that was not sure
  full_ = full;
  if (home_.around().peers()) {
    publish();
  } else {
    // Published before this was sent, so the row is there, and stays until the account hears of our end.
    auto found = home_.around().registry().charge(*full, 0);
    assert(found.at);
    own_ = found.at;
    if (found.room != base::room::full)
      own_->limit.release(0);
  }
  if (is_ended_ || !stream_)
    return;
  std::string inline_xml; // in the order of XEP-0386
  if (auto extras = std::exchange(extras_, nullptr)) {
    if (auto& m = extras->enable_management; m && host_->management.is_on)
      inline_xml += enable({m->resume, m->max_s ? std::optional{m->max_s} : std::nullopt});
    set_inactive(extras->inactive);
  }
  stream_->on_bound(full_, inline_xml);
}

void session::on_refused(const xmpp::stanza_error& why) {
  if (stream_)
    stream_->on_bind_refused(why);
  stream_ = nullptr;
  is_ended_ = true; // was never let in
  publish(true);
  home_.end(*this);
}

session_info session::describe() const {
  session_info i;
  i.jid = full_->full();
  if (stream_) {
    i.peer = stream_->below().socket().peer();
    i.is_tls = stream_->below().is_tls();
  }
  i.since = std::chrono::duration_cast<std::chrono::seconds>(since_.time_since_epoch()).count();
  i.reactor = home_.index();
  i.id = session_id_;
  i.stream = log_id_;
  for (auto& row : home_.around().sessions_here(*full_))
    if (row.id == session_id_) {
      i.priority = row.priority;
      i.is_available = row.is_available;
    }
  return i;
}

// --- inward

void session::refuse(const xmpp::stanza& s, const xmpp::stanza_error& why) {
  home_.complete(s.completion, modules::outcome::bounced);
  reply(xmpp::make_error(s, why));
}

/// To this session's own client, without a detour: answers of the server to what it has just said.
void session::reply(xmpp::stanza_ref what) {
  if (!what)
    return;
  limit_->used.charge_always(what->cost());
  on_deliver({std::move(what), {}});
}

/// RFC 6120 section 8.1 and 8.2.3: addresses, types, ids. Fills in from and to.
session::entry session::admit(xmpp::stanza& s) {
  s.from = full_;
  if (auto raw = s.raw_from(); !raw.empty() && raw != full_->full() && raw != full_->bare()) {
    auto claimed = home_.jids.find(raw); // the same JID in another spelling is fine
    if (!claimed || !(*claimed == *full_ || (claimed->is_bare() && same_bare(*claimed, *full_)))) {
      close(xmpp::stream_errc::invalid_from, {});
      return entry::is_answered;
    }
  }
  if (s.tag().to) {
    s.to = home_.jids.find(s.raw_to());
    if (!s.to) {
      s.to = host_->view.domain; // the error comes from the server
      refuse(s, stanza_errc::jid_malformed);
      return entry::is_answered;
    }
  }
  if (s.type() == stanza_type::invalid) {
    if (!s.to)
      s.to = bare_;
    refuse(s, stanza_errc::bad_request);
    return entry::is_answered;
  }
  return s.kind() == stanza_kind::iq ? check_iq(s) : entry::goes_on;
}

session::entry session::check_iq(const xmpp::stanza& s) {
  bool has_id = static_cast<bool>(s.tag().id);
  bool one_child = s.tag().children == 1;
  bool is_good = has_id && (s.is_request() ? one_child : s.type() == stanza_type::result ? s.tag().children <= 1 : true);
  if (is_good)
    return entry::goes_on;
  if (s.is_request())
    refuse(s, stanza_errc::bad_request);
  return entry::is_answered;
}

void session::on_stanza(xmpp::delivery&& what) {
  if (is_ended_ || !is_bound())
    return;
  home_.count().stanzas_in->add();
  auto& s = *what.what; // this session is its only owner as yet
  if (s.kind() == stanza_kind::other)
    return on_nonza(s);
  if (managed_)
    open_completion(what.what);
  if (admit(s) == entry::is_answered)
    return;
  bool has_target = static_cast<bool>(s.to);
  if (!has_target)
    s.to = bare_; // RFC 6120 section 10.3
  if (!host_->view.entered.empty()) {
    modules::stanza_entered ev{s, full_, host_->view, *snapshot_};
    auto v = host_->view.entered.run(ev);
    if (v.what() == modules::verdict::kind::refuse)
      return refuse(s, v.error());
    if (!v.passes())
      return home_.complete(s.completion, modules::outcome::refused);
  }
  if (s.kind() == stanza_kind::message) [[likely]] {
    if (snapshot_->copies_sent) // the own account first: its other devices get copies
      show_own_account(what.what);
    return route(home_, std::move(what));
  }
  if (s.kind() == stanza_kind::presence)
    return has_target ? on_presence(std::move(what)) : to_own_account(std::move(what));
  if (!has_target && !s.is_request())
    return home_.complete(s.completion, modules::outcome::refused); // an answer to nobody's question
  on_iq(std::move(what));
}

void session::on_presence(xmpp::delivery&& what) {
  auto& s = *what.what;
  switch (s.type()) {
    case stanza_type::subscribe:
    case stanza_type::subscribed:
    case stanza_type::unsubscribe:
    case stanza_type::unsubscribed: // RFC 6121 section 3.1.2: bare JIDs on both ends, own account first
      s.from = bare_;
      s.to = xmpp::bare_of(s.to);
      return to_own_account(std::move(what));
    case stanza_type::available:
    case stanza_type::unavailable: {
      auto there = std::find_if(directed_.begin(), directed_.end(), [&](auto& j) { return *j == *s.to; });
      if (s.type() == stanza_type::unavailable) {
        if (there != directed_.end())
          directed_.erase(there);
      } else if (there == directed_.end()) {
        if (directed_.size() >= home_.around().settings().max_directed_presence)
          return refuse(s, stanza_errc::resource_constraint);
        directed_.push_back(s.to);
      }
      return route(home_, std::move(what));
    }
    case stanza_type::probe:
      s.from = bare_; // RFC 6121 section 4.3: a probe asks for the account
      return route(home_, std::move(what));
    default:
      return route(home_, std::move(what));
  }
}

void session::on_iq(xmpp::delivery&& what) {
  auto& s = *what.what;
  if (s.to->is_bare() && same_bare(*s.to, *bare_))
    return to_own_account(std::move(what));
  bool is_own_host = s.to->is_bare() && s.to->is_domain() && s.to->domain() == host_->view.domain->domain();
  if (is_own_host && s.is_request() && !host_->view.entities.contains("")) {
    home_.complete(s.completion, modules::outcome::acknowledged);
    return reply(serve_iq(&home_, host_, modules::at::host, what.what));
  }
  route(home_, std::move(what));
}

void session::to_own_account(xmpp::delivery&& what) {
  if (what.what->kind() == stanza_kind::presence && what.what->type() == stanza_type::unavailable)
    leave_directed();
  if (waits_for_account()) [[unlikely]]
    return wait_for_account(std::move(what));
  if (account_at_ != cluster::self) [[unlikely]]
    return send_to_account(cluster::parcel_kind::outbound, std::move(what));
  auto own = charge_account();
  if (own.room == base::room::full || (own.room == base::room::over && what.what->is_request())) {
    if (own.room == base::room::over)
      own.at->limit.release(home::control_cost);
    return refuse(*what.what, stanza_errc::resource_constraint);
  }
  home_.pass_outbound(*own.at, here(), session_id_, std::move(what));
}

/// What this session sends, for its account to look at. Without room there it is not shown: a copy is no delivery.
void session::show_own_account(const xmpp::stanza_ref& what) {
  if (account_at_ != cluster::self) [[unlikely]]
    return send_to_account(cluster::parcel_kind::sent, {what, {}});
  auto own = charge_account(); // the bytes are charged on their own way
  if (own.room == base::room::over)
    own.at->limit.release(home::control_cost);
  if (own.room == base::room::ok)
    home_.post_to_entity(*own.at, [sid = session_id_, what](entity& e) { e.on_sent(sid, what); });
}

/// What is no stanza: stream management and client state.
void session::on_nonza(const xmpp::stanza& s) {
  thread_local xmpp::document parser;
  auto e = parser.parse(s.bytes());
  if (e.ns() == xmpp::stream::management::ns && host_->management.is_on)
    return on_management(e);
  if (e.ns() == xmpp::im::client_state_ns && host_->has_client_state && (e.name() == "active" || e.name() == "inactive"))
    return set_inactive(e.name() == "inactive");
  close(xmpp::stream_errc::unsupported_stanza_type, {});
}

// --- outward: plain calls that only count and append

void session::on_deliver(xmpp::delivery&& what) {
  if (stage_ != place_in_time::own) [[unlikely]] {
    if (stage_ == place_in_time::taking_over)
      return early_.push_back(std::move(what)); // charged; moves over before anything else
    if (stage_ == place_in_time::ended) {
      limit_->used.release(what.what->cost());
      return route_again(home_, std::move(what));
    }
    if (stage_ == place_in_time::moved && successor_.node != cluster::self) {
      limit_->used.release(what.what->cost());
      return pass_to_successor(std::move(what));
    }
    if (stage_ == place_in_time::moved)
      return home_.post<session>(successor_.reactor, successor_.ref, [d = std::move(what)](session& s) mutable { s.on_deliver(std::move(d)); });
  }
  if (is_known(what)) [[unlikely]]
    return drop_known(std::move(what));
  if (held_) [[unlikely]] {
    xmpp::delivery replaced;
    if (held_->hold(what, replaced)) {
      if (replaced.what) {
        limit_->used.release(replaced.what->cost());
        home_.complete(replaced.what->completion, modules::outcome::refused);
      }
      return;
    }
    if (stream_) // the radio is on anyway
      release_held();
  }
  send_on(std::move(what));
}

void session::on_broadcast(xmpp::delivery&& what) {
  if (!is_bound() || is_ended_)
    return;
  auto cost = what.what->cost();
  if (auto room = limit_->used.charge(cost); room == base::room::full)
    return;
  on_deliver(std::move(what));
}

void session::ping_client() {
  xmpp::writer w;
  w.open("iq").attr("type", "get").attr("id", home_.around().random().hex(6)).open("ping", "urn:xmpp:ping").close().close();
  auto ping = xmpp::stanza::from_xml(w.take());
  ping->from = host_->view.domain;
  ping->to = full_;
  on_broadcast({std::move(ping), {}});
}

// --- the end

void session::close(xmpp::stream_errc why, const std::string& text) {
  if (is_ended_)
    return;
  if (stream_)
    stream_->close(why, text); // calls on_stream_lost
  else
    end();
}

void session::on_stream_lost(std::vector<xmpp::delivery> unwritten) {
  if (stage_ == place_in_time::taking_over) { // what it waits for comes all the same
    stream_ = nullptr;
    return;
  }
  auto& node = home_.around();
  bool nobody_goes_on = node.is_draining() && !(node.peers() && node.peers()->has_successor());
  if (!managed_ || managed_->window == base::duration::zero() || is_ended_ || !is_bound() || nobody_goes_on)
    return on_stream_closed(std::move(unwritten));
  detach();
  for (auto& d : unwritten) // from before <enabled/>: no ack will tell of them
    route_again(home_, std::move(d));
}

void session::on_stream_closed(std::vector<xmpp::delivery> unwritten) {
  stream_ = nullptr;
  if (stage_ == place_in_time::taking_over)
    return;
  for (auto& d : drop_unacknowledged())
    unwritten.push_back(std::move(d));
  end();
  for (auto& d : unwritten) // behind the account's knowledge that we are gone: same lane, same order
    route_again(home_, std::move(d));
}

void session::leave_directed() {
  if (directed_.empty())
    return;
  xmpp::writer w;
  w.open("presence").attr("type", "unavailable").attr("to", bare_->bare()).close();
  auto gone = xmpp::stanza::from_xml(w.take());
  gone->from = full_;
  gone->to = bare_;
  for (auto& to : directed_)
    route(home_, {gone, to});
  directed_.clear();
}

void session::end() {
  if (std::exchange(is_ended_, true))
    return;
  if (stage_ == place_in_time::moving && successor_.node != cluster::self)
    refuse_peer(home_, successor_.node, session_id_, bare_);
  leave_directed();
  if (managed_ && managed_->window > base::duration::zero())
    home_.around().ended().note(session_id_, *bare_, completed_mark());
  auto again = drop_unacknowledged();
  if (account_at_ == cluster::self)
    home_.post_to_entity(charged_account(), [sid = session_id_](entity& e) { e.on_detach(sid); });
  else
    say({.what = cluster::control::kind::detach});
  publish(true);
  own_ = nullptr;
  if (stream_)
    stream_->close(xmpp::stream_errc::internal_server_error);
  stream_ = nullptr;
  for (auto& d : again)
    route_again(home_, std::move(d));
  stage_ = place_in_time::ended;
  leave();
}

/// Whoever holds one of its stanzas may lose it: somebody must be there to send it again (session_completions.cpp).
void session::leave() {
  // longer than storing or three more tries may take; where it goes on elsewhere its client sends again what has had no outcome
  auto at_most = stage_ == place_in_time::moved ? std::chrono::seconds{30} : std::chrono::seconds{120};
  drop_told();
  if (open_count() == 0)
    return home_.end(*this);
  wait_to_leave(home_.now() + at_most);
}

void session::on_crash(std::string_view) {
  auto* below = std::exchange(stream_, nullptr);
  end();
  if (below)
    below->close(xmpp::stream_errc::internal_server_error);
}

void end_detached_sessions(home& at) {
  at.table().for_each([&](light& l) {
    if (auto* s = dynamic_cast<session*>(&l); s && s->is_bound() && s->is_detached())
      at.post<session>(at.index(), s->id(), [](session& gone) { gone.close(xmpp::stream_errc::system_shutdown, {}); });
  });
}

} // namespace actors
