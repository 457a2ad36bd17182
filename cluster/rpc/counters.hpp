// Metrics of the links, and lines of the log that strangers can cause, held back.
#pragma once
#include "base/metrics.hpp"
#include "cluster/rpc/door.hpp"
#include "cluster/transport.hpp"
#include <map>

namespace cluster::rpc {

struct link_counters {
  base::metrics::gauge& links = base::metrics::make_gauge("covey_cluster_links", "Links to other nodes that are connected");
  base::metrics::gauge& queued = base::metrics::make_gauge("covey_cluster_queue_bytes", "Bytes that wait to be written to links");
  base::metrics::counter& bytes_sent = base::metrics::make_counter("covey_cluster_bytes_sent_total", "Bytes of frames written to links");
  base::metrics::counter& bytes_received = base::metrics::make_counter("covey_cluster_bytes_received_total", "Bytes of frames read from links");
  base::metrics::counter& packets_sent = base::metrics::make_counter("covey_cluster_packets_sent_total", "Packets written to links");
  base::metrics::counter& packets_received = base::metrics::make_counter("covey_cluster_packets_received_total", "Packets read from links");
};
inline link_counters& counters() {
  static link_counters all;
  return all;
}

/// A refusal is counted always, and logged once in ten seconds for each reason. Any thread.
class refusal_log {
public:
  /// `is_ours`: we refused; else the other end did.
  void say(bool is_ours, const wire::refusal& why, const std::string& peer, const std::string& node);

private:
  std::mutex mutex_;
  std::map<std::pair<bool, wire::refusal_code>, log_limiter> limiters_;
};

} // namespace cluster::rpc
