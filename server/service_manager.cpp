// The protocol is one datagram; the library for it would be all of libsystemd.
#include "server/service_manager.hpp"
#include "base/bytes.hpp"
#include <cstdlib>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace server {

void tell_service_manager(const std::string& state) {
  auto* name = std::getenv("NOTIFY_SOCKET");
  if (!name || (name[0] != '/' && name[0] != '@'))
    return;
  sockaddr_un to{};
  auto size = std::strlen(name);
  if (size >= sizeof to.sun_path)
    return;
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, name, size);
  if (name[0] == '@') // an abstract socket
    to.sun_path[0] = '\0';
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return;
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  [[maybe_unused]] auto sent = sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to), length);
  close(fd); // a manager that does not listen is its own problem
}

std::chrono::milliseconds watchdog_interval() {
  auto* text = std::getenv("WATCHDOG_USEC");
  auto* pid = std::getenv("WATCHDOG_PID");
  if (!text || (pid && base::to_number<pid_t>(pid) != getpid()))
    return {};
  return std::chrono::milliseconds{base::to_number<std::int64_t>(text).value_or(0) / 2'000};
}

} // namespace server
