// Replication of the table: each node streams the changes of its own rows to every peer, in order; a peer that has lost
// the thread compares digests by bucket and gets what differs. A machine: no I/O, no clock. docs/cluster-internals.md.
#pragma once
#include "cluster/hybrid_clock.hpp"
#include "cluster/table.hpp"
#include "storage/engine.hpp"
#include <boost/unordered/unordered_flat_map.hpp>
#include <deque>
#include <map>

namespace cluster {

/// What a step of the replica found out, for accounts and sessions of this node.
struct news {
  struct about { peer_number node; cluster::row row; };
  std::vector<about> appeared;  // a session or route of another node
  std::vector<about> returned;  // of them: found when the tables were compared, so nobody may have been told
  std::vector<about> left;      // said so
  std::vector<about> lost;      // its node died, or came back without it: nobody has said goodbye for it
  std::vector<row> conflicts;   // own sessions that another one with the same full JID beats: close them
};

struct replica_options {
  std::size_t most_log = 65'536;      // changes kept for peers that lag; behind that they compare digests
  std::size_t most_unwritten = 65'536; // changes that wait for the disk; beyond, their buckets are written when it has caught up
  std::size_t purge_slice = 1'024;    // rows of a dead node a step: some 3 ms
  std::size_t frame_bytes = 256 * 1024; // of rows in one frame
  base::duration digest_every = std::chrono::seconds{5};
};

class replica {
public:
  using options = replica_options;
  /// What a peer's frame was worth. Anything but `fine` is counted; `hostile` breaks the connection.
  enum class verdict : std::uint8_t { fine, replayed, hostile };

  struct counters {
    std::uint64_t changes_in = 0, rows_synced = 0, syncs = 0, replays = 0, refused = 0;
    std::uint64_t divergences = 0;  // digests that differed with everything applied
    std::uint64_t late_writes = 0;    // found no room: written with their bucket
    std::uint64_t dropped_writes = 0; // removals without room: the disk keeps what is gone, until it is compared
    std::uint64_t failed_writes = 0;
  };

  replica(table& t, node_id me, options o = {}) : table_(t), me_(me), options_(o) { t.set_node(self, me); }

  /// A new life of this node: its rows stay, peers compare them by digest.
  void begin(life own);

  // --- own rows
  [[nodiscard]] std::uint64_t next_clock(base::wall_time wall) { return clock_.next(wall); }
  void publish(const row& r, news& out);
  void withdraw(const row& r);

  // --- peers. `number` is the caller's (membership), the same for all lives of a node.
  /// What its last life has left is purged first; only then are its rows asked for.
  void connected(peer_number number, node_id node, life of_peer, news& out);
  void disconnected(peer_number number);
  /// Declared dead, or left: its rows are no longer seen, and go slice by slice in purge(). Each row is lost once.
  void dead(peer_number number);
  /// Some of what dead() has left. True: nothing is left of an owner, and if it is back it can be asked for its rows.
  bool purge(news& out);
  /// Some of what the disk had of owners that have been seen since: it can be seen from then on, and whom it concerns is told here.
  void show(news& out);
  /// All parts of a frame that concern rows.
  [[nodiscard]] verdict receive(peer_number number, const frame& f, news& out);
  /// Adds what that peer should hear next. Called when its connection can take a frame.
  void fill(peer_number number, frame& f, base::time_point now);

  // --- the disk: rows of others, written behind. What is lost there is found by digests.
  static constexpr std::string_view disk_prefix = "r";
  /// What to write now, more of it the more waits; empty while a write is under way or nothing has changed.
  [[nodiscard]] std::vector<storage::change> take_writes();
  void written(bool is_done);
  /// A row as the disk had it at start. False: unreadable (it is left out; digests repair). `number_of` numbers nodes.
  bool load(const storage::row& r, const std::function<peer_number(node_id)>& number_of);

  // --- to look at
  /// All that the peer had when this connection began is here.
  [[nodiscard]] bool is_synced(peer_number number) const;
  [[nodiscard]] std::uint64_t sequence() const { return sequence_; }
  [[nodiscard]] std::uint64_t applied(peer_number number) const;
  /// No row is left of it, and no word is under way: the number may be another peer's.
  [[nodiscard]] bool is_free(peer_number number) const;
  /// Changes of this node that the peer has not confirmed.
  [[nodiscard]] std::uint64_t lag(peer_number number) const;
  [[nodiscard]] const counters& count() const { return counters_; }
  [[nodiscard]] bool has_work() const { return !purging_.empty() || !showing_.empty(); }

private:
  struct incoming { // the peer's rows, here
    life of = 0;
    std::uint64_t applied = 0, confirmed = 0;
    std::uint32_t buckets_left = 0;
    bool is_started = false; // it has answered the request of this connection
    bool was_answered = false; // or one of an earlier connection to this life: what is applied counts
    bool wants_request = false, with_digests = true;
    std::uint32_t bucket = 0;
    std::vector<row> collected; // of that bucket, until its last part
  };
  struct outgoing { // ours, there
    bool is_streaming = false, must_start = false, needs_digests = false;
    std::uint64_t next = 0, confirmed = 0, start = 0;
    std::uint32_t start_buckets = 0;
    std::deque<std::uint32_t> buckets; // that differ
    std::vector<row> rest;             // of the bucket that did not fit into one frame
    base::time_point digest_due{};
  };
  struct peer {
    node_id node = 0;
    bool is_connected = false, is_known = false;
    bool is_purging = false; // rows of an earlier life are still here
    incoming in;
    outgoing out;
  };

  peer& at(peer_number n);
  [[nodiscard]] const peer* at(peer_number n) const { return n < peers_.size() ? &peers_[n] : nullptr; }
  void log(change c);
  void on_request(peer& p, const sync_request& r);
  verdict on_start(peer& p, const sync_start& s);
  verdict on_changes(peer_number n, peer& p, const changes& c, news& out);
  verdict on_part(peer_number n, peer& p, const sync_part& part, news& out);
  void apply(peer_number n, const change& c, news& out);
  void appear(peer_number n, const row& r, news& out);
  void replace_bucket(peer_number n, peer& p, news& out);
  void ask_again(peer& p);
  void fill_parts(peer& p, frame& f, std::size_t& bytes);
  void fill_changes(peer& p, frame& f, std::size_t& bytes);
  void write(peer_number n, const row& r, bool is_removal);
  void enqueue(storage::change c);
  void write_late_buckets(std::size_t room);

  table& table_;
  const node_id me_;
  const options options_;
  hybrid_clock clock_;
  life own_ = 0;
  std::uint64_t sequence_ = 0, log_first_ = 1;
  std::deque<change> log_; // log_first_ and what follows
  std::vector<peer> peers_;
  struct purge_of { peer_number number; bool was_seen; }; // rows from the disk alone are lost to nobody
  std::deque<purge_of> purging_;
  struct show_of { peer_number number; std::uint32_t bucket; };
  std::deque<show_of> showing_;
  // The disk. A row that is written again takes the place of what still waits.
  struct late_buckets { std::vector<bool> of = std::vector<bool>(table::bucket_count); std::size_t count = 0; };
  std::deque<storage::change> unwritten_; // unwritten_first_ and what follows
  std::uint64_t unwritten_first_ = 0;
  boost::unordered_flat_map<std::string_view, std::uint64_t> waiting_; // by key, which is in unwritten_
  std::map<peer_number, late_buckets> late_;
  bool is_writing_ = false;
  counters counters_;
};

} // namespace cluster
