// The administration socket: whom it lets in, and the threads that serve them. While nobody is there, none of them waits in
// gRPC: all who do share one epoll set, and would take the links' events (cluster/rpc/loop.hpp) only to pass them on.
#pragma once
#include "base/result.hpp"
#include <condition_variable>
#include <grpcpp/grpcpp.h>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace server {

class admin_socket {
public:
  admin_socket() = default;
  admin_socket(const admin_socket&) = delete;
  ~admin_socket() { close(); }
  /// Errors: a text for the operator. Whoever `b` serves begins with its calls once this has returned.
  [[nodiscard]] base::result<void, std::string> listen(const std::string& file, grpc::ServerBuilder& b);
  /// Cancels what has begun, if that takes longer than two seconds, and waits until it is over; then removes the file.
  void close();
  [[nodiscard]] grpc::ServerCompletionQueue& queue() { return *queue_; }
  /// A call is under way: its operations (cluster/rpc/operation.hpp) are waited for, even if whoever asked has gone.
  void begin_call();
  void end_call();

private:
  void accept();
  void let_in();
  void forget(int fd);
  void serve();

  std::string file_;
  int listener_ = -1, end_ = -1; // the second: an eventfd
  std::vector<int> watched_;     // a second descriptor of each connection: to see its end
  std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_; // of what follows
  std::condition_variable wake_, over_; // the second: no call is left
  std::size_t connections_ = 0, calls_ = 0;
  bool is_closing_ = false;
  std::thread acceptor_, server_thread_;
};

} // namespace server
