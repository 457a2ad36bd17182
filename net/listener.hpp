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

/// One thread: the loop's. Backlog 4,096; drains the queue at each wake-up, at most `per_turn`.
class listener {
public:
  using on_accept = std::function<void(int fd, bool is_v6)>;
  /// `address`: "0.0.0.0", "::" (IPv6 only, so that both can be listened on), "127.0.0.1", …; port 0:
  /// any free one. Errors: the address is no address, or errno of bind or listen.
  static base::result<std::unique_ptr<listener>, listen_problem>
  open(loop& l, const std::string& address, std::uint16_t port, on_accept f);
  ~listener();
  [[nodiscard]] std::uint16_t port() const { return port_; }
  void close();

private:
  static constexpr int per_turn = 256;
  listener(loop& l, on_accept f);
  void wait();
  void drain();
  loop& loop_;
  asio::basic_socket_acceptor<asio::ip::tcp, asio::io_context::executor_type> acceptor_;
  on_accept accept_;
  timer pause_; // without descriptors left: try again a little later
  std::uint16_t port_ = 0;
  bool is_v6_ = false, was_short_ = false;
};

/// An accepted descriptor as a socket of that loop, which may be another thread's.
[[nodiscard]] tcp_socket adopt(loop& l, int fd, bool is_v6);

} // namespace net
