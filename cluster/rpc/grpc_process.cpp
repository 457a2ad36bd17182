#include "cluster/rpc/grpc_process.hpp"
#include "base/log.hpp"
#include <absl/synchronization/mutex.h>
#include <grpc/support/log.h>
#include <mutex>

namespace cluster::rpc {

namespace {
/// Strangers cause such lines: a handshake that failed, a name in a client hello that is none of ours.
void log_line(gpr_log_func_args* a) { base::log::debug("cluster.grpc", a->message); }
} // namespace

void prepare_grpc() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(log_line);
    absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore); // Debian's looks for cycles at each of gRPC's locks
  });
}

} // namespace cluster::rpc
