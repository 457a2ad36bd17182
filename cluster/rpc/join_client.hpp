// Joining by token: the node that wants a certificate.
#pragma once
#include "cluster/rpc/node_service.hpp"

namespace cluster::rpc {

struct join_failure {
  bool is_answered = false; // by a node of the cluster, which refused
  std::string text;         // for the operator
};
/// Asks the node at `address`, whose chain must end in the authority with this fingerprint (SHA-256, 32 bytes): nothing is
/// sent to another. Blocks, at most 15 s.
[[nodiscard]] base::result<join_grant, join_failure> ask_for_certificate(const std::string& address, const std::string& fingerprint, const join_request& r);

} // namespace cluster::rpc
