// One call, and a look at what came back before anybody believes it.
#include "cluster/rpc/join_client.hpp"
#include "cluster/rpc/grpc_process.hpp"
#include "cluster/rpc/grpc_streams.hpp"
#include <algorithm>

namespace cluster::rpc {

namespace {
constexpr auto limit = std::chrono::seconds{15};

std::string name_in_certificate(const std::string& pem, const std::string& authority) {
  auto found = verify_peer(pem, base::x509::certificate::parse_all(authority), false);
  return found ? *found : std::string{};
}
} // namespace

base::result<join_grant, join_failure> ask_for_certificate(const std::string& address, const std::string& fingerprint, const join_request& r) {
  prepare_grpc();
  auto check = std::make_shared<peer_check>();
  check->verify = [fingerprint](const std::string& chain) -> base::result<std::string, wire::refusal> {
    auto all = base::x509::certificate::parse_all(chain);
    auto root = std::find_if(all.begin(), all.end(), [&](auto& x) { return x.fingerprint() == fingerprint; });
    if (root == all.end())
      return base::fail(wire::refusal{wire::refusal_code::wrong_certificate, "its authority is not the one that the token names"});
    return verify_peer(chain, {*root}, true);
  };
  grpc::ResourceQuota memory{"join"};
  memory.Resize(16u << 20);
  auto stub = covey::link::node::NewStub(grpc::CreateCustomChannel(target_of(address), credentials_for({}, {}, check), channel_arguments({}, memory)));
  covey::link::join_request in;
  in.set_secret(r.secret);
  in.set_node(r.node);
  in.set_address(r.address);
  in.set_request(r.request);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + limit);
  context.AddMetadata(join_key, in.SerializeAsString());
  covey::link::join_reply out;
  auto call = stub->join(&context);
  bool has_reply = call->Read(&out);
  call->WritesDone();
  auto status = call->Finish();
  if (!status.ok()) {
    std::lock_guard guard{check->mutex};
    return base::fail(join_failure{status.error_code() == grpc::StatusCode::PERMISSION_DENIED,
                                   address + ": " + (check->refused ? check->refused->text : status.error_message())});
  }
  auto authority = has_reply ? base::x509::certificate::parse(out.authority()) : std::nullopt;
  if (!authority || authority->fingerprint() != fingerprint || name_in_certificate(out.certificate(), out.authority()) != r.node)
    return base::fail(join_failure{true, address + " gave a certificate that is not of the cluster, or not of this node"});
  return join_grant{out.certificate(), out.authority(), out.cluster(), {out.seeds().begin(), out.seeds().end()}};
}

} // namespace cluster::rpc
