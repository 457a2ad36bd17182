// Accepts connections on one address and port, and hands the descriptors on.
#pragma once
#include "base/result.hpp"
#include "net/client_socket.hpp"
#include <functional>
#include <memory>
#include <string>

namespace net {

struct listen_problem {
  std::string address;
  std::uint16_t port = 0;
  int error = 0;    // errno
  std::string text; // for people
};

/// One thread: the loop's. Backlog 4,096 (the kernel's somaxconn may allow fewer); drains the queue at
/// each wake-up, at most `per_turn`. Without descriptors left it pauses for 100 ms and says so once.
class listener {
public:
  /// Owns `fd`, which is non-blocking and goes into adopt(), on this loop or another. It may close or
  /// destroy the listener.
  using on_accept = std::function<void(int fd, bool is_v6)>;
  /// `address`: "0.0.0.0", "::" (IPv6 only, so that both can be listened on), "127.0.0.1", …; port 0:
  /// any free one. Errors: the address is no address, or errno of socket, bind or listen.
  static base::result<std::unique_ptr<listener>, listen_problem>
  open(loop& l, const std::string& address, std::uint16_t port, on_accept f);
  ~listener();
  listener(const listener&) = delete;
  [[nodiscard]] std::uint16_t port() const { return port_; }
  void close();

private:
  static constexpr int per_turn = 256;
  listener(loop& l, on_accept f);
  void wait();
  void drain();
  loop& loop_;
  asio::basic_socket_acceptor<asio::ip::tcp, asio::io_context::executor_type> acceptor_;
  std::shared_ptr<on_accept> accept_; // null once closed; also tells late handlers that this is gone
  timer pause_;
  std::uint16_t port_ = 0;
  bool is_v6_ = false, was_short_ = false;
};

} // namespace net
