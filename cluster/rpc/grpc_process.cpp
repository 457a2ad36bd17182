// A server that nobody can reach holds gRPC's callback threads: 1.51 stops them with the last user and starts them with
// the next one, and a thread that is just stopping then drops a reference too many (assertion "prior > 0").
#include "cluster/rpc/grpc_process.hpp"
#include "base/log.hpp"
#include "proto/cluster_link.grpc.pb.h"
#include <absl/synchronization/mutex.h>
#include <atomic>
#include <grpc/support/log.h>
#include <grpcpp/grpcpp.h>
#include <mutex>

namespace cluster::rpc {

namespace {
struct kept {
  covey::link::node::CallbackService service;
  std::unique_ptr<grpc::Server> server;
};
std::atomic<kept*> holder{nullptr}; // never destroyed: gRPC's threads outlive main()

/// Strangers cause such lines: a handshake that failed, a name in a client hello that is none of ours.
void log_line(gpr_log_func_args* a) { base::log::debug("cluster.grpc", a->message); }
} // namespace

void prepare_grpc() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(log_line);
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); // Debian's looks for cycles at each of gRPC's locks
    auto* k = new kept;
    grpc::ServerBuilder b;
    b.RegisterService(&k->service);
    k->server = b.BuildAndStart();
    holder = k;
  });
}

} // namespace cluster::rpc
