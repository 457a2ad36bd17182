// What one client connection owns: its socket, plain, under TLS or compressed. OpenSSL reads and writes the
// descriptor itself, Asio only waits for readiness, and an idle connection has no buffer.
#pragma once
#include "net/endpoint.hpp"
#include "net/loop.hpp"
#include "net/tls_call.hpp"
#include "net/tls_identity.hpp"
#include <chrono>
#include <string>

namespace net {

/// What logs and channel binding want to know of a finished handshake.
struct tls_facts {
  std::string protocol, cipher, alpn, server_name;
  std::string exporter;       // tls-exporter (RFC 9266); empty where it would not be safe
  std::string end_point_hash; // tls-server-end-point (RFC 5929 section 4.1); empty where it is undefined
  std::vector<std::string> client_addresses; // XMPP addresses in the client's certificate (RFC 6120 section 13.7.1.4)
  std::string client_problem;                // why its certificate was not taken; then without addresses
};

/// One thread. Handlers are never called from inside the initiating function. A handler of a wait may
/// still be called after close(), without an error, if the socket became ready before: it must check
/// that its owner lives.
class client_socket {
public:
  /// Sets TCP_NODELAY (Nagle and delayed acknowledgements together stall for 40 ms) and non-blocking.
  explicit client_socket(tcp_socket s);
  ~client_socket();
  client_socket(client_socket&&) = delete;

  /// One wait of each kind at a time. TLS may have read ahead (what comes with the client's last
  /// message of the handshake, too), or need the opposite direction to go on: both is seen to.
  template <class Handler>
  void wait_readable(Handler h) {
    if (has_buffered()) {
      asio::post(socket_.get_executor(), [h = std::move(h)]() mutable { h(error_code{}); });
      return;
    }
    socket_.async_wait(read_needs_write_ ? tcp_socket::wait_write : tcp_socket::wait_read, std::move(h));
  }
  template <class Handler>
  void wait_writable(Handler h) {
    socket_.async_wait(write_needs_read_ ? tcp_socket::wait_read : tcp_socket::wait_write, std::move(h));
  }

  /// One recv, or at most one TLS record; of compressed bytes at most `size` once inflated. Errors:
  /// would_block, eof, those of the socket, of TLS and of deflate_errc.
  std::size_t read_some(char* to, std::size_t size, error_code& ec);
  /// More can be read without waiting (as far as is known: the rest may be part of a record).
  [[nodiscard]] bool has_buffered() const;
  /// Returns how many bytes were taken; `ec` is would_block where that is not all of them. What was
  /// refused must be offered again first, at least must_repeat() bytes of it.
  std::size_t write_some(const char* from, std::size_t size, error_code& ec);
  /// So many of the bytes refused last are already encrypted or compressed: part of them may be with
  /// the peer, so they can no longer be taken back. 0 without either.
  [[nodiscard]] std::size_t must_repeat() const;

  /// The server's side of a handshake on this socket, fresh or after STARTTLS. A client that offers
  /// protocols must offer XMPP (RFC 7301 section 3.2, XEP-0368). `ids` must outlive the handshake.
  /// `h(error_code)` once, unless close() comes first. No deadline of its own.
  template <class Handler>
  void start_tls(const tls_identity_source& ids, Handler h) {
    if (!begin_tls(ids)) {
      asio::post(socket_.get_executor(), [h = std::move(h)]() mutable { h(asio::error::no_protocol_option); });
      return;
    }
    handshake(std::move(h));
  }

  /// Memory for both directions (deflate.hpp); false: there is none.
  [[nodiscard]] bool prepare_compression(std::uint32_t ratio);
  /// From here on all bytes are zlib's (XEP-0138): what waits to be written must have been written.
  void start_compression();

  /// The kernel looks after the peer: asks after `idle` (zero: never) of silence, and fails reads and
  /// writes with timed_out when it acknowledged nothing for `timeout`.
  void watch_peer(std::chrono::seconds idle, std::chrono::seconds timeout);

  /// The client's own address, where a proxy named it.
  void set_peer(const endpoint& e) { behind_proxy_ = std::make_unique<endpoint>(e); }
  [[nodiscard]] bool is_tls() const { return ssl_ != nullptr; }
  [[nodiscard]] tls_facts facts() const;
  [[nodiscard]] std::optional<endpoint> peer_endpoint() const;
  [[nodiscard]] std::string peer() const;         // "127.0.0.1:40000" or "[::1]:40000"
  [[nodiscard]] std::string peer_address() const; // without the port; IPv6: its /64
  /// Says goodbye as far as possible: close_notify, FIN. Reading goes on.
  void shutdown();
  void close();
  /// Close with a reset: nothing waits in the kernel for a peer that does not read.
  void abort();
  [[nodiscard]] int native_handle() { return socket_.native_handle(); }

private:
  bool begin_tls(const tls_identity_source& ids);
  tls::need step_handshake(error_code& ec);
  static tls::handle share(SSL* s);
  static client_socket* owner_of(SSL* s); // null after close()
  std::size_t read_raw(char* to, std::size_t size, error_code& ec);
  std::size_t write_raw(const char* from, std::size_t size, error_code& ec);
  std::size_t inflate_some(char* to, std::size_t size, error_code& ec);
  std::size_t deflate_some(const char* from, std::size_t size, error_code& ec);

  template <class Handler>
  void handshake(Handler h) {
    error_code ec;
    auto next = step_handshake(ec);
    if (next == tls::need::nothing) {
      asio::post(socket_.get_executor(), [h = std::move(h), ec]() mutable { h(ec); });
      return;
    }
    socket_.async_wait(next == tls::need::read ? tcp_socket::wait_read : tcp_socket::wait_write,
                       [s = share(ssl_), h = std::move(h)](const error_code& failed) mutable {
                         auto* self = owner_of(s.get());
                         if (!self)
                           return;
                         s = nullptr;
                         if (failed)
                           h(failed);
                         else
                           self->handshake(std::move(h));
                       });
  }

  struct compression;
  tcp_socket socket_;
  SSL* ssl_ = nullptr;
  std::unique_ptr<compression> zip_;
  std::unique_ptr<endpoint> behind_proxy_;
  std::uint16_t must_repeat_ = 0;
  bool failed_ = false; // after a fatal error OpenSSL forbids further calls, SSL_shutdown included
  bool read_needs_write_ = false, write_needs_read_ = false;
  bool is_dry_ = false; // OpenSSL's buffer holds no whole record
  bool is_compressed_ = false;
};

/// An accepted descriptor as a socket of that loop, which may be another thread's than the acceptor's.
/// Call on the loop's thread. Owns the descriptor, also where it is refused (then the socket is closed).
[[nodiscard]] tcp_socket adopt(loop& l, int fd, bool is_v6);

} // namespace net
