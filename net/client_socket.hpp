// What one client connection owns: its socket, plain or under TLS. OpenSSL reads and writes the
// descriptor itself, Asio only waits for readiness, and an idle connection has no buffer.
#pragma once
#include "net/loop.hpp"
#include "net/tls_identity.hpp"
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

typedef struct ssl_st SSL;

namespace net {
using error_code = boost::system::error_code;
/// The concrete executor: smaller and faster than the type-erased default.
using tcp_socket = asio::basic_stream_socket<asio::ip::tcp, asio::io_context::executor_type>;

/// What logs and channel binding want to know of a finished handshake.
struct tls_facts {
  std::string protocol, cipher, alpn, server_name;
  std::string exporter;       // tls-exporter (RFC 9266); empty where it would not be safe
  std::string end_point_hash; // tls-server-end-point (RFC 5929 section 4.1)
};

/// One thread. Handlers are never called from inside the initiating function.
class client_socket {
public:
  /// Sets TCP_NODELAY (Nagle and delayed acknowledgements together stall for 40 ms) and non-blocking.
  explicit client_socket(tcp_socket s);
  ~client_socket();
  client_socket(client_socket&&) = delete;

  /// One wait of each kind at a time.
  template <class Handler>
  void wait_readable(Handler h) { socket_.async_wait(tcp_socket::wait_read, std::move(h)); }
  template <class Handler>
  void wait_writable(Handler h) { socket_.async_wait(tcp_socket::wait_write, std::move(h)); }

  /// One recv, or at most one TLS record. Errors: would_block, eof, those of the socket and of TLS.
  std::size_t read_some(char* to, std::size_t size, error_code& ec);
  /// More can be read without waiting: read again before the next wait.
  [[nodiscard]] bool has_buffered() const;
  /// May take less than all; 0 with would_block. What was refused must be offered again first.
  std::size_t write_some(const char* from, std::size_t size, error_code& ec);

  /// The server's side of a handshake on this socket, fresh or after STARTTLS. A client that offers
  /// protocols must offer XMPP (ALPN, XEP-0368). `h(error_code)` once.
  template <class Handler>
  void start_tls(const tls_identity_source& ids, Handler h) {
    if (!begin_tls(ids)) {
      asio::post(socket_.get_executor(), [h = std::move(h)]() mutable { h(asio::error::no_protocol_option); });
      return;
    }
    handshake(std::move(h));
  }

  [[nodiscard]] bool is_tls() const { return ssl_ != nullptr; }
  [[nodiscard]] tls_facts facts() const;
  [[nodiscard]] std::string peer() const;         // "127.0.0.1:40000" or "[::1]:40000"
  [[nodiscard]] std::string peer_address() const; // without the port; IPv6: its /64
  /// Says goodbye as far as possible: close_notify, FIN. Reading goes on.
  void shutdown();
  void close();
  [[nodiscard]] int native_handle() { return socket_.native_handle(); }

private:
  enum class wanted { nothing, read, write, failed };
  bool begin_tls(const tls_identity_source& ids);
  wanted step_handshake(error_code& ec);
  template <class Call>
  std::size_t attempt(Call call, error_code& ec);
  error_code error_of(int result);

  template <class Handler>
  void handshake(Handler h) {
    error_code ec;
    auto next = step_handshake(ec);
    if (next == wanted::read || next == wanted::write) {
      socket_.async_wait(next == wanted::read ? tcp_socket::wait_read : tcp_socket::wait_write,
                         [this, h = std::move(h)](const error_code& failed) mutable {
                           if (failed) // closed: this object may be gone
                             return;
                           handshake(std::move(h));
                         });
      return;
    }
    asio::post(socket_.get_executor(), [h = std::move(h), ec]() mutable { h(ec); });
  }

  tcp_socket socket_;
  SSL* ssl_ = nullptr;
  bool failed_ = false; // after a fatal error OpenSSL forbids further calls, SSL_shutdown included
};

} // namespace net
