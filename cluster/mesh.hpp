// One node's part in the cluster: membership, the replicated table and a link to each peer, put together. A machine: every
// call is an event with the time, and leaves what is to be done in `effects`. The shell (cluster/rpc and server/, or the
// simulator) has the connections, the disk and the clock; all calls come from one thread.
#pragma once
#include "cluster/link.hpp"
#include "cluster/membership.hpp"
#include "cluster/replica.hpp"

namespace cluster {

/// A frame costs more than what is in it. As long as a node writes few, each goes at once; beyond, what is for a peer gathers
/// until its turn comes.
struct pace_options {
  double frames = 4'000, of_peer = 50; // a second: of the node, but at least so many for each peer (a wait of 20 ms)
  double burst = 1'000;                // frames that go at once after a rest
  base::duration turn = std::chrono::milliseconds{4};
  // What a stanza needs behind it (link::urgency::may_wait) waits so long for company, and what nobody waits for so long.
  base::duration answers = std::chrono::milliseconds{4}, totals = std::chrono::milliseconds{20};
  // Frames of stanzas to one peer: so many at once, then as far apart, unless one is full. Behind one of many stanzas the next
  // waits longer: where so many come, fewer frames save more than the wait costs.
  base::duration apart = std::chrono::milliseconds{1}, apart_of_many = std::chrono::milliseconds{2};
  int at_once = 8;
  std::size_t many = 128;
};

struct mesh_options {
  membership_options members;
  replica_options rows;
  link_options stanzas;
  pace_options pace;
};

/// What is to be done after a step. `net` in order; the rest in the order of its own list.
struct effects {
  struct dial { connection c; std::string address; };
  struct write { connection c; std::string bytes; };
  struct close { connection c; }; // what was written before still goes out, if it can
  std::vector<std::variant<dial, write, close>> net;

  /// A stanza from a peer. Whoever handles it calls mesh::handled, and mesh::complete if it has a completion.
  struct arrival { peer_number from; parcel what; };
  std::vector<arrival> arrived;
  /// Own stanzas whose wait is over.
  std::vector<link_news::end> ended;
  /// Own stanzas that must be routed again, in the order in which they were sent: their peer is gone, or could not.
  std::vector<parcel> returned;

  news rows;
  struct peer_change { peer_number peer; peer_state state; cluster::life life; bool is_process_gone; };
  std::vector<peer_change> peers;
  /// A peer drains, or does not any more: before `arrived` is looked at, or what it gave back would go there again.
  bool are_candidates_new = false;
  /// A new life began: what waits unread of links is to be thrown away before anything else is handled.
  std::optional<cluster::life> reborn;
  /// Parcels of peers that could not be read, and were dropped.
  std::size_t unreadable = 0;
  /// Who was turned away, for the log.
  std::vector<membership::refused> refused;

  void clear() { *this = {}; }
};

struct mesh_counters {
  std::uint64_t frames_in = 0, frames_out = 0, bytes_in = 0, bytes_out = 0;
  std::uint64_t malformed = 0, hostile = 0, replayed = 0;
};

class mesh {
public:
  /// `process`: drawn at each start. The table is this machine's to change. `own.life` comes from the data folder.
  mesh(member own, std::uint64_t process, mesh_options o, table& rows, base::random& r);

  void start(base::time_point now, effects& out);
  /// At least four times a second.
  void tick(base::time_point now, effects& out);
  /// What is left to do goes on, a few milliseconds of it: rows of dead nodes. When wanted_at() says, with a flush() behind it, for
  /// frames may gather; ticks alone are slower.
  void go_on(base::time_point now, effects& out);
  /// time_point::max(): nothing is left to do.
  [[nodiscard]] base::time_point wanted_at() const;
  /// What this machine is given from now on has waited for so long; zero: nothing waits. A backlog here is no silence of others.
  void behind(base::duration d) { members_.behind(d); }

  // --- connections
  void dialled(connection c, base::time_point now, effects& out);
  void dial_failed(connection c, bool is_refused, base::time_point now, effects& out);
  void accepted(connection c, base::time_point now, effects& out);
  void broken(connection c, base::time_point now, effects& out);
  void received(connection c, std::string_view bytes, base::time_point now, effects& out);
  /// Those with a write in flight for which there may be more to say: to be asked before flush(), and behind it.
  [[nodiscard]] std::vector<connection> waiting_for_writes() const;
  /// A write is done: the connection takes the next frame.
  void written(connection c, base::time_point now, effects& out);

  // --- rows of this node
  [[nodiscard]] std::uint64_t next_clock(base::wall_time wall) { return rows_.next_clock(wall); }
  void publish(const row& r, base::time_point now, effects& out);
  void withdraw(const row& r, base::time_point now, effects& out);

  // --- stanzas
  /// `full`: refused, and `p` is as it was (also where that peer is not alive).
  [[nodiscard]] base::room send(peer_number to, parcel&& p, base::time_point now, effects& out);
  /// The outcome of an arrival, by the completion that it came with.
  void complete(peer_number from, const xmpp::completion_id& id, ending how, base::time_point now, effects& out, xmpp::error_ref why = {});
  void handled(peer_number from, std::uint64_t stanzas, std::uint64_t bytes, base::time_point now, effects& out);

  // --- the disk
  bool load(const storage::row& r);
  [[nodiscard]] std::vector<storage::change> take_writes() { return rows_.take_writes(); }
  void written_to_disk(bool is_done) { rows_.written(is_done); }

  /// To be called behind each event, or behind the last of several that came together: what they gave to say goes as one
  /// frame to each peer.
  void flush(base::time_point now, effects& out);

  // --- operation
  void drain(base::time_point now, effects& out);
  void leave(base::time_point now, effects& out);

  // --- to look at
  [[nodiscard]] const membership& members() const { return members_; }
  [[nodiscard]] const replica& rows() const { return rows_; }
  [[nodiscard]] const link* link_to(peer_number n) const { return n < peers_.size() ? peers_[n].link.get() : nullptr; }
  [[nodiscard]] const mesh_counters& count() const { return counters_; }
  /// Nodes that may own what has no session: this one and the living, draining ones left out. Sorted by node.
  [[nodiscard]] std::vector<candidate> candidates() const;
  /// A peer that was alive is silent, or was lost not long ago and may still be there.
  [[nodiscard]] bool misses_somebody() const;

private:
  struct peer {
    std::unique_ptr<cluster::link> link;
    connection established = 0;
    std::uint32_t in_flight = 0; // writes
    base::time_point spoken{}, gossiped{};
    std::optional<base::time_point> answers_at, totals_at; // what may wait, and what may wait long, goes then
    base::time_point stanzas_at{};              // and what need not, then
    bool is_dirty = false;      // there may be something to say
    bool is_link_dirty = false; // the same, of the link alone
    bool said_rows = false;     // more of them may follow when it is written
    bool is_held = false;
  };
  peer& at(peer_number n);
  void carry(base::time_point now, effects& out);
  void carry(const membership::dial& e, base::time_point now, effects& out);
  void carry(const membership::close& e, base::time_point now, effects& out);
  void carry(const membership::greet& e, base::time_point now, effects& out);
  void carry(const membership::part& e, base::time_point now, effects& out);
  void carry(const membership::up& e, base::time_point now, effects& out);
  void carry(const membership::down& e, base::time_point now, effects& out);
  void carry(const membership::ended& e, base::time_point now, effects& out);
  void carry(const membership::suspect& e, base::time_point now, effects& out);
  void carry(const membership::reborn& e, base::time_point now, effects& out);
  void carry(const membership::refused& e, base::time_point now, effects& out);
  void end_link(peer& p, effects& out);
  void take(peer_number n, link_news&& got, effects& out);
  void flush(peer_number n, base::time_point now, effects& out);
  [[nodiscard]] bool is_due(peer& p, base::time_point now);
  void put(connection c, const frame& f, effects& out);
  void every_peer_is_dirty();
  void refill(base::time_point now);
  void begin(base::time_point now, effects& out);

  membership members_;
  replica rows_;
  const link_options link_options_;
  const pace_options pace_;
  base::random& random_;
  std::vector<peer> peers_{1};
  double room_;                  // frames that may go at once
  base::time_point refilled_{};
  std::optional<base::time_point> next_turn_; // of those that gather
  base::time_point next_due_ = base::time_point::max();
  std::size_t last_written_ = 0; // peer, in turn
  membership::effects todo_;
  std::uint32_t last_generation_ = 0;
  std::optional<base::time_point> forget_at_; // rows from the disk whose owner has not come by then
  mesh_counters counters_;
};

} // namespace cluster
