// What happened in a run, as the checker judges it: every message from its sender's hand to its receiver's.
#pragma once
#include "tests/sim/verdict.hpp"
#include <map>
#include <set>

namespace sim {

using stream_id = std::uint64_t; // of one client's one connection, never used twice

struct message {
  std::uint64_t number = 0;   // its stanza-id
  std::size_t from = 0, to = 0; // clients: the receiver's user is what counts
  stream_id stream = 0;       // on which it was sent first
  time_point sent{};
  bool is_resent = false;     // by its client, after a broken stream
  bool is_again = false;      // routed again by a server, or kept in the store
  bool is_acknowledged = false;
  bool is_bounced = false;
  time_point acknowledged{};
  struct copy {
    std::size_t client = 0;
    stream_id stream = 0;
    time_point when{};
    bool ack_arrived = false; // at a node, which has not died since
    time_point ack_when{};
    std::size_t node = 0;
  };
  std::vector<copy> copies;
};

struct history : verdict {
  std::vector<message> messages{1}; // by number; 0 is not used
  /// A life ended, or two nodes lost each other: an ack may be lost with that.
  std::vector<time_point> losses;
  std::uint64_t logins = 0, conflicts = 0, rerouted = 0, stored = 0, claimed = 0, crashes = 0, rebirths = 0, purged_rows = 0, deaths = 0;
  std::uint64_t lease_writes = 0, lease_changes = 0;
};

} // namespace sim
