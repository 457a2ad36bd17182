// The accept loop.
#include "net/listener.hpp"
#include "base/log.hpp"
#include <boost/asio/ip/v6_only.hpp>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <utility>

namespace net {

namespace {
bool is_shortage(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }
} // namespace

listener::listener(loop& l, on_accept f) : loop_(l), acceptor_(l.io().get_executor()), accept_(std::make_shared<on_accept>(std::move(f))) {}

listener::~listener() { close(); }

base::result<std::unique_ptr<listener>, listen_problem>
listener::open(loop& l, const std::string& address, std::uint16_t port, on_accept f) {
  error_code ec;
  auto ip = asio::ip::make_address(address, ec);
  if (ec)
    return base::fail(listen_problem{address, port, EINVAL, "this is no IP address"});
  std::unique_ptr<listener> made{new listener{l, std::move(f)}};
  auto& a = made->acceptor_;
  asio::ip::tcp::endpoint at{ip, port};
  made->is_v6_ = ip.is_v6();
  a.open(at.protocol(), ec);
  if (!ec)
    a.set_option(asio::socket_base::reuse_address{true}, ec);
  if (!ec && ip.is_v6())
    a.set_option(asio::ip::v6_only{true}, ec);
  if (!ec)
    a.bind(at, ec); // of the other family the same port stays free
  if (!ec)
    a.listen(4'096, ec);
  if (ec)
    return base::fail(listen_problem{address, port, ec.value(), std::strerror(ec.value())});
  a.native_non_blocking(true, ec);
  made->port_ = a.local_endpoint(ec).port();
  made->wait();
  return made;
}

void listener::close() {
  pause_.cancel();
  accept_ = nullptr;
  error_code ignored;
  acceptor_.close(ignored);
}

void listener::wait() {
  acceptor_.async_wait(asio::socket_base::wait_read, [this, alive = std::weak_ptr{accept_}](const error_code& ec) {
    if (!ec && !alive.expired())
      drain();
  });
}

void listener::drain() {
  auto accept = accept_; // the call may end this object
  for (int n = 0; n < per_turn; ++n) {
    int fd = ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      (*accept)(fd, is_v6_);
      if (accept.use_count() == 1)
        return;
      continue;
    }
    if (errno == EAGAIN || errno == EBADF) {
      was_short_ = false;
      break;
    }
    if (!is_shortage(errno))
      continue; // what befell that one connection (accept(2))
    if (!std::exchange(was_short_, true))
      base::log::error("listener.no_descriptors", "connections wait: this process has no descriptor left",
                       {{"error", std::strerror(errno)}});
    pause_ = loop_.after(std::chrono::milliseconds{100}, [this] { drain(); });
    return;
  }
  wait();
}

} // namespace net
