// The channel.
#include "server/cli/client.hpp"
#include <cerrno>
#include <cstring>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace cli {

reach probe(const std::string& socket_file) {
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (socket_file.size() >= sizeof to.sun_path)
    return reach::nobody;
  std::memcpy(to.sun_path, socket_file.data(), socket_file.size());
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return reach::nobody;
  int error = connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 ? 0 : errno;
  close(fd);
  if (error == EACCES || error == EPERM)
    return reach::forbidden;
  return error == 0 || error == EAGAIN ? reach::up : reach::nobody; // EAGAIN: its queue is full
}

client::client(const std::string& socket_file) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = covey::admin::admin::NewStub(grpc::CreateCustomChannel("unix:" + socket_file, grpc::InsecureChannelCredentials(), arguments));
}

} // namespace cli
