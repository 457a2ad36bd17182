// The other nodes, as this one's reactors see them: the shell of cluster::mesh, on one thread with its links. Look-ups are
// made where they are needed; everything else goes there and comes back in batches (docs/cluster-internals.md).
#pragma once
#include "actors/ownership.hpp"
#include "actors/peer_batch.hpp"
#include "cluster/mesh.hpp"
#include "cluster/transport.hpp"
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

namespace storage { class store; }

namespace actors {

class home;
class node;

[[nodiscard]] std::string_view to_text(cluster::peer_state s);

/// What an operator is shown of one other node.
struct peer_status {
  std::string name, address, release; // the last: of its program; empty: not told
  cluster::peer_state state = cluster::peer_state::known;
  bool is_draining = false;
  std::size_t sessions = 0;
  std::uint64_t lag = 0;      // of our changes, that it has not confirmed
  std::size_t open = 0;       // stanzas for it whose outcome is awaited
};
struct cluster_status {
  cluster::member own;
  bool is_draining = false;
  std::size_t sessions = 0;
  std::uint64_t divergences = 0;
  std::vector<peer_status> peers;
};

class peers final : private cluster::wire::transport_events {
public:
  using make_transport =
      std::function<base::result<std::unique_ptr<cluster::wire::transport>, std::string>(cluster::wire::post_function, cluster::wire::transport_events&)>;

  using clock = std::function<base::time_point()>;

  /// `rows`: where the other nodes' rows are kept over a restart; null: nowhere. `around` has its reactors.
  peers(node& around, cluster::member own, cluster::mesh_options o, storage::store* rows, clock now = base::boot_time);
  ~peers() override;
  /// Errors: the transport's.
  [[nodiscard]] base::result<void, std::string> start(const make_transport& make);
  /// Says goodbye: what is left of this node's sessions is unavailable for the others. Blocks a moment.
  void stop();

  // --- instead of start() and stop(), where the caller is the thread: tests and simulations
  [[nodiscard]] base::result<void, std::string> start_stepped(const make_transport& make);
  /// One round: at least four times a second, and when something has been posted.
  void step();
  /// The goodbye of stop().
  void leave();

  // --- any thread
  [[nodiscard]] const cluster::table& rows() const { return rows_; }
  /// Of an account or service.
  [[nodiscard]] cluster::owner owner_of(const xmpp::jid& bare) const {
    auto there = rows_.home_of(bare); // mostly, and without a look at who is alive
    return there ? *there : cluster::table::hashed(bare, *candidates());
  }
  /// Where it is without a session, and where it was a few seconds ago, when others were there. Any thread.
  [[nodiscard]] std::vector<cluster::peer_number> hashed_lately(const xmpp::jid& bare) const;
  /// Whether it lives elsewhere than a few seconds ago: by its sessions (table::moved), or without one as others are there now. Mostly
  /// two loads.
  [[nodiscard]] std::optional<cluster::move> moved_lately(const xmpp::jid& bare) const {
    auto m = rows_.moved(bare);
    return candidates_version_.load(std::memory_order_relaxed) == 0 ? m : moved_by_hashing(bare, m);
  }
  /// Where a service that exists once is; nothing: nobody has it at this moment.
  [[nodiscard]] std::optional<cluster::peer_number> service_owner(const xmpp::jid& name) const;
  [[nodiscard]] const ownership& owned() const { return owned_; }
  /// Services that nobody has at this moment, as far as this node knows: who asks them is told to wait.
  [[nodiscard]] std::size_t services_without_owner() const;
  /// The node of that name, if it is there; this one is `cluster::self`.
  [[nodiscard]] std::optional<cluster::peer_number> find(std::string_view name) const;
  /// Another node is there, and all that those there are have told is here. Blocks until then, at most so long.
  bool wait_until_joined(base::duration at_most);
  /// Another node takes clients: a session of this one may go on there.
  [[nodiscard]] bool has_successor() const;
  /// Nodes that are there, but this one.
  [[nodiscard]] std::vector<cluster::peer_number> alive() const;
  [[nodiscard]] bool is_alive(cluster::peer_number n) const;
  /// What all accounts with sessions were told within the last minute: for those that came here meanwhile.
  struct told_names { base::time_point when; bool are_lost; std::shared_ptr<const std::vector<xmpp::jid_ref>> names; };
  [[nodiscard]] std::vector<told_names> told_lately() const;
  /// Differences between two nodes' tables that were found, and repaired, since the start.
  [[nodiscard]] std::uint64_t divergences() const { return divergences_.load(std::memory_order_relaxed); }
  /// More nodes are missing than there are (membership::reach), as of the last tick.
  [[nodiscard]] bool is_in_minority() const { return is_in_minority_.load(std::memory_order_relaxed); }
  /// False: that broadcast has come before.
  [[nodiscard]] bool is_new(std::uint64_t broadcast);
  /// From a reactor, after a turn.
  /// Returns an empty one to go on with, with the memory of an earlier one if there is.
  [[nodiscard]] peer_batch take(peer_batch batch);
  /// Its rows are not what other nodes know.
  void changed(const xmpp::jid_ref& bare, bool is_removed);
  /// Of the account, while none of its sessions was here: one that is elsewhere, and not seen now, has it look for that as soon as
  /// it is seen (DESIGN.md section 4, Login). Any thread.
  void remember_written(const xmpp::jid_ref& bare);
  /// The account lives there, and goes from there with all its rows; its sessions end with changed(). `then` once, on any
  /// thread. Errors: the store's; unavailable: no answer in time.
  using on_removal = std::function<void(base::result<void, storage::errc>)>;
  void remove_account(cluster::peer_number at, const xmpp::jid_ref& bare, on_removal then);
  void on_removed(std::uint64_t question, std::uint8_t code);
  /// The same as changed(), behind what the reactors have been given until now.
  void changed_behind(const xmpp::jid_ref& bare, bool is_removed);
  /// One that is bound there. Any thread.
  void close_session(cluster::peer_number at, std::uint64_t session, xmpp::stream_errc why, const std::string& text);
  /// Its name in the cluster; empty: nobody.
  [[nodiscard]] std::string name_of(cluster::peer_number n) const;
  [[nodiscard]] const std::string& own_name() const { return mesh_.members().own().name; }
  /// No accounts without a session from now on, and other nodes see it.
  void drain();
  /// Blocks until the thread has answered, at most a second. Nothing: it has not.
  [[nodiscard]] std::optional<cluster_status> status();

private:
  static constexpr auto tick_every = std::chrono::milliseconds{250};
  struct job {
    std::function<void()> f; // none: the batch
    base::time_point came;
    peer_batch batch{};
  };
  using candidates_ref = std::shared_ptr<const std::vector<cluster::candidate>>;
  /// What came for one reactor in one step.
  struct arrived { cluster::peer_number from; cluster::parcel what; cluster::place to; };
  struct mail {
    std::vector<arrived> arrivals;
    std::vector<cluster::link_news::end> ended;
    std::vector<cluster::parcel> returned;
  };

  // --- transport_events
  base::result<void, cluster::wire::refusal> accept(const cluster::wire::hello&) override { return {}; }
  void connected(cluster::wire::link_id link, const cluster::wire::hello& peer, std::uint32_t version) override;
  void received(cluster::wire::link_id link, std::vector<std::string> frames) override;
  void written(cluster::wire::link_id link) override;
  void closed(cluster::wire::link_id link, const cluster::wire::closing& how) override;

  // --- the thread
  void post(std::function<void()> f);
  /// Nobody minds if the thread sleeps until then. For a batch it returns what take() does.
  peer_batch post(job j, base::time_point due);
  [[nodiscard]] base::result<void, std::string> open(const make_transport& make);
  void begin();
  [[nodiscard]] std::chrono::nanoseconds run();
  [[nodiscard]] bool has_jobs();
  void take_jobs();
  void do_round();
  void look_at_time(base::time_point came);
  void tick();
  bool hear_of_writes();
  void end_round();
  void load_rows();
  void carry();
  void carry_net();
  void carry(const cluster::effects::dial& e);
  void carry(cluster::effects::write& e);
  void carry(const cluster::effects::close& e);
  void carry(cluster::effects::arrival& a);
  void carry(const cluster::effects::peer_change& e);
  void carry(cluster::news& n);
  void carry(peer_batch& batch);
  void carry(to_peers::send& i);
  void carry(to_peers::ended& i);
  void carry(to_peers::row& i);
  void carry(to_peers::handled& i);
  void carry(to_peers::relocated& i);
  void write_rows();
  void send_unsent();
  void wait_for_link(cluster::peer_number to, cluster::parcel&& p, base::duration at_most);
  void check(const xmpp::jid_ref& bare);
  void tell_names();
  void update_candidates();
  [[nodiscard]] bool shall_own(const xmpp::jid& name) const;
  void show_service(const xmpp::jid_ref& name, std::uint64_t epoch, bool is_ours);
  void look_whether_joined();
  void look_whether_minority();
  void look_at_links();
  [[nodiscard]] bool are_links_full() const;
  void look_for_ghosts();
  void look_for_answers();
  void watch_mark(const to_peers::send& i);
  void end_mark(std::uint64_t id);
  void look_for_marks();
  void tell_what_is_written(const xmpp::jid_ref& bare);
  void tell_who_asks(const xmpp::jid_ref& bare, cluster::peer_number who);
  void forget_written();
  void forget_told();
  mail& mail_of(std::uint16_t reactor);
  void deliver_mail();
  [[nodiscard]] std::optional<cluster::move> moved_by_hashing(const xmpp::jid& bare, std::optional<cluster::move> by_rows) const;
  [[nodiscard]] candidates_ref candidates() const {
    std::shared_lock guard{candidates_mutex_};
    return candidates_;
  }

  node& around_;
  base::random& random_;
  const base::budget_limits link_limits_;
  cluster::table rows_;
  cluster::mesh mesh_;
  ownership owned_;
  storage::store* disk_;
  clock clock_;
  std::unique_ptr<cluster::wire::transport> transport_;
  std::unique_ptr<cluster::wire::worker> own_thread_; // where the transport has none

  // of the thread
  cluster::effects todo_;
  base::time_point now_{}, last_tick_{};
  base::time_point came_{}; // what is being handled
  std::vector<job> doing_;
  std::vector<peer_batch> spent_; // empty, and soon in spare_
  base::time_point round_ended_{};
  std::unordered_map<cluster::connection, cluster::wire::link_id> links_;
  struct line { cluster::connection c; bool is_open; };
  std::unordered_map<cluster::wire::link_id, line> lines_;
  cluster::connection accepted_ = 0;
  std::unordered_map<std::uint64_t, cluster::place> sessions_; // of this node, by id
  std::vector<mail> mail_; // by reactor
  struct unsent { cluster::peer_number to; cluster::parcel what; base::time_point until; };
  std::deque<unsent> unsent_; // no link takes it at this moment
  std::uint64_t unsent_bytes_ = 0;
  std::vector<cluster::peer_number> crowded_; // the homes know that too much waits for them
  base::time_point links_full_told_{};        // to the log
  std::unordered_map<std::uint64_t, std::uint32_t> unsent_orders_; // of these: what comes later waits behind them
  struct gone { xmpp::jid_ref bare; std::uint64_t session; cluster::peer_number node; base::time_point due; bool is_silent; };
  std::deque<gone> gone_;               // sessions whose rows are
  std::unordered_map<std::uint64_t, base::time_point> written_; // accounts, by hash, and until when they are remembered
  base::time_point forget_at_{};
  std::optional<base::time_point> attach_again_at_;
  std::vector<xmpp::jid_ref> lost_, found_; // names that all accounts with sessions here are to hear
  base::time_point tell_at_{};
  struct question { on_removal then; base::time_point until; };
  std::map<std::uint64_t, question> questions_;
  std::uint64_t last_question_ = 0;
  struct mark { std::uint64_t id; cluster::peer_number at; bool is_on_way; base::time_point since; bool is_lost = false; };
  std::vector<mark> marks_; // of this node's reactors, that other nodes may not answer
  std::atomic<std::uint64_t> divergences_{0};
  std::atomic<bool> is_in_minority_{false};
  bool has_mail_ = false;

  mutable std::shared_mutex candidates_mutex_;
  candidates_ref candidates_;
  struct former { candidates_ref candidates; base::time_point until; };
  std::deque<former> former_; // nodes that come back one after the other are several in a moment
  std::atomic<std::uint32_t> candidates_version_{0}; // 0: they have been the same for a while
  std::uint32_t last_version_ = 0;
  std::vector<cluster::peer_number> alive_;
  std::vector<std::string> names_; // by number, of those that are there
  std::map<std::string, cluster::peer_number, std::less<>> by_name_;
  std::deque<told_names> told_;
  std::mutex mutex_; // of what follows
  std::vector<job> jobs_;
  std::vector<peer_batch> spare_; // for take()
  base::time_point due_ = base::time_point::max();     // some of these are to be done by then
  cluster::wire::worker* thread_ = nullptr;
  std::optional<base::time_point> sleeps_until_;       // nothing: it does not sleep, or has been woken
  std::atomic<int> waking_{0};                         // threads that have yet to wake it
  bool has_joined_ = false;
  std::deque<std::uint64_t> broadcasts_; // the last ones that came
  std::condition_variable joined_;
};

/// What of a view goes into the flags of a control, and back.
[[nodiscard]] std::uint8_t flags_of(const modules::session_view& v);
[[nodiscard]] modules::session_view view_of(const cluster::control& c, std::uint64_t session, const xmpp::jid_ref& full, const xmpp::stanza_ref& presence);

/// On the reactor that it is for: what another node has sent.
void arrive(home& at, cluster::peer_number from, const cluster::place& to, cluster::parcel&& what);
/// On a reactor: what another node did not take, and cannot any more.
void on_returned(home& at, cluster::parcel&& what);

} // namespace actors
