// The administration socket: gRPC on a unix socket that only its owner can open. Handlers translate.
#pragma once
#include "base/result.hpp"
#include <functional>
#include <memory>
#include <string>

namespace server {

class changes;
class runner;

class admin_service {
public:
  /// `stop`: called once when somebody asks the server to end.
  admin_service(runner& r, changes& c, std::function<void()> stop);
  ~admin_service();
  /// Errors: a text for the operator.
  [[nodiscard]] base::result<void, std::string> listen(const std::string& socket_file);
  /// Answers what has begun, then removes the socket.
  void close();

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

[[nodiscard]] inline std::string socket_in(const std::string& run_folder) { return run_folder + "/admin.sock"; }

} // namespace server
