// What light actors live in: the lane, the table, shared buffers and outgoing batches of one
// reactor. CAF-free, so that tests and a simulator step it by hand.
#pragma once
#include "actors/keepalive.hpp"
#include "actors/light.hpp"
#include "actors/moves.hpp"
#include "actors/peer_batch.hpp"
#include "base/metrics.hpp"
#include "cluster/registry.hpp"
#include "net/handoff.hpp"
#include "net/loop.hpp"
#include "xmpp/framer.hpp"
#include "xmpp/stanza.hpp"
#include <atomic>
#include <functional>

namespace actors {

class node;
class home;
class entity;

/// One message on a lane.
struct lane_item {
  struct task {
    virtual ~task() = default;
    virtual void run(home& at, light_id target) = 0;
  };
  void (*call)(home&, lane_item&) = nullptr;
  std::uint64_t target = 0;    // a light_id, or the address of a cluster::address
  xmpp::delivery what;
  std::unique_ptr<task> boxed; // control: attach, loaded rows, commit results
};

/// One per reactor. All calls on its own thread but post_from_anywhere().
class home {
public:
  static constexpr std::size_t items_per_turn = 4'096;
  static constexpr std::size_t shared_buffer = 128 * 1024;

  home(actors::node& around, std::uint16_t index, net::loop& loop);
  ~home();

  [[nodiscard]] actors::node& around() const { return node_; }
  [[nodiscard]] std::uint16_t index() const { return index_; }
  [[nodiscard]] net::loop& loop() const { return loop_; }
  [[nodiscard]] base::time_point now() const { return loop_.now(); }
  /// The home of the calling thread, or null.
  [[nodiscard]] static home* current() { return current_; }

  // --- actors
  template <class T, class... Ts>
  T& make(Ts&&... xs) {
    auto fresh = std::make_unique<T>(*this, std::forward<Ts>(xs)...);
    auto& actor = *fresh;
    table_.insert(std::move(fresh));
    return actor;
  }
  template <class T>
  [[nodiscard]] T* find(light_id id) const { return static_cast<T*>(table_.find(id)); }
  /// It gets nothing more from now on and is destroyed at the end of the turn.
  void end(light& actor);
  [[nodiscard]] const light_table& table() const { return table_; }

  // --- the lane
  /// `(T::*Method)(delivery&&)` of the light actor `to`, later this turn. If it is gone by then the
  /// stanza is dropped; see pass_or_return.
  template <auto Method>
  void pass(light_id to, xmpp::delivery&& what) {
    lane_.push_back({&thunk<Method, false>, to, std::move(what), nullptr});
  }
  /// The same, but what a dead receiver leaves is routed again (router::returned).
  template <auto Method>
  void pass_or_return(std::uint16_t reactor, light_id to, xmpp::delivery&& what) {
    push(reactor, {&thunk<Method, true>, to, std::move(what), nullptr});
  }
  /// To the entity behind `to`, which has been charged; it is started if need be.
  void pass_to_entity(cluster::address& to, xmpp::delivery&& what);
  /// The same from one of its own sessions.
  void pass_outbound(cluster::address& to, const cluster::place& from, std::uint64_t session, xmpp::delivery&& what);
  /// Control for an entity, in order with its stanzas; the address has been charged with `control_cost`.
  template <class F>
  void post_to_entity(cluster::address& to, F f) {
    push(to.reactor, {&entity_task_thunk, reinterpret_cast<std::uint64_t>(&to), {}, box<entity>(std::move(f))});
  }
  static constexpr std::uint32_t control_cost = 256;
  /// Calls `f(T&)` on the reactor where `to` lives, in order with its stanzas, if it lives then.
  template <class T, class F>
  void post(std::uint16_t reactor, light_id to, F f) {
    push(reactor, {&task_thunk, to, {}, box<T>(std::move(f))});
  }
  /// Calls `f(home&)` on that reactor.
  template <class F>
  void post(std::uint16_t reactor, F f) {
    push(reactor, {&task_thunk, 0, {}, box<home>(std::move(f))});
  }
  /// Any thread: one lock. Answers of pools come this way.
  template <class T, class F>
  void post_from_anywhere(light_id to, F f) {
    push_from_anywhere({&task_thunk, to, {}, box<T>(std::move(f))});
  }
  template <class F>
  void post_from_anywhere(F f) {
    push_from_anywhere({&task_thunk, 0, {}, box<home>(std::move(f))});
  }

  /// The stanza's wait is over; `why`: with which error. To another reactor: with this turn's batch.
  void complete(const xmpp::completion_id& id, modules::outcome how, xmpp::error_ref why = {});

  /// To other nodes, at the end of this turn; only where there are any.
  void for_peers(to_peers::item i) { for_peers_.push_back(std::move(i)); }
  /// The same for a stanza. Where too much waits for that node already, the client of this one that caused it is not read until
  /// the link has room again or is gone.
  void to_peer(cluster::peer_number to, cluster::parcel&& p);
  /// This connection is not read until then; its on_link_room() is called.
  void wait_for_link(light_id connection, cluster::peer_number to) { waiting_.push_back({connection, to}); }
  /// A link has room again, or is gone: whoever waits for it is read again, some each turn.
  void on_link_room() { has_link_room_ = true; }

  /// More waits than one turn handles, here or on a reactor to which this one has sent, or for other nodes than all links should
  /// hold: clients are not read while this holds.
  [[nodiscard]] bool is_congested() const;
  /// Calls `f` once the lane has room again.
  void when_clear(light_id who, void (*f)(light&)) { paused_.push_back({who, f}); }
  /// `flush()` of this connection is called at the end of the turn.
  void mark_dirty(light_id connection) { dirty_.push_back(connection); }

  /// The crash boundary for what does not come through the lane (readiness, timers): runs `f` while
  /// `who` lives, as the home's own thread.
  template <class F>
  void guard(light_id who, F f) {
    as_current([&] {
      if (!table_.find(who))
        return;
      running_ = who;
      try {
        f();
      } catch (const std::exception& e) {
        on_crash(e);
      }
    });
  }

  /// The same for one of several things that came together.
  template <class F>
  void contain(light_id who, F f) {
    running_ = who;
    try {
      f();
    } catch (const std::exception& e) {
      on_crash(e);
    }
  }

  /// The end of a turn of the loop. Returns whether work is left.
  bool end_of_turn();
  /// Runs `f` with this home as the thread's current one.
  template <class F>
  decltype(auto) as_current(F f) {
    struct restore { home* before; ~restore() { current_ = before; } } back{std::exchange(current_, this)};
    return f();
  }

  // --- shared by the light actors of this reactor, one user at a time
  xmpp::jid_cache jids;
  xmpp::framer framer;               // of whoever is being read, when nothing is left over
  std::vector<char> read_buffer, write_buffer;
  std::vector<std::vector<xmpp::delivery>> spare_queues; // emptied output queues: an idle connection owns none
  void spare(std::vector<xmpp::delivery>&& queue) {
    constexpr std::size_t most = 256, largest = 64; // of a burst of presence the rest is freed
    if (queue.capacity() <= largest && spare_queues.size() < most)
      spare_queues.push_back(std::move(queue));
  }
  modules::effects scratch;
  watch_keeper watch{*this}; // of silent connections
  move_keeper moves{*this};  // of accounts that live elsewhere since a moment

  struct counters {
    base::metrics::counter *stanzas_in, *stanzas_out, *bytes_in, *bytes_out, *crashes, *turns;
  };
  [[nodiscard]] const counters& count() const { return counters_; }

private:
  struct completed { xmpp::completion_id id; modules::outcome how; xmpp::error_ref why; };
  struct outbox {
    std::vector<lane_item> items;
    std::vector<completed> completions;
    bool is_crowded = false; // too much waits there; a mark behind it tells when it is done
  };

  /// Who said what is being handled: a stanza's sender, or a session that had it passed to its account.
  struct cause {
    const xmpp::stanza* what = nullptr;
    const cluster::place* session = nullptr;
  };

  template <class T, class F>
  static std::unique_ptr<lane_item::task> box(F f) {
    struct boxed final : lane_item::task {
      F f;
      explicit boxed(F g) : f(std::move(g)) {}
      void run(home& at, light_id target) override {
        if constexpr (std::is_same_v<T, home>)
          f(at);
        else if (auto* actor = at.find<T>(target))
          f(*actor);
      }
    };
    return std::make_unique<boxed>(std::move(f));
  }
  template <auto Method>
  struct method_of;
  template <class T, void (T::*M)(xmpp::delivery&&)>
  struct method_of<M> { using type = T; };

  template <auto Method, bool Returns>
  static void thunk(home& at, lane_item& i) {
    using actor_type = typename method_of<Method>::type;
    at.running_ = i.target;
    if (auto* actor = at.find<actor_type>(i.target))
      (actor->*Method)(std::move(i.what));
    else if constexpr (Returns)
      at.return_to_router(std::move(i.what));
  }
  static void task_thunk(home& at, lane_item& i) {
    at.running_ = i.target;
    i.boxed->run(at, i.target);
  }
  static void entity_thunk(home& at, lane_item& i);
  static void outbound_thunk(home& at, lane_item& i);
  static void entity_task_thunk(home& at, lane_item& i);

  void push(std::uint16_t reactor, lane_item&& i) {
    if (reactor == index_)
      lane_.push_back(std::move(i));
    else
      push_far(reactor, std::move(i));
  }
  void push_far(std::uint16_t reactor, lane_item&& i);
  void push_from_anywhere(lane_item&& i);
  void run_lane();
  void run_item(lane_item& i);
  void on_crash(const std::exception& e);
  void take_inbox();
  void apply_completions();
  void flush_dirty();
  void flush_outboxes();
  void watch_outbox(outbox& box, home& target);
  void flush_peers();
  void hold_sender(cluster::peer_number to, const cluster::parcel& p);
  void hold(const cluster::place& session, cluster::peer_number to);
  void read_senders();
  void return_to_router(xmpp::delivery&& what);

  static constinit thread_local home* current_;
  actors::node& node_;
  const std::uint16_t index_;
  net::loop& loop_;
  light_table table_;
  std::vector<lane_item> lane_;
  std::size_t head_ = 0; // of lane_: what is before it has been handled
  light_id running_ = 0; // whose crash it is
  std::vector<light_id> dirty_, flushing_;
  std::vector<std::unique_ptr<light>> graveyard_;
  std::vector<completed> done_, applying_;
  struct paused { light_id who; void (*resume)(light&); };
  std::vector<paused> paused_;
  struct waiting { light_id who; cluster::peer_number to; };
  std::vector<waiting> waiting_; // for room in links, oldest first
  bool has_link_room_ = false;
  cause cause_;
  cluster::place held_; // the last one of another reactor in this turn: not told once for each of its stanzas
  std::vector<outbox> outboxes_;
  peer_batch for_peers_;
  std::size_t crowded_ = 0; // outboxes whose target has too much
  net::handoff<lane_item> inbox_;
  std::atomic<std::size_t> in_inbox_{0}, in_lane_{0}; // what waits here, for the others
  std::vector<lane_item> taken_;
  counters counters_;
};

} // namespace actors
