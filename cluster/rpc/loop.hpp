// The thread that waits for gRPC, and does what its node has to do besides. gRPC's callback API has threads of its own, which
// wake each other for each event and then the node's: a stanza between nodes cost 8 to 15 % more.
#pragma once
#include "cluster/rpc/operation.hpp"
#include "cluster/transport.hpp"
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <mutex>
#include <thread>

namespace cluster::rpc {

class loop final : public wire::worker {
public:
  /// From a server's builder, or one's own where nobody listens.
  explicit loop(std::unique_ptr<grpc::CompletionQueue> queue);
  /// Once nothing will be begun any more: what has been is waited for.
  ~loop() override;
  [[nodiscard]] grpc::CompletionQueue& queue() { return *queue_; }

  void start(std::function<std::chrono::nanoseconds()> round) override;
  void wake() override;
  void stop() override;

private:
  struct awake final : operation {
    explicit awake(loop& l) : of(l) {}
    void done(bool ok) override;
    loop& of;
  };
  void run();
  std::chrono::nanoseconds do_round();

  const std::unique_ptr<grpc::CompletionQueue> queue_;
  std::mutex wake_mutex_; // of what follows
  grpc::Alarm alarm_;
  awake awake_{*this};
  bool is_waking_ = false, is_over_ = false;
  std::mutex round_mutex_; // of what follows, and held while it runs
  std::function<std::chrono::nanoseconds()> round_;
  std::thread thread_; // last: uses the rest
};

} // namespace cluster::rpc
