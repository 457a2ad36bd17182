// The replicated table in memory: every session and route of the cluster, under 64 locks. One thread changes it (the
// replica), any thread looks up; a look-up never leaves the process.
#pragma once
#include "cluster/frame.hpp"
#include <array>
#include <atomic>
#include <boost/unordered/unordered_flat_set.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <span>

namespace cluster {

/// A node as this process numbers it: short, and only good here. 0 is the node itself.
using peer_number = std::uint16_t;
inline constexpr peer_number self = 0;
inline constexpr std::size_t most_peers = 512;

/// What look-ups return. No name: whoever asks has it, or reads it by `entry::name()`.
struct entry {
  peer_number node = self;
  std::uint16_t reactor = 0;
  std::uint32_t epoch = 0;
  std::uint64_t session = 0, clock = 0, ref = 0;
  attributes what;
};

/// The node and reactor that an account, room or service lives on.
struct owner {
  peer_number node = self;
  std::uint16_t reactor = 0;
  friend bool operator==(const owner&, const owner&) = default;
};

/// A node that may own what has no session, for rendezvous hashing.
struct candidate {
  node_id node = 0;
  peer_number number = self;
  std::uint16_t reactors = 1;
};

/// An account that lives somewhere else than a few seconds ago.
struct move {
  static constexpr std::size_t most = 3;
  std::uint64_t number = 0;             // counts up with each move that this table sees
  std::array<peer_number, most> from{}; // the latest first
  std::uint8_t count = 0;               // of those
  bool was_hashed = false;              // it had no session at first: it was where hashing said
};

class table {
public:
  table();
  ~table();
  table(const table&) = delete;
  table& operator=(const table&) = delete;

  // --- look-ups, any thread. Rows of nodes that are not present are not seen.
  /// The session with this full JID. Of two the one with the higher (clock, node) (docs/cluster-internals.md). Null
  /// node and session: none.
  [[nodiscard]] std::optional<entry> find(const xmpp::jid& full) const;
  /// Every session of the account, the losers of conflicts left out, in no order.
  void sessions_of(const xmpp::jid& bare, const std::function<void(std::string_view full, const entry&)>& f) const;
  [[nodiscard]] std::optional<entry> route_of(const xmpp::jid& name) const;
  /// Where its oldest session is. Nothing: it has none.
  [[nodiscard]] std::optional<owner> home_of(const xmpp::jid& bare) const;
  /// Where the account lives: with its oldest session; without one where rendezvous hashing over `alive` says.
  [[nodiscard]] owner owner_of(const xmpp::jid& bare, std::span<const candidate> alive) const;
  /// The second of both.
  [[nodiscard]] static owner hashed(const xmpp::jid& bare, std::span<const candidate> alive);
  /// Whether it moved lately: for as long as what was sent before may still be on its way there. Who sees the account's new home
  /// sees this, too. Mostly one load.
  [[nodiscard]] std::optional<move> moved(const xmpp::jid& bare) const {
    return filter_of(bare.hash()).load(std::memory_order_relaxed) == 0 ? std::nullopt : find_move(bare);
  }
  [[nodiscard]] std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  /// Of one owner, present or not.
  [[nodiscard]] std::size_t size(peer_number node) const;
  /// The same without routes.
  [[nodiscard]] std::size_t session_count(peer_number node) const;

  // --- changes, one thread
  /// Which node a number stands for, to break ties. Its rows are seen only while it is present.
  void set_node(peer_number number, node_id node);
  void set_present(peer_number number, bool is_present);
  /// What became of a row, and whom of the same full JID it met: one look-up tells.
  struct placed {
    bool is_changed = false; // else it is the same, or of a lower epoch
    bool is_new = false;
    bool is_beaten = false;  // by a session of another owner that is present
    std::vector<row> beaten; // sessions of this node
    explicit operator bool() const { return is_changed; }
  };
  /// Inserts, or replaces the row of this owner with the same name, kind and session.
  placed put(peer_number node, const row& r);
  /// The row of this owner with this name, kind and session, if its epoch is not higher. False: there is none.
  bool remove(peer_number node, const row& r);
  /// Up to `most` rows of that owner go; `gone` is told of each. True: none is left.
  bool purge(peer_number node, std::size_t most, const std::function<void(const row&)>& gone);
  /// Moves are kept for so many calls of age_moves(), and at most so many of them; of more the order is not kept.
  static constexpr std::uint32_t move_age = 20;
  static constexpr std::size_t most_moves = 262'144;
  void age_moves();

  // --- for replication, that thread
  static constexpr std::size_t bucket_count = limits::buckets;
  /// The same on every node.
  [[nodiscard]] static std::uint32_t bucket_of(const row& r);
  /// Of all rows of one owner in one bucket: a sum, so order does not count.
  [[nodiscard]] std::uint64_t digest(peer_number node, std::uint32_t bucket) const;
  [[nodiscard]] std::uint64_t digest(peer_number node) const;
  void for_each(peer_number node, std::uint32_t bucket, const std::function<void(const row&)>& f) const;

private:
  struct stored;
  struct shard;
  struct owned;
  [[nodiscard]] shard& of(std::uint64_t hash) const;
  [[nodiscard]] owned& at(peer_number node);
  [[nodiscard]] const owned* at(peer_number node) const;
  [[nodiscard]] bool is_present(peer_number node) const { return present_[node].load(std::memory_order_acquire); }
  [[nodiscard]] bool is_above(const stored& a, const stored& b) const;
  [[nodiscard]] static stored* find_in(stored* chain, peer_number node, const row& r);
  void look_for_conflicts(const stored& fresh, const stored* chain, placed& out) const;
  void unlink(shard& s, stored* gone);
  [[nodiscard]] const stored* oldest_in(const stored* chain) const;
  [[nodiscard]] std::optional<peer_number> home_in(const stored* chain) const;
  void note_move(shard& s, std::uint64_t account, std::optional<peer_number> before, std::optional<peer_number> after);
  [[nodiscard]] std::optional<move> find_move(const xmpp::jid& bare) const;
  using counter = std::atomic<std::uint16_t>;
  static constexpr std::size_t filter_size = 16'384;
  [[nodiscard]] counter& filter_of(std::uint64_t account) const { return moves_filter_[account % filter_size]; }
  static row to_row(const stored& s);

  std::unique_ptr<shard[]> shards_;
  std::vector<std::unique_ptr<owned>> owners_;
  std::array<std::atomic<bool>, most_peers> present_{};
  std::array<std::atomic<node_id>, most_peers> nodes_{};
  std::atomic<std::size_t> size_{0};
  const std::unique_ptr<counter[]> moves_filter_ = std::make_unique<counter[]>(filter_size); // moves of accounts with this hash
  // of the thread that changes it
  struct noted { std::uint32_t age; std::uint64_t account; };
  std::deque<noted> noted_; // moves, the oldest first
  std::uint32_t age_ = 0;
  std::uint64_t last_move_ = 0;
};

/// Bytes of memory that one row takes besides its share of the index, and the index's; measured by tests/cluster.
inline constexpr std::size_t most_row_bytes = 250;

} // namespace cluster
