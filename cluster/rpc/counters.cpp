// The refusals.
#include "cluster/rpc/counters.hpp"
#include "base/log.hpp"

namespace cluster::rpc {

void refusal_log::say(bool is_ours, const wire::refusal& why, const std::string& peer, const std::string& node) {
  std::string reason{to_text(why.code)};
  base::metrics::make_counter("covey_cluster_refusals_total", "Links that were refused", {{"reason", reason}, {"by", is_ours ? "us" : "peer"}}).add();
  if (why.code == wire::refusal_code::duplicate || why.code == wire::refusal_code::leaving)
    return; // in the course of things
  std::uint64_t n = 0;
  {
    std::lock_guard guard{mutex_};
    n = limiters_[{is_ours, why.code}].due(base::steady::now());
  }
  if (n == 0)
    return;
  auto count = std::to_string(n);
  if (is_ours)
    base::log::warning("cluster.refused", "a node was refused", {{"peer", peer}, {"node", node}, {"reason", reason}, {"error", why.text}, {"count", count}});
  else
    base::log::warning("cluster.refused_by_peer", "a node refuses this one", {{"peer", peer}, {"node", node}, {"reason", reason}, {"error", why.text}, {"count", count}});
}

} // namespace cluster::rpc
