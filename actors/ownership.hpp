// What must exist once in the cluster, as this node's reactors see it: which services are its own, by leases in the store that
// the nodes share (cluster/leases.hpp). Without it two nodes could each take themselves for the owner.
#pragma once
#include "cluster/leases.hpp"
#include "cluster/table.hpp"
#include "storage/store.hpp"
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <shared_mutex>

namespace actors {

class node;

class ownership {
public:
  /// What is done elsewhere: on the thread of the peers, whose time the calls below have.
  struct surroundings {
    std::function<base::time_point()> now; // any thread; the same clock as below
    std::function<void(std::function<void(base::time_point)>)> post; // any thread; the call gets the time
    std::function<void(const xmpp::jid_ref& name, std::uint64_t epoch, bool is_ours)> show; // to the other nodes
    std::function<bool(const xmpp::jid&)> is_proposed; // this node shall have it, by hashing
  };
  ownership(node& around, cluster::node_id me, cluster::life own, surroundings s);

  // --- the thread of the peers
  /// At least four times a second. Takes up what the hosts have now.
  void tick(base::time_point now);
  /// Everything is given back, for good: the node drains, or ends.
  void release_all(base::time_point now);
  void process_gone(cluster::node_id node, cluster::life of);
  void reborn(cluster::life own, base::time_point now);

  // --- any thread
  /// What a write of `name`'s owner carries. Nothing: at this moment this node is not it, or cannot be sure.
  [[nodiscard]] std::optional<storage::precondition> fence(const xmpp::jid& name) const;
  /// Those of this node.
  [[nodiscard]] std::size_t count() const;
  /// What exists once in the cluster, on the hosts that this node serves.
  [[nodiscard]] static std::vector<xmpp::jid_ref> services_of(const node& around);

private:
  /// The leases in one store. Answers of the store may come after it has gone.
  struct group {
    storage::store* in;
    cluster::leases machine;
    std::set<std::string> wanted; // bare JIDs that are claimed
    std::atomic<std::int64_t> valid_until{0};    // nanoseconds of surroundings::now
  };
  struct owned {
    std::shared_ptr<group> by;
    xmpp::jid_ref name;
    storage::precondition fence;
    std::uint64_t epoch = 0;
    bool is_paused = false;
  };
  std::shared_ptr<group> group_of(storage::store* s);
  void carry(const std::shared_ptr<group>& g, cluster::lease_effects&& todo);
  void begin(const std::shared_ptr<group>& g, const std::string& name);
  void pause(const std::string& name, bool is);
  void end(const std::string& name);

  node& around_;
  const cluster::node_id me_;
  cluster::life life_;
  const surroundings at_;
  std::vector<std::shared_ptr<group>> groups_;
  bool is_over_ = false;
  mutable std::shared_mutex mutex_; // of what follows
  std::map<std::string, owned, std::less<>> owned_; // by bare JID
};

} // namespace actors
