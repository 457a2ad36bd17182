// The two ends of a link as gRPC has them. For the few files that include gRPC.
#pragma once
#include "cluster/rpc/identity.hpp"
#include "cluster/rpc/loop.hpp"
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

/// A stream by operations of a call: it is gone when none is under way.
class call_stream : public stream {
public:
  using stream::stream;

protected:
  void begin_call();
  /// Before each operation, and behind each.
  void begin_operation() { ++under_way_; }
  void end_operation();
  void on_written(bool ok);
  operation_of<call_stream> written_{*this, &call_stream::on_written};

private:
  std::atomic<int> under_way_{0};
  stream_ref self_; // gRPC's reference
};

class dialled_stream final : public call_stream {
public:
  using call_stream::call_stream;
  /// The call exists from here on, and may be ended by any thread; start() sends it.
  void prepare(loop& at, const std::string& address, const wire::hello& own, const identity& who, const std::string& node,
               const grpc::ChannelArguments& arguments);
  void start();

private:
  void on_started(bool ok);
  void on_packet(bool ok);
  void on_all_written(bool) { end_operation(); }
  void on_status(bool ok);
  void read();
  void end_half();
  void start_write(const packet& p) override;
  void finish(const wire::refusal* ours) override;
  void cancel() override { context_.TryCancel(); }
  [[nodiscard]] std::string bears() const override;

  using call = dialled_stream;
  operation_of<call> started_{*this, &call::on_started}, read_{*this, &call::on_packet},
      all_written_{*this, &call::on_all_written}, finished_{*this, &call::on_status};
  grpc::ClientContext context_;
  std::shared_ptr<peer_check> check_ = std::make_shared<peer_check>();
  std::unique_ptr<covey::link::node::Stub> stub_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<packet, packet>> stream_;
  packet in_;
  grpc::Status status_;
  std::atomic<int> open_halves_{2}; // reading, and writing
  bool has_read_ = false;           // the loop's thread
};

/// A call that has come, or is waited for.
template <class Out, class In>
struct served_call {
  grpc::ServerContext context;
  grpc::ServerAsyncReaderWriter<Out, In> stream{&context};
};
using accepted_call = served_call<covey::link::packet, covey::link::packet>;

class accepted_stream final : public call_stream {
public:
  accepted_stream(std::shared_ptr<stream_owner> owner, wire::link_id id, const wire::transport_limits& limits, base::time_point now,
                  std::unique_ptr<accepted_call> c)
    : call_stream(std::move(owner), id, false, limits, now), call_(std::move(c)) {}
  void start();

private:
  void on_packet(bool ok);
  void on_finished(bool) { end_operation(); }
  void read();
  void start_write(const packet& p) override;
  void finish(const wire::refusal* ours) override;
  void cancel() override { call_->context.TryCancel(); }

  using call = accepted_stream;
  operation_of<call> read_{*this, &call::on_packet}, finished_{*this, &call::on_finished};
  const std::unique_ptr<accepted_call> call_;
  packet in_;
};

/// Ends a call that has not begun.
template <class Out, class In>
void refuse(std::unique_ptr<served_call<Out, In>> c, const grpc::Status& why) {
  struct refusing final : operation {
    std::unique_ptr<served_call<Out, In>> of;
    void done(bool) override { delete this; }
  };
  auto* r = new refusing;
  r->of = std::move(c);
  r->of->stream.Finish(why, r);
}

/// How a link is refused once the call is there: a status that carries the reason.
[[nodiscard]] grpc::Status status_of(const wire::refusal& why);

} // namespace cluster::rpc
