// The two ends of a link as gRPC has them. For the few files that include gRPC.
#pragma once
#include "cluster/rpc/identity.hpp"
#include "cluster/rpc/stream.hpp"
#include "proto/cluster_link.grpc.pb.h"
#include <grpcpp/grpcpp.h>

namespace cluster::rpc {

inline constexpr const char* hello_key = "covey-hello-bin";
inline constexpr const char* join_key = "covey-join-bin";
inline constexpr std::size_t longest_metadata = 8'192; // bytes, of all of it

/// "ipv4:192.0.2.1:5269", "ipv6:[::1]:5269" or "dns:///host:5269", so that addresses need no resolver.
[[nodiscard]] std::string target_of(const std::string& address);
/// `memory`: what gRPC may hold. It holds a message whole before it looks at its size.
[[nodiscard]] grpc::ChannelArguments channel_arguments(const wire::transport_limits& limits, const grpc::ResourceQuota& memory);

/// Whom a dialled connection may reach, and why not, if not. The handshake's thread writes, the call's end reads.
struct peer_check {
  std::function<base::result<std::string, wire::refusal>(const std::string& chain_pem)> verify; // gives the node's name
  std::mutex mutex;
  std::string bears;
  std::optional<wire::refusal> refused;
};
/// Credentials that leave the other end's certificate to `check` alone. `certificate` and `key`: ours, or empty for none.
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> credentials_for(const std::string& certificate, const std::string& key,
                                                                        std::shared_ptr<peer_check> check);

class dialled_stream final : public stream, public grpc::ClientBidiReactor<covey::link::packet, covey::link::packet> {
public:
  using stream::stream;
  /// The call exists from here on, and may be ended by any thread; start() sends it.
  void prepare(const std::string& address, const wire::hello& own, const identity& who, const std::string& node,
               const grpc::ChannelArguments& arguments);
  void start();

private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override { on_write_done(ok); }
  void OnDone(const grpc::Status& status) override;
  void start_write(const packet& p) override { StartWrite(&p); }
  void finish(const wire::refusal* ours) override;
  void cancel() override { context_.TryCancel(); }
  [[nodiscard]] std::string bears() const override;

  grpc::ClientContext context_;
  std::shared_ptr<peer_check> check_ = std::make_shared<peer_check>();
  std::unique_ptr<covey::link::node::Stub> stub_;
  packet in_;
  std::atomic<bool> has_read_{false};
  stream_ref self_; // gRPC's reference
};

class accepted_stream final : public stream, public grpc::ServerBidiReactor<covey::link::packet, covey::link::packet> {
public:
  accepted_stream(std::shared_ptr<stream_owner> owner, wire::link_id id, const wire::transport_limits& limits, base::time_point now,
                  grpc::CallbackServerContext* context)
    : stream(std::move(owner), id, false, limits, now), context_(context) {}
  void start();

private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override { on_write_done(ok); }
  void OnDone() override;
  void start_write(const packet& p) override { StartWrite(&p); }
  void finish(const wire::refusal* ours) override;
  void cancel() override;

  std::mutex context_mutex_;
  grpc::CallbackServerContext* context_; // null: gRPC has done with it
  packet in_;
  stream_ref self_; // gRPC's reference
};

/// How a link is refused once the call is there: a status that carries the reason.
[[nodiscard]] grpc::Status status_of(const wire::refusal& why);

} // namespace cluster::rpc
