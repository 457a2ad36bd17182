// A node's certificate, key and authority on disk, read again for each connection; and what the other end's is worth.
#pragma once
#include "base/x509.hpp"
#include "cluster/link_rules.hpp"

namespace cluster::rpc {

struct identity_files {
  std::string authority, certificate, key; // PEM; certificate: with its chain
};

/// One state of the files.
struct identity {
  std::string certificate, key; // PEM
  std::vector<base::x509::certificate> authorities;
  std::string node; // that the certificate names
  std::chrono::system_clock::time_point ends;
};
/// Errors: a text for the operator: a file cannot be read, they do not belong together, the certificate is over, or it
/// names no node. Reads files.
[[nodiscard]] base::result<identity, std::string> read_identity(const identity_files& files);

/// The node that the certificate of the other end names. Errors: wrong_certificate and why.
[[nodiscard]] base::result<std::string, wire::refusal> verify_peer(const std::string& chain_pem, const std::vector<base::x509::certificate>& authorities,
                                                                   bool is_of_server);
/// What the file holds now; none: it cannot be read.
[[nodiscard]] std::vector<base::x509::certificate> read_authorities(const std::string& file);

} // namespace cluster::rpc
