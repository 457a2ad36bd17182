// An account: everything that concerns it as a whole happens here, once and in order. A machine: the
// rules of xmpp/im and the hooks of modules strung together, no CAF, clock or disk inside.
#pragma once
#include "actors/host.hpp"
#include "modules/api/account.hpp"
#include "modules/api/entity.hpp"
#include "xmpp/im/block_list.hpp"
#include "xmpp/im/message_class.hpp"
#include "xmpp/im/presence.hpp"
#include "xmpp/im/roster.hpp"
#include <boost/container/small_vector.hpp>
#include <deque>
#include <list>
#include <optional>

namespace actors {

class node;

class account final : public modules::entity_machine, private modules::account_view {
public:
  account(xmpp::jid_ref bare, host_ref host, node& around);
  ~account() override;

  void step(modules::entity_event& ev, base::time_point now, modules::effects& out) override;
  [[nodiscard]] bool is_idle() const override;
  std::vector<xmpp::delivery> take_held() override;
  [[nodiscard]] bool has_held() const override;
  std::vector<modules::event::outbound> take_outbound() override;
  [[nodiscard]] std::vector<base::u128> arrived_lately() const override;
  void know_arrived(const std::vector<base::u128>& stanza_ids) override;
  [[nodiscard]] std::shared_ptr<const modules::session_view> recall(std::uint64_t session) const override;
  [[nodiscard]] bool is_void() const override { return (exists_ == presence_of_rows::absent || is_removed_) && is_idle(); }

private:
  using effects = modules::effects;
  using operation = std::function<void(effects&)>;

  struct held_message {
    xmpp::delivery what;
    base::time_point since;
  };
  struct member {
    modules::session_view view;
    bool has_sent_presence = false; // of priority 0 or more: it had its offline messages
    bool is_unserved = false;       // it has not been asked for them, as the account had just moved
    bool waits_for_look = false;    // for what is stored, which comes before what is said now
    bool holds_messages = false;    // until they have been delivered
    bool is_overflowing = false;    // it has no room: messages are kept offline until it has
    bool is_elsewhere = false;      // on another node
    std::vector<held_message> held;
    std::size_t held_bytes = 0;
    base::ref<cluster::session_limit> limit;
    std::uint64_t clock = 0; // taken at bind
  };
  /// Somebody on another node who is no contact and has sent presence here: nobody says goodbye for him if his node is lost.
  struct visitor { xmpp::jid_ref who, to; };
  /// A message that several sessions were given, some of them elsewhere: those do not see that another one has acknowledged it.
  struct given { base::u128 id; base::ref<xmpp::delivery_share> share; };
  /// All that is kept of a contact; name and groups are in the row.
  struct contact {
    xmpp::jid_ref jid; // pooled
    xmpp::im::subscription_state state;
    bool is_listed = true;
  };
  enum timer : std::uint32_t { look_for_room = 1, settle, read_again }; // the last: the event itself has the rows read
  enum class presence_of_rows : std::uint8_t { unknown, loading, absent, known };
  enum class start : std::uint8_t { cold, reading, done }; // of what modules preload

  // --- account_view
  [[nodiscard]] const xmpp::jid_ref& bare() const override { return bare_; }
  [[nodiscard]] const modules::host_view& host() const override { return host_->view; }
  [[nodiscard]] std::span<const modules::session_view> sessions() const override;
  [[nodiscard]] bool may_see_presence(const xmpp::jid& contact) const override;
  [[nodiscard]] bool knows(const xmpp::jid& contact) const override;
  void for_each_contact(const on_contact& f) const override;
  void with_roster(effects& out, std::function<void(bool, effects&)> then) override;
  std::any& state(const void* module) override;
  [[nodiscard]] const modules::snapshot_ref& snapshot() const override { return snapshot_; }
  void share(modules::snapshot_ref fresh, effects& out) override;
  void want_copies(std::uint64_t session, bool wants, effects& out) override;
  void say(std::uint64_t session, xmpp::stanza_ref presence, effects& out) override;
  void subscribe(const xmpp::stanza_ref& presence, effects& out) override { on_outbound_subscription(0, presence, out); }
  void answer_request(const xmpp::stanza_ref& presence, bool is_approved, effects& out) override;
  [[nodiscard]] bool enqueue(operation op, effects& out, std::uint32_t bytes = least_operation) override;
  void finish(effects& out) override;
  [[nodiscard]] bool has_arrived(base::u128 stanza_id) const override;
  void hold_messages(std::uint64_t session) override;
  void release_messages(std::uint64_t session, effects& out) override;
  void expect_nothing(std::uint64_t session, effects& out) override;

  // --- before the first event is handled (account_start.cpp)
  [[nodiscard]] bool must_wait(const modules::entity_event& ev) const;
  void wait_for_rows(modules::entity_event&& ev, effects& out);
  void read_next(std::size_t n, effects& out);
  void on_rows_read(effects& out);
  void on_rows_unreadable(storage::errc why, effects& out);
  void wait_for_account(xmpp::delivery&& what, effects& out);
  void on_account_row(modules::rows r, effects& out);

  // --- events (account.cpp)
  void on(modules::event::stanza& e, effects& out);
  void on(modules::event::outbound& e, effects& out);
  void on(modules::event::attach& e, effects& out);
  void on(modules::event::detach& e, effects& out);
  void on(modules::event::timer& e, effects& out);
  void on(modules::event::sent& e, effects& out);
  void on(modules::event::spool& e, effects& out);
  void on(modules::event::settled& e, effects& out);
  void on(modules::event::arrived& e, effects& out);
  void on(modules::event::remove& e, effects& out);
  void on(modules::event::no_room& e, effects& out);
  void on(modules::event::lost& e, effects& out);        // account_presence.cpp
  void on(modules::event::found_again& e, effects& out); // account_presence.cpp
  void refuse_absent(const xmpp::stanza& what, effects& out);
  void handle(xmpp::delivery& what, effects& out);
  void wait_for_change(const xmpp::delivery& what, effects& out);
  void process(xmpp::delivery& what, effects& out);
  xmpp::jid_ref settle_conflict(const modules::attach_request& who, effects& out, std::optional<xmpp::stanza_error>& refused);

  // --- when what is stored is looked for (account_settling.cpp)
  void on(modules::event::look_again& e, effects& out);
  void read_roster_again(effects& out);
  void settle_later(effects& out);
  void look_in_a_moment(effects& out);
  void on_settle_time(effects& out);
  void look_for_messages(effects& out);
  void expect_messages(member& m, effects& out);
  void on_ready(member& m, effects& out);

  // --- messages and IQs (account.cpp)
  void on_message(xmpp::delivery& what, effects& out);
  void undelivered(const xmpp::delivery& late, effects& out, bool bounces);
  [[nodiscard]] std::uint64_t find_unattached(const xmpp::jid& full) const;
  void give(member& to, const xmpp::delivery& what, effects& out);
  void remember_given(const xmpp::delivery& what);
  [[nodiscard]] std::vector<xmpp::delivery> take_stamped(member& m, base::duration least) const;
  [[nodiscard]] std::vector<xmpp::delivery> take_held(member& m) const;
  void give_held(member& m, effects& out);
  void give_message(std::span<member* const> to, xmpp::delivery what, effects& out);
  void refresh_copies(effects& out);
  void on_iq(xmpp::delivery& what, effects& out);
  void serve(const xmpp::stanza_ref& what, effects& out);
  void on_own_iq(std::uint64_t session, xmpp::delivery& what, effects& out);
  void answer(std::uint64_t session, xmpp::stanza_ref what, effects& out);

  // --- presence (account_presence.cpp)
  void on_presence(xmpp::delivery& what, effects& out);
  void on_own_presence(member& from, xmpp::delivery& what, effects& out);
  void introduce(member& from, effects& out);
  void become_available(member& from, effects& out);
  void become_unavailable(member& from, const xmpp::stanza_ref& last_words, effects& out);
  void catch_up(std::uint64_t session, bool was_lost, effects& out);
  void tell_lost(const std::vector<xmpp::jid_ref>& sessions, effects& out);
  void meet_again(const std::vector<xmpp::jid_ref>& sessions, effects& out);
  [[nodiscard]] bool is_anybody_available() const;
  void probe(const member& from, effects& out);
  void broadcast(const xmpp::stanza_ref& presence, effects& out);
  void send_current(const xmpp::jid_ref& to, effects& out);
  void send_unavailable(const xmpp::jid_ref& to, effects& out);
  void on_probe(const xmpp::stanza& probe, effects& out);
  void deliver_to_available(const xmpp::delivery& what, effects& out);
  void remember_visitor(const xmpp::stanza& s, const xmpp::jid_ref& to);

  // --- roster (account_roster.cpp)
  void run_operations(effects& out);
  /// Why head and items could not be read, if they could not.
  using on_roster = std::function<void(std::optional<storage::errc> failed, effects&)>;
  /// Inside an operation: reads what is not in memory yet.
  void read_roster(effects& out, on_roster then);
  /// As an operation of its own; without the rows `then` is not called. False: see enqueue().
  [[nodiscard]] bool load_roster(effects& out, operation then);
  [[nodiscard]] std::uint32_t most_rows() const { return host_->max_roster * 2 + 16; }
  void on_roster_get(std::uint64_t session, const xmpp::stanza_ref& what, effects& out);
  void on_roster_set(std::uint64_t session, const xmpp::stanza_ref& what, effects& out);
  void push(const std::string& payload, effects& out);
  contact* find_contact(const xmpp::jid& j);
  [[nodiscard]] const contact* find_contact(const xmpp::jid& j) const;
  void remember(const xmpp::im::roster_item& item);
  void refuse(const xmpp::stanza& what, xmpp::stanza_error why, effects& out);

  /// One change of one item, from what there is to what is written and what follows (account_change.hpp).
  struct change;
  struct roster_set;
  struct outbound_subscription;
  struct inbound_subscription;
  using change_ref = std::shared_ptr<change>;
  void make_change(const change_ref& c, effects& out);
  void attempt(const change_ref& c, effects& out);
  void write(const change_ref& c, effects& out);
  void again(const change_ref& c, effects& out);
  void give_up(const change_ref& c, const xmpp::stanza_error& why, effects& out);

  // --- subscriptions (account_subscriptions.cpp)
  void on_outbound_subscription(std::uint64_t session, const xmpp::stanza_ref& what, effects& out);
  void refuse_subscription(std::uint64_t session, const xmpp::stanza& what, const xmpp::stanza_error& why, effects& out);
  void on_inbound_subscription(const xmpp::stanza_ref& what, effects& out);
  using request_ref = std::shared_ptr<inbound_subscription>;
  void ask_modules(const request_ref& c, effects& out);
  void deliver_requests(std::uint64_t session, effects& out);
  void forget_change(const xmpp::jid& contact);

  // --- removal (account_removal.cpp)
  using on_removed = std::function<void(base::result<void, storage::errc>)>;
  void take_leave(effects& out);
  void erase(int attempts, const on_removed& then, effects& out);

  member* find_member(std::uint64_t session);
  member* find_resource(const xmpp::jid& full);
  [[nodiscard]] bool is_blocked(const xmpp::jid& j) const { return snapshot_->blocked && snapshot_->blocked->matches(j); }
  [[nodiscard]] bool is_ready(const member& m) const { return m.view.is_available && m.view.priority >= 0; }

  xmpp::jid_ref bare_;
  host_ref host_;
  node& node_;
  base::time_point now_{};
  boost::container::small_vector<member, 1> members_;
  modules::snapshot_ref snapshot_{new modules::account_snapshot};
  mutable std::vector<modules::session_view> views_; // for sessions(); made when asked
  std::vector<contact> contacts_;                    // sorted by JID hash
  std::vector<std::pair<const void*, std::any>> states_;
  struct queued { operation run; std::uint32_t bytes; };
  std::list<queued> operations_; // empty it owns nothing
  std::size_t operation_bytes_ = 0;
  request_ref asked_; // what a module thinks about: answer_request() goes on with it
  std::unique_ptr<std::vector<visitor>> visitors_;
  std::unique_ptr<std::deque<given>> given_; // the last ones
  std::unique_ptr<std::deque<base::u128>> arrived_; // what a client has acknowledged, where somebody may have it stored; the last ones
  std::vector<xmpp::jid_ref> changing_; // contacts whose subscription stanza is being handled
  std::vector<xmpp::delivery> waiting_; // until it is known that the account exists
  std::list<modules::entity_event> early_; // until the rows that modules preload are there
  std::uint64_t head_version_ = 0;      // of the row: the fence
  std::uint64_t roster_version_ = 0;    // what clients see
  std::uint32_t push_ids_ = 0;
  presence_of_rows exists_ = presence_of_rows::unknown;
  start start_ = start::cold;
  bool has_roster_ = false, is_busy_ = false, is_running_ = false;
  bool has_begun_anew_ = false; // while it had sessions: what an earlier one of its kind stored may be theirs
  std::uint8_t settle_waits_ = 0;  // it has just come from another node: its messages are not looked for yet
  bool has_word_ = false;          // that node has finished what it had begun
  bool is_removed_ = false; // for good: the next account of this name has a machine of its own
};

} // namespace actors
