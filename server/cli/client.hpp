// Talks to a running server over its administration socket.
#pragma once
#include "proto/admin.grpc.pb.h"
#include <memory>
#include <string>

namespace cli {

enum exit_code : int { ok = 0, failed = 1, usage = 2, unreachable = 3, not_found = 4, conflict = 5 };

/// Whether somebody listens at a unix socket, asked without gRPC: at once, whatever the answer.
enum class reach { up, nobody, forbidden };
[[nodiscard]] reach probe(const std::string& socket_file);

class client {
public:
  explicit client(const std::string& socket_file);
  /// `method`: of the stub's synchronous ones. Waits at most 30 s: an operator waits, too.
  template <class In, class Out>
  grpc::Status call(grpc::Status (covey::admin::admin::Stub::*method)(grpc::ClientContext*, const In&, Out*), const In& in, Out* out) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds{30});
    return (stub_.get()->*method)(&context, in, out);
  }

  /// For streams.
  [[nodiscard]] covey::admin::admin::Stub& calls() { return *stub_; }

private:
  std::unique_ptr<covey::admin::admin::Stub> stub_;
};

} // namespace cli
