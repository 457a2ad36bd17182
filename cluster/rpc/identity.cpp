// Files and base/x509.
#include "cluster/rpc/identity.hpp"
#include "base/files.hpp"

namespace cluster::rpc {

std::vector<base::x509::certificate> read_authorities(const std::string& file) {
  auto text = base::read_file(file);
  return text ? base::x509::certificate::parse_all(*text) : std::vector<base::x509::certificate>{};
}

base::result<identity, std::string> read_identity(const identity_files& files) {
  auto certificate = base::read_file(files.certificate);
  if (!certificate)
    return base::fail(files.certificate + " cannot be read: it should hold this node's certificate");
  auto key_text = base::read_file(files.key);
  auto key = key_text ? base::x509::key::parse(*key_text) : std::nullopt;
  if (!key)
    return base::fail(files.key + " cannot be read, or holds no key: it should hold this node's");
  auto authorities = read_authorities(files.authority);
  if (authorities.empty())
    return base::fail(files.authority + " cannot be read, or holds no certificate: it should hold the cluster's authority");
  auto own = base::x509::certificate::parse(*certificate);
  if (!own || !own->is_of(*key))
    return base::fail(files.certificate + " and " + files.key + " do not belong together");
  if (auto good = base::x509::verify(*certificate, authorities, true); !good)
    return base::fail(files.certificate + ": " + std::string{to_text(good.error())});
  auto node = wire::node_of(own->uris());
  if (!node)
    return base::fail(files.certificate + " names no node: make one with `covey cluster issue-cert`");
  return identity{std::move(*certificate), std::move(*key_text), std::move(authorities), std::move(*node), own->ends()};
}

base::result<std::string, wire::refusal> verify_peer(const std::string& chain_pem, const std::vector<base::x509::certificate>& authorities,
                                                     bool is_of_server) {
  using wire::refusal_code;
  auto leaf = base::x509::verify(chain_pem, authorities, is_of_server);
  if (!leaf)
    return base::fail(wire::refusal{refusal_code::wrong_certificate, std::string{to_text(leaf.error())}});
  auto node = wire::node_of(leaf->uris());
  if (!node)
    return base::fail(wire::refusal{refusal_code::wrong_certificate, "the certificate names no node"});
  return *node;
}

} // namespace cluster::rpc
