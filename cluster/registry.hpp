// Who is online where, and which reactor owns an address. Concurrent and read-mostly: senders look up
// here in their own thread, nothing queues (DESIGN: no singleton on the hot path).
#pragma once
#include "base/budget.hpp"
#include "base/clock.hpp"
#include "xmpp/jid.hpp"
#include <array>
#include <atomic>
#include <boost/unordered/unordered_flat_map.hpp>
#include <functional>
#include <shared_mutex>
#include <vector>

namespace cluster {

/// Where a light actor lives: node, reactor, and there slot and generation in one number.
struct place {
  std::uint16_t node = 0, reactor = 0;
  std::uint64_t ref = 0;
  explicit operator bool() const { return ref != 0; }
  friend bool operator==(const place&, const place&) = default;
};

/// The in-flight counts of a session: shared by whoever sends to it, for as long as one of them or
/// the session lives.
struct session_limit : base::counted<session_limit> {
  explicit session_limit(const base::budget_limits& limits) : used(limits) {}
  base::budget used;
};

/// One bound resource as every reactor may see it.
struct session_row {
  xmpp::jid_ref full;
  place where;
  std::uint64_t id = 0;    // of the session, unique in the cluster's life
  std::uint64_t clock = 0; // taken at bind; the lowest of an account is its oldest session
  std::int8_t priority = 0;
  bool is_available = false;
};

/// One bare JID (or domain) that has a session or work to do. Its entity lives on `reactor`, fixed
/// for the life of this row. A charge keeps the row alive: it is removed only with nothing charged.
class address {
public:
  address(xmpp::jid_ref b, std::uint16_t home, const base::budget_limits& limits)
    : bare(std::move(b)), reactor(home), limit(limits) {}
  const xmpp::jid_ref bare;
  const std::uint16_t reactor;
  base::budget limit;
  std::atomic<std::uint64_t> entity{0}; // written on its reactor; 0: not started
  std::atomic<std::uint32_t> sessions{0};

private:
  friend class registry;
  std::vector<session_row> rows_; // under the shard's lock
};

class registry {
public:
  /// `most_idle`: rows without a session, for each reactor; more are not made by charge_or_create.
  explicit registry(const base::budget_limits& entity_limits, std::size_t most_idle = 50'000)
    : limits_(entity_limits), most_idle_(most_idle) {}

  /// From now on; rows that are there stay. Any thread.
  void set_most_idle(std::size_t n) { most_idle_.store(n, std::memory_order_relaxed); }

  struct found {
    address* at = nullptr; // null: no such row, or no room for it; stays valid until the charge is released
    base::room room = base::room::full;
  };
  /// Finds the row of `to`'s bare JID and charges it. `full`: found but not charged.
  [[nodiscard]] found charge(const xmpp::jid& to, std::uint32_t bytes);
  /// The same for presence: only where a session is (RFC 6121 section 4.3.2), else a null row.
  [[nodiscard]] found charge_online(const xmpp::jid& to, std::uint32_t bytes);
  /// Finds or creates; a new row lives on `reactor`. `bare` has no resource. Null and `full`: too many rows without a
  /// session live there.
  [[nodiscard]] found charge_or_create(const xmpp::jid_ref& bare, std::uint16_t reactor,
                                       std::uint32_t bytes);
  /// Charged whatever its room; null: no such row. For control to whoever is there.
  [[nodiscard]] address* charge_if_there(const xmpp::jid& to, std::uint32_t bytes);
  /// The same for what must get through (attach).
  [[nodiscard]] address& charge_always(const xmpp::jid_ref& bare, std::uint16_t reactor,
                                       std::uint32_t bytes);
  /// Called on the address's reactor. False: something was charged meanwhile, or a session is bound.
  bool remove_if_idle(address& a);

  /// Inserts the row, or replaces the one with its id. Called on the address's reactor.
  void publish(address& a, const session_row& row);
  /// The session lives elsewhere now. Called on the address's reactor.
  void relocate(address& a, std::uint64_t id, const place& where);
  /// Idempotent. `id` names the session, so that a successor with the same full JID stays.
  void withdraw(address& a, std::uint64_t id);

  [[nodiscard]] std::vector<session_row> sessions_of(const xmpp::jid& bare) const;
  /// Every session, shard by shard; `f` must not call the registry.
  void for_each_session(const std::function<void(const session_row&)>& f) const;
  /// Nothing is charged anywhere: every message has been handled or dropped.
  [[nodiscard]] bool is_quiet() const;
  [[nodiscard]] std::size_t session_count() const { return sessions_.load(std::memory_order_relaxed); }
  /// Rows without a session whose entity lives on `reactor`.
  [[nodiscard]] std::size_t idle_count(std::uint16_t reactor) const { return idle_[reactor].load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t address_count() const { return addresses_.load(std::memory_order_relaxed); }

private:
  struct key { // the hash was computed when the JID was made; the bytes are the row's own
    std::uint64_t hash;
    std::string_view bare;
    friend bool operator==(const key& a, const key& b) { return a.hash == b.hash && a.bare == b.bare; }
  };
  struct hasher {
    using is_avalanching = void;
    std::size_t operator()(const key& k) const { return k.hash; }
  };
  struct shard {
    mutable std::shared_mutex mutex;
    boost::unordered_flat_map<key, std::unique_ptr<address>, hasher> rows;
  };
  static constexpr std::size_t shard_count = 64;
  shard& of(std::uint64_t hash) { return shards_[hash >> 58]; }
  const shard& of(std::uint64_t hash) const { return shards_[hash >> 58]; }

  static constexpr std::size_t most_reactors = 256; // as many as the configuration allows
  address& insert(shard& s, const xmpp::jid_ref& bare, std::uint16_t reactor);

  base::budget_limits limits_;
  std::atomic<std::size_t> most_idle_;
  std::array<shard, shard_count> shards_;
  std::array<std::atomic<std::size_t>, most_reactors> idle_{}; // each changes under the lock of its row's shard
  std::atomic<std::size_t> sessions_{0}, addresses_{0};
};

/// Names that were looked for and do not exist: bounded, each for `life`. Keeps a flood of stanzas to
/// strangers off the storage.
class absent_names {
public:
  explicit absent_names(base::duration life = std::chrono::seconds{30}) : life_(life) {}
  [[nodiscard]] bool contains(const xmpp::jid& bare, base::time_point now) const;
  void insert(const xmpp::jid& bare, base::time_point now);
  void erase(const xmpp::jid& bare); // an account was created

private:
  static constexpr std::size_t shard_count = 16, most_per_shard = 1'024;
  struct shard {
    mutable std::shared_mutex mutex;
    boost::unordered_flat_map<std::string, base::time_point> until;
  };
  shard& of(std::uint64_t hash) { return shards_[hash >> 60]; }
  const shard& of(std::uint64_t hash) const { return shards_[hash >> 60]; }
  base::duration life_;
  std::array<shard, shard_count> shards_;
};

} // namespace cluster
