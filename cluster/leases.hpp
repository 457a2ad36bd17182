// What must exist once in the cluster (a room, a service, an outgoing link) has an ownership row; each node keeps one lease
// row alive, and owns only while it does. A machine: the store is asked by commands and answers by events; clocks are the
// node's own and are never compared with another's. docs/cluster-internals.md has the argument.
#pragma once
#include "base/clock.hpp"
#include "base/random.hpp"
#include "cluster/frame.hpp"
#include "storage/engine.hpp"
#include <map>
#include <optional>

namespace cluster {

struct lease_options {
  base::duration renew_every = std::chrono::seconds{1};
  base::duration owned_for = std::chrono::seconds{4};  // after the start of the last renewal that was done
  base::duration taken_after = std::chrono::seconds{6}; // the owner's lease row unchanged for so long: longer than owned_for
  base::duration answer_limit = std::chrono::seconds{5}; // what the store has not answered by then is asked anew
  std::size_t most_names = 100'000;
};

struct lease_effects {
  struct read { std::uint64_t op; std::string key; };
  struct commit { std::uint64_t op; storage::batch what; };
  std::vector<read> reads;
  std::vector<commit> commits;
  /// Ours now: load its state, fence every write (leases::fence).
  std::vector<std::string> gained;
  /// We cannot be sure: answer `resource-constraint` (wait), write nothing.
  std::vector<std::string> paused;
  std::vector<std::string> resumed; // it was ours all the time
  std::vector<std::string> ended;   // another node's now, or given back: drop the state
};

class leases {
public:
  using options = lease_options;
  leases(node_id me, life own, base::random& r, options o = {}) : me_(me), life_(own), random_(r), options_(o) {}

  /// At least four times a second.
  void tick(base::time_point now, lease_effects& out);
  /// From now on this node owns `name` whenever nobody else does. False: too many.
  bool claim(const std::string& name, base::time_point now);
  /// It is given back, if it is ours, and not claimed any more.
  void release(const std::string& name, base::time_point now, lease_effects& out);
  /// Everything is given back and nothing is claimed any more: the node drains, or leaves.
  void release_all(base::time_point now, lease_effects& out);
  /// The operating system said that this life's process is gone: nobody waits for its lease to run out.
  void process_gone(node_id node, life of);
  /// A new life of this node (cluster/membership): what it owned has ended.
  void reborn(life own, base::time_point now, lease_effects& out);

  void on_read(std::uint64_t op, const base::result<std::optional<storage::row>, storage::errc>& r, base::time_point now, lease_effects& out);
  void on_commit(std::uint64_t op, storage::outcome how, base::time_point now, lease_effects& out);

  /// By the own clock, at this moment. Asked before each thing that an owner does.
  [[nodiscard]] bool owns(const std::string& name, base::time_point now) const;
  /// What each write of the owner carries: it fails if another node took over meanwhile. Only while owns() holds.
  [[nodiscard]] std::optional<storage::precondition> fence(const std::string& name, base::time_point now) const;
  /// Of its ownership row, while it is ours; 0: it is not.
  [[nodiscard]] storage::version version(const std::string& name) const { return epoch(name) == 0 ? 0 : wants_.at(name).version; }
  /// 0: not ours.
  [[nodiscard]] std::uint64_t epoch(const std::string& name) const;
  [[nodiscard]] bool is_valid(base::time_point now) const { return has_lease_ && now - valid_from_ < options_.owned_for; }
  /// What is owned is, by the own clock, until then.
  [[nodiscard]] base::time_point valid_until() const { return has_lease_ ? valid_from_ + options_.owned_for : base::time_point{}; }
  /// Whether that life of that node can do nothing any more: its process is gone, or has been replaced, or its lease row
  /// has been seen unchanged for long enough. From the first question on the row is watched; ask again.
  [[nodiscard]] bool is_over(node_id node, life of, base::time_point now);
  /// Who has it, as far as the row that was last read says; 0: nobody or unknown.
  [[nodiscard]] node_id holder(const std::string& name) const;

private:
  enum class step : std::uint8_t { idle, reading, watching, taking, owned, paused, checking };
  struct want {
    step at = step::idle;
    bool is_wanted = true; // else it waits for what became of the last commit, to be given back
    bool is_unsure = false; // the row may say that it is ours
    bool is_doubted = false; // and what was to give it back may still come
    std::uint64_t epoch = 0;
    storage::version version = 0; // of the ownership row, as last read or written
    node_id holder = 0;
    life holder_life = 0;
    std::uint64_t op = 0;
    base::time_point next{};
  };
  struct watch { // of another node's lease row
    storage::version version = 0;
    life of = 0;
    base::time_point since{}, read_started{}; // unchanged from `since` (when a read had ended) to `read_started`
    base::time_point of_since{};              // the same, for the life alone
    base::time_point next{}, asked{};
    std::uint64_t op = 0;
    bool is_known = false;
  };
  struct operation {
    enum class kind : std::uint8_t { renew, read_own, read_name, take, check, watch, give_back } what;
    std::string name;
    node_id node = 0;
    base::time_point started{};
  };

  std::uint64_t ask(operation o, const std::string& key, lease_effects& out);
  std::uint64_t submit(operation o, storage::batch b, lease_effects& out);
  [[nodiscard]] storage::batch make_batch(std::string key, std::string value, storage::version expected);
  void renew(base::time_point now, lease_effects& out);
  void renewed(base::time_point started, base::time_point now, lease_effects& out);
  void lapse(lease_effects& out);
  void on_name_read(const std::string& name, want& w, const std::optional<storage::row>& r, base::time_point now, lease_effects& out);
  void on_watch_read(watch& w, const std::optional<storage::row>& r, base::time_point started, base::time_point now);
  void consider(const std::string& name, want& w, base::time_point now, lease_effects& out);
  void take(const std::string& name, want& w, std::optional<storage::precondition> of_lease, base::time_point now, lease_effects& out);
  void give_back(const std::string& name, const want& w, base::time_point now, lease_effects& out);
  void doubt(const std::string& name, base::time_point now);
  [[nodiscard]] bool is_giving_back(const std::string& name) const;
  void lose(const std::string& name, want& w, base::time_point now, lease_effects& out);
  void expire_operations(base::time_point now);

  const node_id me_;
  life life_;
  base::random& random_;
  const options options_;
  std::map<std::string, want> wants_;
  std::map<node_id, watch> watches_;
  std::map<node_id, life> gone_; // processes, up to this life
  std::map<std::uint64_t, operation> operations_;
  std::uint64_t last_op_ = 0, count_ = 0;
  // the own lease row
  storage::version version_ = 0;
  bool is_read_ = false, is_superseded_ = false, has_lease_ = false, has_lapsed_ = true;
  std::uint64_t own_op_ = 0;
  base::time_point valid_from_{}, next_renewal_{};
};

/// Lives of one process differ in the lower bits only: the upper ones count its starts.
inline constexpr unsigned process_shift = 20;

/// Keys of the two tables, for tests and the operator's tools.
[[nodiscard]] std::string lease_key(node_id node);
[[nodiscard]] std::string ownership_key(const std::string& name);

} // namespace cluster
