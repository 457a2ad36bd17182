// This node as a member of a cluster: who it is, where it is reached, whom it dials, and the shell that does it.
#pragma once
#include "actors/peers.hpp"
#include "server/config/config.hpp"
#include "storage/store.hpp"

namespace server {

/// DATA/cluster has a node's certificate: it takes part in that cluster.
[[nodiscard]] bool is_cluster_member(const std::string& data_folder);

/// The certificate is put aside: the next start is alone. Errors: a text for the operator.
[[nodiscard]] base::result<void, std::string> forget_membership(const std::string& data_folder);

struct cluster_member {
  std::unique_ptr<actors::peers> others;
  std::unique_ptr<storage::store> rows; // what other nodes have, over a restart; its last answers go to `others`
  cluster::member own;
  bool has_seeds = false;
};

/// Reads what the folder has and counts this start. `node` has its reactors, which do not run yet. Errors: a text for
/// the operator.
[[nodiscard]] base::result<cluster_member, std::string> make_cluster_member(const config& c, actors::node& node);
/// Listens and dials; where it knows of others, it waits a few seconds for them: who serves clients without them would
/// take itself for the owner of everything. Errors as above.
[[nodiscard]] base::result<void, std::string> start(cluster_member& m, const config& c, const base::clock& clock);

} // namespace server
