// Joining by token: the side that hands out certificates. For files that include gRPC.
#pragma once
#include "base/token_bucket.hpp"
#include "cluster/rpc/door.hpp"
#include "cluster/rpc/grpc_streams.hpp"
#include "cluster/rpc/node_service.hpp"
#include <atomic>
#include <set>

namespace cluster::rpc {

using join_call = served_call<covey::link::join_reply, covey::link::nothing>;

/// Nobody joins here.
void refuse_join(std::unique_ptr<join_call> c);

/// Whatever is wrong with a token (unknown, used, over, too many tries), the asker gets the same answer after the same
/// time. Two tries a second, ten at once, of everybody together.
class join_desk {
public:
  /// `run`: on a thread that may block; false: not now. `know`: the peer is no stranger, or was refused. `wake`: tick() is needed.
  join_desk(join_handler handler, std::function<bool(std::function<void()>)> run, std::function<void(const std::string& peer, bool is_known)> know,
            std::function<void()> wake);
  void start(std::unique_ptr<join_call> c);
  /// Answers whose time has come. True: there are more. On one thread.
  bool tick(base::time_point now);
  /// Answers all. start() then refuses at once.
  void close();

private:
  class asker;
  void answer(asker& c, const std::string& peer, const base::result<join_grant, std::string>& r, const std::string& node);
  const join_handler handler_;
  const std::function<bool(std::function<void()>)> run_;
  const std::function<void(const std::string&, bool)> know_;
  const std::function<void()> wake_;
  std::mutex mutex_;
  std::set<std::shared_ptr<asker>> calls_; // that are not answered
  base::token_bucket tries_;
  bool is_closed_ = false;
  log_limiter log_;
};

} // namespace cluster::rpc
