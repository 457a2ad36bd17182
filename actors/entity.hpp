// The shell around any entity machine: an account, a room, a service. It feeds events, carries
// effects out in order, and keeps what the machine waits for.
#pragma once
#include "actors/home.hpp"
#include "actors/host.hpp"
#include "cluster/table.hpp"
#include "modules/api/entity.hpp"
#include <boost/container/small_vector.hpp>
#include <optional>
#include <variant>

namespace actors {

class session;

class entity final : public light {
public:
  entity(home& h, cluster::address& where, host_ref host);
  ~entity() override;

  /// The one behind `where`, started if it is not there. `where` has been charged.
  static entity& at(home& h, cluster::address& where);

  /// From the router. The shell's caller releases the charge.
  void on_stanza(xmpp::delivery&& what) {
    if (owner_ != cluster::self) [[unlikely]]
      return pass_on(std::move(what));
    if (is_beginning_ && goes_back(what)) [[unlikely]]
      return;
    if (is_leased_ && !may_act()) [[unlikely]]
      return decline(std::move(what));
    step(modules::event::stanza{std::move(what)});
  }
  /// From one of the account's own sessions.
  void on_outbound(const cluster::place& from, std::uint64_t session, xmpp::delivery&& what);
  void on_attach(modules::attach_request who);
  void on_detach(std::uint64_t session, bool is_silent = false);
  void on_sent(std::uint64_t session, xmpp::stanza_ref what) { step(modules::event::sent{session, std::move(what)}); }
  void on_spool(const cluster::place& from, std::uint64_t session, std::vector<xmpp::delivery> what);
  void on_settled(const cluster::place& from, std::uint64_t session, std::vector<base::u128> ids);
  /// The session goes on at another place; its old one hears of it behind all that was sent there.
  void on_moved(std::uint64_t session, const cluster::place& from, const cluster::place& to);
  /// The session was to go on elsewhere, and nobody has taken it there.
  void on_left(std::uint64_t session, const cluster::place& from);
  // --- where several nodes are (entity_elsewhere.cpp)
  /// From a session or for one, of another node.
  void on_said(cluster::peer_number from, const cluster::parcel& p);
  /// Sessions came or went, or nodes: perhaps this address lives elsewhere now, or here.
  void check_owner();
  /// A session of that node is in no table any more.
  void on_row_gone(cluster::peer_number node, std::uint64_t session, bool is_silent);
  /// All its sessions there are gone with their node.
  void on_peer_lost(cluster::peer_number n);
  void on_lost(std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions);
  /// Clients have acknowledged these; `hops`: how often that word was passed on.
  void on_arrived(std::vector<base::u128> ids, bool may_be_stored = false, std::uint64_t hops = 0);
  /// Another node has written rows of this address; `hops`: how often that word was passed on.
  void look_again(std::uint64_t hops);
  /// Goes behind all that this address was sent until now, wherever that went.
  void on_mark(move_mark m);
  void on_found_again(std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions);
  /// Its account was removed from here; what is left ends.
  [[nodiscard]] bool is_removed() const { return is_removed_; }
  [[nodiscard]] bool has_sessions() const { return !sessions_.empty(); }

  /// Of an account: its contacts are told, its rows erased, then its sessions end with `not-authorized`.
  void remove(std::function<void(base::result<void, storage::errc>)> then);
  /// Somebody else changed the rows: what is in memory is dropped.
  void start_again() { on_crash({}); }
  /// All sessions end with `why`.
  void end_sessions(xmpp::stream_errc why, const std::string& text);
  [[nodiscard]] modules::entity_machine& machine() { return *machine_; }
  [[nodiscard]] const host_ref& at_host() const { return host_; }
  /// Ends where nothing is left to do, so that whoever comes next finds the host's present settings. False:
  /// something is.
  bool end_if_idle();

  /// The rows are what counts: drop the state and start again from them. Sessions stay attached.
  void on_crash(std::string_view why) override;
  void on_completed(std::uint32_t number, modules::outcome how, const xmpp::error_ref& why) override;

private:
  struct attached {
    std::uint64_t session;
    cluster::place where;
    xmpp::jid_ref full;
    std::uint64_t clock;
    base::ref<cluster::session_limit> limit;
    bool is_bound = false;
    std::uint64_t epoch = 0;
  };
  /// A storage operation: commits that follow each other are submitted without waiting, a load
  /// waits for the commits before it.
  struct operation {
    std::variant<modules::effect::load, modules::effect::commit> what;
  };

  using continuation = std::variant<modules::on_rows, modules::on_commit>;
  /// What the storage has been asked. The timer ends the wait, not the operation.
  struct started {
    std::uint64_t number;
    continuation then;
    net::timer limit;
  };

  void step(modules::entity_event ev);
  void carry_out(modules::effects& todo);
  void carry(modules::effect::route& e);
  void carry(modules::effect::deliver& e);
  void carry(modules::effect::load& e);
  void carry(modules::effect::commit& e);
  void carry(modules::effect::set_timer& e);
  void carry(modules::effect::broadcast& e);
  void carry(modules::effect::complete& e);
  void carry(modules::effect::accept& e);
  void carry(modules::effect::refuse& e);
  void carry(modules::effect::end_session& e);
  void carry(modules::effect::publish& e);
  void carry(modules::effect::share& e);
  void carry(modules::effect::unspooled& e);
  void tell_unspooled(const cluster::place& to, xmpp::delivery&& what);
  void pass_on(xmpp::delivery&& what);
  [[nodiscard]] bool goes_back(xmpp::delivery& what);
  void send_to_session(cluster::peer_number at, std::uint64_t session, xmpp::delivery&& what);
  void deliver_unattached(modules::effect::deliver& e);
  void decline(xmpp::delivery&& what);
  /// Of what exists once in the cluster: this node has it, at this moment.
  [[nodiscard]] bool may_act() const;
  void give_up();
  void begin_anew();
  [[nodiscard]] std::vector<std::shared_ptr<const modules::session_view>> recall_sessions() const;
  void attach_again(const std::vector<std::shared_ptr<const modules::session_view>>& views);
  struct differences {
    struct session_row { cluster::place where; std::uint64_t session; };
    std::vector<session_row> missing;
    std::vector<std::uint64_t> untold;
  };
  [[nodiscard]] differences compare_sessions() const;
  void look_for_sessions(std::uint8_t looks = 0);
  void mend_sessions(std::uint8_t looks);
  [[nodiscard]] std::unique_ptr<modules::entity_machine> make_machine() const;
  std::unique_ptr<modules::entity_machine> exchange_machine();
  void look_there_again();
  void answer_marks();
  [[nodiscard]] cluster::peer_number find_owner() const;
  [[nodiscard]] bool may_begin_with(const modules::attach_request& who);
  void on_remote_remove(cluster::peer_number from, std::uint64_t question);
  void on_remote_attach(cluster::peer_number from, const cluster::parcel& p);
  void say(const attached& to, cluster::control what, xmpp::delivery stanza = {});
  void say(cluster::peer_number to, std::uint64_t session, cluster::control what, xmpp::delivery stanza = {});
  void tell_owner(cluster::control what);
  void tell_arrived(std::vector<base::u128> ids, bool may_be_stored, std::uint64_t hops);
  void pass_words(std::vector<base::u128> ids, bool may_be_stored, bool is_look, std::uint64_t hops);
  void say_words();
  void turn_away(const cluster::place& where, std::uint64_t session, xmpp::delivery&& what);
  // --- entity_passages.cpp
  void begin_passage(const attached& before);
  void await_word(std::uint64_t session);
  [[nodiscard]] bool may_await(std::uint64_t session);
  void say_last_word(const attached& to);
  [[nodiscard]] cluster::control make_word(bool is_awaited) const;
  [[nodiscard]] bool send_word(const attached& to, bool is_awaited = false);
  [[nodiscard]] bool hold_for_passage(modules::effect::deliver& e);
  void end_passage(std::uint64_t session);
  /// To one of its sessions, wherever it is: `here` on its reactor, or `there` to its node.
  template <class F>
  void tell(const attached& to, F here, cluster::control there, xmpp::delivery stanza = {}) {
    if (to.where.node == cluster::self)
      home_.post<session>(to.where.reactor, to.where.ref, std::move(here));
    else
      say(to, std::move(there), std::move(stanza));
  }
  void arm_timer(std::uint32_t id, base::duration after, std::function<void(entity&)> then);
  template <class Answer>
  std::function<void(Answer)> answer_home(std::uint64_t number);
  void start_operations();
  std::uint64_t await(continuation then);
  [[nodiscard]] bool is_under_way(bool (*what)(const continuation&)) const;
  std::optional<continuation> take_under_way(std::uint64_t number);
  void on_late(std::uint64_t number);
  void on_answer(std::uint64_t number, modules::rows what);
  void on_answer(std::uint64_t number, storage::outcome how);
  template <class Then, class Answer>
  void go_on(Then& then, Answer a);
  attached* find_attached(std::uint64_t session);
  attached* find_receiver(std::uint64_t session);
  void forget(std::uint64_t session);
  [[nodiscard]] bool has_work() const;
  void rest();

  home& home_;
  cluster::address& where_;
  host_ref host_;
  const bool is_leased_; // it exists once in the cluster: it acts, and writes, only while this node owns it
  std::unique_ptr<modules::entity_machine> machine_;
  std::vector<std::unique_ptr<modules::entity_machine>> finishing_; // from when this address was here before: what they began in the store
  boost::container::small_vector<attached, 1> sessions_;
  std::vector<attached> former_; // from when this address was here
  std::vector<operation> waiting_;     // not yet submitted
  std::vector<std::unique_ptr<started>> under_way_;
  std::uint64_t next_operation_ = 1;
  struct awaited { std::uint32_t number; modules::on_outcome then; };
  std::vector<awaited> awaited_;       // deliveries that somebody asked about
  std::uint32_t next_number_ = 1;
  struct named_timer { std::uint32_t id; net::timer timer; };
  std::vector<std::unique_ptr<named_timer>> timers_;
  net::timer idle_;
  std::vector<move_mark> marks_; // that wait for what is held here
  struct passages {
    struct held { xmpp::delivery what; base::time_point since; };
    struct passage {
      std::uint64_t session;
      std::vector<held> waiting;
      std::optional<attached> owed; // the address has left: a word, behind what waits
    };
    std::vector<passage> all;
    std::size_t bytes = 0; // of all that waits
    net::timer limit;
  };
  struct words {
    std::vector<base::u128> ids;
    bool may_be_stored = false, is_look = false;
    std::uint64_t hops = 0;
    net::timer timer;
  };
  std::unique_ptr<words> words_; // for the owner, while nodes do not agree who that is; mostly null
  std::unique_ptr<passages> passages_; // of sessions that have just gone on at another node; mostly null
  base::time_point begun_{}; // since then this address lives here
  cluster::peer_number owner_ = cluster::self; // else everything is passed on
  bool is_beginning_ = false; // with a session that has not been let in
  bool is_removed_ = false;
  bool owes_look_ = false; // what is still being stored here: the owner must hear of it
  bool has_written_ = false; // while no session was here: one elsewhere may not know of it
};

} // namespace actors
