// DATA/cluster: the cluster's authority where it is kept, this node's certificate, tokens for nodes that join.
#pragma once
#include "base/clock.hpp"
#include "base/random.hpp"
#include "base/x509.hpp"
#include "cluster/rpc/node_service.hpp"
#include <string>
#include <vector>

namespace server {

inline constexpr std::uint16_t default_cluster_port = 5290;

enum class cluster_errc { failed, usage, not_found, conflict };
struct cluster_problem {
  cluster_errc what = cluster_errc::failed;
  std::string text; // for the operator
};
template <class T>
using cluster_result = base::result<T, cluster_problem>;

/// Names of files in the folder. Keys are readable by their owner only.
struct cluster_folder {
  std::string path;
  [[nodiscard]] std::string authority() const { return path + "/ca.pem"; }
  [[nodiscard]] std::string authority_key() const { return path + "/ca.key"; } // only where the authority is kept
  [[nodiscard]] std::string certificate() const { return path + "/node.pem"; } // with the authority behind it
  [[nodiscard]] std::string key() const { return path + "/node.key"; }
  [[nodiscard]] std::string seeds() const { return path + "/seeds"; }          // one address a line: what a join gave
  [[nodiscard]] std::string tokens() const { return path + "/tokens"; }
  [[nodiscard]] cluster::rpc::identity_files files() const { return {authority(), certificate(), key()}; }
};
[[nodiscard]] inline cluster_folder cluster_folder_in(const std::string& data_folder) { return {data_folder + "/cluster"}; }

/// A new authority, for ten years. Its name holds the cluster's. Errors: conflict: there is one; usage: no such name.
[[nodiscard]] cluster_result<void> make_cluster_authority(const cluster_folder& at, const std::string& cluster);
/// Of the authority there. Errors: not_found.
[[nodiscard]] cluster_result<std::string> cluster_name(const cluster_folder& at);

/// A node's certificate, for 397 days, and its key, in `to`; with the same key where there is one. `hosts`: names and
/// addresses for other programs, nodes do not look at them. Errors: not_found: no authority here; conflict: `to` has
/// the certificate of another node, or of another authority; usage.
[[nodiscard]] cluster_result<void> issue_node_certificate(const cluster_folder& authority, const cluster_folder& to, const std::string& node,
                                                          const std::vector<std::string>& hosts);

/// What is printed for `covey join`: whom to ask, whom to believe, and a secret.
struct join_token {
  std::string address, fingerprint, secret; // fingerprint: of the authority, SHA-256
  base::wall_time expires;
};
[[nodiscard]] std::string encode(const join_token& t);
/// Nothing: no token.
[[nodiscard]] std::optional<join_token> parse_token(const std::string& text);

/// A token for one node; only a hash of its secret is kept, in a file of its own. At most 100 at a time. Errors:
/// not_found: no authority here; conflict: too many; usage.
[[nodiscard]] cluster_result<join_token> make_token(const cluster_folder& at, const std::string& address, std::chrono::seconds life, base::wall_time now,
                                                    base::random& random);
/// True once for each token that is not over: the file goes, and whoever removed it has it. Any thread or process.
[[nodiscard]] bool take_token(const cluster_folder& at, const std::string& secret, base::wall_time now);

/// Signs requests that come with a good token, by the authority in the folder, but none for the node that the folder is
/// of. `seeds`: what the new node shall dial.
[[nodiscard]] cluster::rpc::join_handler cluster_join_handler(const cluster_folder& at, std::function<std::vector<std::string>()> seeds,
                                                              const base::clock& clock);

/// This node's key: the one that is there, or a new one, in its file. Errors: failed.
[[nodiscard]] cluster_result<base::x509::key> provide_node_key(const cluster_folder& at);
/// Whether a node of this name and an authority with this fingerprint may take the folder. Errors: conflict as above.
[[nodiscard]] cluster_result<void> check_place(const cluster_folder& at, const std::string& fingerprint, const std::string& node);
/// Puts what a join gave in place. Errors: conflict as above; failed.
[[nodiscard]] cluster_result<void> keep_grant(const cluster_folder& at, const cluster::rpc::join_grant& g);

} // namespace server
