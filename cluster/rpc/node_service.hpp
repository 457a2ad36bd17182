// The transport over gRPC: one bidirectional stream per pair of nodes, TLS with certificates of the cluster's authority
// on both sides; and certificates for nodes that join by a token. docs/cluster-links.md has the rules.
#pragma once
#include "cluster/rpc/identity.hpp"
#include "cluster/transport.hpp"
#include <memory>

namespace cluster::rpc {

struct join_request {
  std::string secret, node, address, request; // request: PKCS #10 in PEM
};
struct join_grant {
  std::string certificate, authority; // PEM
  std::string cluster;
  std::vector<std::string> seeds; // addresses
};
/// Whether the secret is good (once) and the rest can be signed. Errors: for our log only, the asker learns nothing. It
/// may block for as long as a file takes.
using join_handler = std::function<base::result<join_grant, std::string>(const join_request& r)>;

struct settings {
  std::string listen; // host:port, port 0: any; empty: this node dials only
  identity_files files;
  wire::hello own;    // node: empty for the name in the certificate. address: empty or with port 0 for that of `listen`
  wire::transport_limits limits;
  join_handler join; // empty: nobody joins here
};

class node_service final : public wire::transport {
public:
  /// Listens. `post` and `events` as transport.hpp says; both outlive it. Errors: a text for the operator.
  [[nodiscard]] static base::result<std::unique_ptr<node_service>, std::string> start(settings s, wire::post_function post, wire::transport_events& events);
  /// stop(), if that was not called.
  ~node_service() override;

  /// 0: it does not listen.
  [[nodiscard]] std::uint16_t port() const;
  [[nodiscard]] const wire::hello& own() const;
  [[nodiscard]] wire::worker* thread() override;
  wire::link_id dial(const std::string& address, const std::string& node) override;
  [[nodiscard]] wire::sent send(wire::link_id link, std::string frame) override;
  [[nodiscard]] bool is_written(wire::link_id link) override;
  void close(wire::link_id link, const wire::refusal& why) override;
  void set_hello(const wire::hello& own) override;
  /// Blocks for at most about a second, until gRPC is done with every link.
  void stop() override;

private:
  class core;
  explicit node_service(std::shared_ptr<core> c);
  std::shared_ptr<core> core_;
};

} // namespace cluster::rpc
