// One bound resource. The place where a client's stanzas enter: here they get their true `from`.
#pragma once
#include "actors/home.hpp"
#include "actors/host.hpp"
#include "actors/session_info.hpp"
#include "xmpp/im/client_state.hpp"
#include "xmpp/stream/management.hpp"
#include "xmpp/stream/recent_ids.hpp"
#include <boost/container/small_vector.hpp>

namespace actors {

class stream;

class session final : public light {
public:
  session(home& h, host_ref host, stream& below, std::uint64_t session_id, base::ref<cluster::session_limit> limit);
  /// One that will take an earlier session's place: take_over() asks for it.
  session(home& h, host_ref host, stream& below);
  ~session() override;

  /// Asks the account to be let in under `wanted`; on_accepted or on_refused answers.
  void attach(const xmpp::jid_ref& wanted, const xmpp::stream::bind_extras& extras = {});
  void on_accepted(const xmpp::jid_ref& full);
  void on_refused(const xmpp::stanza_error& why);
  // --- where several nodes are (session_elsewhere.cpp)
  /// From its account on another node; not charged yet.
  void on_remote_deliver(xmpp::delivery&& what);
  void on_passage(cluster::peer_number from, const cluster::control& word);
  void on_said(cluster::peer_number from, const cluster::control& c, xmpp::delivery&& what);
  /// What its account knows of it, for every node to see, and for the account should it move.
  void on_view(const modules::session_view& v);
  /// Sessions came or went, or nodes: perhaps the account lives elsewhere now.
  void check_account(bool is_sure = false);
  /// This node had been given up by the others.
  void attach_again() {
    if (account_at_ != cluster::self)
      check_account(true);
  }
  /// That peer is lost.
  void on_peer_lost(cluster::peer_number n);
  /// What was for the account went where it is not, or got lost with its node: once more.
  void on_elsewhere(xmpp::delivery&& what, bool is_returned = false);
  void on_settled_elsewhere(std::vector<base::u128> ids);
  /// Whoever wants to take over here cannot.
  static void refuse_peer(home& at, cluster::peer_number to, std::uint64_t session, const xmpp::jid_ref& account);
  void on_take_over_refused(std::optional<std::uint32_t> h);
  /// The session that it wants to take over is not there. `last`: it has ended, and had handled so much.
  void on_not_found(std::optional<std::uint32_t> last);
  void take_over_later();
  /// What its client says goes to a node for which too much waits.
  void wait_for_link(cluster::peer_number to);
  void set_snapshot(modules::snapshot_ref of_account);

  /// From the client, through the lane.
  void on_stanza(xmpp::delivery&& what);
  /// From the account; charged to this session.
  void on_deliver(xmpp::delivery&& what);
  /// From a service, to all sessions of the host; not charged yet.
  void on_broadcast(xmpp::delivery&& what);
  /// XEP-0199 section 4.4: is the client still there?
  void ping_client();
  void on_completed(std::uint32_t number, modules::outcome how, const xmpp::error_ref& why) override;
  /// Of what it sent at an earlier place.
  void on_completed_before(const cluster::place& from, std::uint32_t number, modules::outcome how, const xmpp::error_ref& why);

  /// Ends the stream with this error, then itself.
  void close(xmpp::stream_errc why, const std::string& text);
  /// The stream is gone without goodbye: the session waits to be resumed, or ends. `unwritten`: what its client
  /// never got (and no ack will tell of).
  void on_stream_lost(std::vector<xmpp::delivery> unwritten);
  /// It was closed by either side: the session ends.
  void on_stream_closed(std::vector<xmpp::delivery> unwritten);

  // --- stream management and resumption (session_management.cpp, session_resumption.cpp)
  /// Goes on where the session with the id `earlier` was; its client had handled `h`. The stream is told.
  void take_over(std::uint64_t earlier, std::uint32_t h, const xmpp::jid_ref& account);
  /// The account could not store what this session has not got acknowledged: it is tried again.
  void on_unspooled(xmpp::delivery&& what);
  void spool_again(base::u128 stanza_id);
  /// From the account, behind all that it has sent here: the rest goes to the session's new place.
  void on_moved(bool is_attached);
  [[nodiscard]] bool is_detached() const { return !stream_ && !is_ended_; }

  [[nodiscard]] bool is_bound() const { return is_bound_; }
  [[nodiscard]] const xmpp::jid_ref& full() const { return full_; }
  [[nodiscard]] std::uint64_t session_id() const { return session_id_; }
  [[nodiscard]] const host_ref& at_host() const { return host_; }
  [[nodiscard]] const base::ref<cluster::session_limit>& limit() const { return limit_; }
  [[nodiscard]] base::wall_time since() const { return since_; }
  [[nodiscard]] stream* below() const { return stream_; }

  [[nodiscard]] session_info describe() const;

  void on_crash(std::string_view why) override;
  [[nodiscard]] std::uint64_t log_id() const override { return log_id_; }

private:
  struct open_stanza {
    xmpp::stanza_ref what;
    base::time_point since; // it came then
    std::uint8_t tries = 0;
    bool is_waiting = false; // to be sent once more, in a moment
    xmpp::stanza_ref told{}; // the error that went back, until the client has acknowledged it
    [[nodiscard]] bool is_open() const { return what && !told; }
  };
  enum class entry : std::uint8_t { goes_on, is_answered };
  entry admit(xmpp::stanza& s);
  entry check_iq(const xmpp::stanza& s);
  void refuse(const xmpp::stanza& s, const xmpp::stanza_error& why);
  void on_presence(xmpp::delivery&& what);
  void on_iq(xmpp::delivery&& what);
  void to_own_account(xmpp::delivery&& what);
  [[nodiscard]] cluster::peer_number known_home() const;
  [[nodiscard]] bool is_in_place() const;
  [[nodiscard]] bool waits_for_account() const;
  void wait_for_account(xmpp::delivery&& what);
  void go_to_account_again();
  void reply(xmpp::stanza_ref what);
  void on_nonza(const xmpp::stanza& s);
  void show_own_account(const xmpp::stanza_ref& what);
  void leave_directed();
  /// The one path: registry row, presence, unacknowledged stanzas, directed presence. Idempotent.
  void end();

  // --- session_elsewhere.cpp
  void say(cluster::control what, xmpp::delivery stanza = {}) { say_at(account_at_, std::move(what), std::move(stanza)); }
  void say_at(cluster::peer_number node, cluster::control what, xmpp::delivery stanza = {});
  void send_to_account(cluster::parcel_kind k, xmpp::delivery&& what);
  void publish(bool is_removal = false);
  [[nodiscard]] cluster::place here() const { return {cluster::self, home_.index(), id()}; }

  // --- session_management.cpp
  struct managed;
  void on_management(const xmpp::element& e);
  /// Turns it on. `<enabled/>`, or `<failed/>`.
  std::string enable(const xmpp::stream::management::enable& wanted);
  void on_ack(const xmpp::element& e);
  void acknowledge(std::uint32_t h);
  void send_on(xmpp::delivery&& what);
  void want_ack();
  void spool(base::time_point now);
  void store(std::vector<xmpp::delivery> late);
  void tell_settled(std::vector<base::u128> ids);
  void tell_settled_at(cluster::peer_number node, std::vector<base::u128> ids);
  void know(const std::vector<base::u128>& ids);
  void tell_recent();
  void tell_arrived(std::vector<base::u128> ids);
  [[nodiscard]] cluster::address& charged_account();
  [[nodiscard]] cluster::registry::found charge_account();
  void on_time();
  void arm(base::time_point due);
  void arm_next();
  void set_inactive(bool is);
  void release_held();
  [[nodiscard]] bool is_known(const xmpp::delivery& what);
  void drop_known(xmpp::delivery&& what);
  void acknowledge_doubles(const xmpp::delivery& first);
  std::vector<xmpp::delivery> take_doubles();
  void remember(const xmpp::delivery& what);
  xmpp::stream::management::unacknowledged::entry* find_unacknowledged(const xmpp::delivery& what);
  std::vector<xmpp::delivery> drop_unacknowledged();
  // --- session_completions.cpp: `h` is the low-water mark of what has ended
  void open_completion(const xmpp::stanza_ref& s);
  [[nodiscard]] bool tell_bounced(open_stanza& kept, const xmpp::stanza_error& why);
  void on_told(const xmpp::stanza* error);
  void drop_told();
  [[nodiscard]] bool is_any_open();
  void pass_ended();
  void move_mark();
  void send_again(open_stanza& kept);
  void send_once_more(open_stanza& kept);
  void send_waiting();
  void forget_open();
  void forget_open(std::uint32_t number);
  void leave();
  void wait_to_leave(base::time_point until);
  void on_ack_wanted();
  void tell_handled();
  void route_abandoned_again();
  [[nodiscard]] std::uint32_t open_count() const { return next_ - base_; }
  /// Of a number from base_ on and before next_, or of next_ when there is room.
  [[nodiscard]] open_stanza& slot(std::uint32_t number) { return open_[number & (open_.size() - 1)]; }
  [[nodiscard]] std::uint32_t completed_mark() const { return base_ - 1; }

  // --- session_resumption.cpp
  struct value;
  void detach();
  bool hand_over(cluster::place to, std::uint32_t h);
  void adopt(value& from, std::uint32_t h);
  void resume_if_ready();
  void resume_now();
  void postpone_resumption();
  // --- session_handover.cpp: to and from other nodes
  bool ask_peer(std::uint64_t earlier, std::uint32_t h, const xmpp::jid_ref& account);
  void wait_for_turn();
  void end_turn();
  [[nodiscard]] bool may_hand_over(std::uint32_t h) const;
  void let_stream_go();
  bool hand_over_to_peer(cluster::peer_number to, std::uint32_t h);
  void send_value();
  void pass_to_successor(xmpp::delivery&& what);
  void say_to_successor(cluster::control what, xmpp::delivery stanza = {});
  void adopt(cluster::peer_number from, const cluster::control& c, xmpp::delivery&& presence);
  void on_adopted();
  void leave_moved();
  void withdraw_moved();

  home& home_;
  host_ref host_;
  stream* stream_; // null once it is gone
  xmpp::jid_ref full_, bare_;
  cluster::address* own_ = nullptr; // of the account: its row stays while this session is published
  base::ref<cluster::session_limit> limit_;
  modules::snapshot_ref snapshot_;
  std::uint64_t session_id_ = 0;
  base::wall_time since_;
  const std::uint64_t log_id_; // of the stream that bound it
  std::vector<xmpp::jid_ref> directed_; // who got directed presence (RFC 6121 section 4.6.3)
  std::vector<open_stanza> open_;       // ring of stanzas whose completion is open
  std::uint32_t base_ = 1, next_ = 1;
  std::unique_ptr<managed> managed_;    // with stream management
  std::unique_ptr<xmpp::im::held_back> held_;
  std::unique_ptr<xmpp::stream::recent_ids> recent_; // written to its client, and may come again
  std::unique_ptr<xmpp::stream::bind_extras> extras_; // until it is bound
  std::vector<xmpp::delivery> early_;   // came before what it takes over
  struct handed { xmpp::delivery what; bool is_spooled, may_be_stored; };
  std::vector<handed> handed_;          // of what it takes over from another node
  struct turned_away { std::vector<xmpp::delivery> waiting; std::uint64_t bytes = 0; bool is_waiting = false; net::timer timer; };
  std::unique_ptr<turned_away> turned_away_; // by its account's node: that is not where it is known to be
  std::unique_ptr<net::timer> leaves_;  // whose own stanzas are still under way, and that is no session any more
  cluster::place successor_;            // who takes over; then everything goes there
  std::uint32_t resumed_at_ = 0;        // what its client had handled
  std::uint8_t tries_ = 0;              // to find the session that it takes over
  std::uint8_t waits_ = 0;              // for another connection of this node, which has asked for it
  enum class place_in_time : std::uint8_t { own, taking_over, silent, moving, moved, ended } stage_ = place_in_time::own;
  std::shared_ptr<const modules::session_view> view_; // only where there are several nodes
  std::uint64_t clock_ = 0;             // taken when it was bound
  std::uint32_t epoch_ = 0;             // hand-overs
  cluster::peer_number account_at_ = cluster::self;
  cluster::peer_number word_from_ = cluster::self; // all that the account has sent from that node has come; self: no such word
  bool is_bound_ = false, is_published_ = false;
  bool is_ended_ = false, is_inactive_ = false, pauses_ = false;
  bool has_turn_ = false;      // it asks another node for the session that it takes over
  bool has_forgotten_ = false; // what was open when it was resumed: its client sends that again
};

/// Those that wait for their client end now: the server stops.
void end_detached_sessions(home& at);

} // namespace actors
