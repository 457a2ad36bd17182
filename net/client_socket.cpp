// Reads, writes and the handshake of a client's socket.
#include "net/client_socket.hpp"
#include "net/deflate.hpp"
#include <algorithm>
#include <array>
#include <cerrno>
#include <netinet/tcp.h>
#include <new>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

namespace net {

namespace {
/// Where an SSL keeps the socket that drives it; index 0 is the identity source's.
int owner_index() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

constexpr std::size_t largest_record = 16'384;

error_code last_error() {
  return errno == EAGAIN || errno == EINTR ? error_code{asio::error::would_block}
                                           : error_code{errno, boost::system::system_category()};
}

/// RFC 5929 section 4.1: the hash of the certificate's own signature, but at least SHA-256; undefined
/// where the signature uses none (Ed25519).
std::string end_point_hash_of(X509& x) {
  int digest = NID_undef;
  if (X509_get_signature_info(&x, &digest, nullptr, nullptr, nullptr) != 1 || digest == NID_undef)
    return {};
  auto* md = digest == NID_md5 || digest == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(digest);
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash;
  unsigned n = 0;
  if (!md || X509_digest(&x, md, hash.data(), &n) != 1)
    return {};
  return {reinterpret_cast<const char*>(hash.data()), n};
}
} // namespace

struct client_socket::compression {
  explicit compression(std::uint32_t ratio) : in(ratio) {}
  inflater in;
  deflater out;
  std::string unread;      // compressed, read, not inflated for want of room
  std::string unsent;      // compressed, not taken by the socket as yet, from `sent` on
  std::size_t sent = 0;
  std::uint16_t held = 0;  // bytes that `unsent` stands for
  bool has_failed = false;
};

client_socket::client_socket(tcp_socket s) : socket_(std::move(s)) {
  error_code ignored; // a socket that the peer has reset already says so at the first read
  socket_.set_option(asio::ip::tcp::no_delay{true}, ignored);
  socket_.native_non_blocking(true, ignored);
}

client_socket::~client_socket() { close(); }

void client_socket::close() {
  if (ssl_) {
    SSL_set_ex_data(ssl_, owner_index(), nullptr);
    SSL_free(std::exchange(ssl_, nullptr));
  }
  must_repeat_ = 0;
  is_compressed_ = false;
  zip_ = nullptr;
  error_code ignored;
  socket_.close(ignored);
}

void client_socket::abort() {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger{true, 0}, ignored);
  close();
}

std::size_t client_socket::read_some(char* to, std::size_t size, error_code& ec) {
  return is_compressed_ ? inflate_some(to, size, ec) : read_raw(to, size, ec);
}

std::size_t client_socket::write_some(const char* from, std::size_t size, error_code& ec) {
  return is_compressed_ ? deflate_some(from, size, ec) : write_raw(from, size, ec);
}

std::size_t client_socket::read_raw(char* to, std::size_t size, error_code& ec) {
  if (ssl_) {
    std::size_t n = 0;
    auto next = tls::attempt(ssl_, failed_, ec, [&] { return SSL_read_ex(ssl_, to, size, &n); });
    read_needs_write_ = next == tls::need::write;
    is_dry_ = next != tls::need::nothing;
    if (next != tls::need::nothing)
      ec = asio::error::would_block;
    return ec ? 0 : n;
  }
  auto n = ::recv(socket_.native_handle(), to, size, MSG_DONTWAIT);
  ec = n > 0 ? error_code{} : n == 0 ? error_code{asio::error::eof} : last_error();
  return n > 0 ? static_cast<std::size_t>(n) : 0;
}

bool client_socket::has_buffered() const {
  if (is_compressed_ && !zip_->has_failed && (zip_->in.has_more() || !zip_->unread.empty()))
    return true;
  return ssl_ && !failed_ && !is_dry_ && SSL_has_pending(ssl_);
}

std::size_t client_socket::write_raw(const char* from, std::size_t size, error_code& ec) {
  ec = {};
  if (!ssl_) {
    auto n = ::send(socket_.native_handle(), from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
      ec = last_error();
    else if (static_cast<std::size_t>(n) < size)
      ec = asio::error::would_block;
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  std::size_t taken = 0;
  must_repeat_ = 0;
  while (taken < size) { // each call takes one record
    std::size_t n = 0;
    auto next = tls::attempt(ssl_, failed_, ec, [&] { return SSL_write_ex(ssl_, from + taken, size - taken, &n); });
    write_needs_read_ = next == tls::need::read;
    if (next != tls::need::nothing) {
      must_repeat_ = static_cast<std::uint16_t>(std::min(size - taken, largest_record));
      ec = asio::error::would_block;
    }
    if (ec)
      break;
    taken += n;
  }
  return taken;
}

bool client_socket::begin_tls(const tls_identity_source& ids) {
  auto context = ids.find({});
  if (!context)
    return false;
  auto s = tls::make(*context, socket_.native_handle(), true, &ids); // holds the context itself
  if (SSL_set_ex_data(s.get(), owner_index(), this) != 1)
    throw std::bad_alloc{};
  ssl_ = s.release();
  return true;
}

tls::need client_socket::step_handshake(error_code& ec) {
  return tls::attempt(ssl_, failed_, ec, [this] { return SSL_do_handshake(ssl_); });
}

tls::handle client_socket::share(SSL* s) {
  SSL_up_ref(s);
  return tls::handle{s};
}

client_socket* client_socket::owner_of(SSL* s) {
  return static_cast<client_socket*>(SSL_get_ex_data(s, owner_index()));
}

tls_facts client_socket::facts() const {
  tls_facts f;
  if (!ssl_)
    return f;
  f.protocol = SSL_get_version(ssl_);
  f.cipher = SSL_get_cipher_name(ssl_);
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_, &protocol, &size);
  if (protocol)
    f.alpn.assign(reinterpret_cast<const char*>(protocol), size);
  if (auto* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name))
    f.server_name = name;
  // RFC 9266 section 4.2: with TLS 1.2 only where the extended master secret was negotiated
  if (SSL_version(ssl_) >= TLS1_3_VERSION || SSL_get_extms_support(const_cast<SSL*>(ssl_)) == 1) {
    static constexpr std::string_view label = "EXPORTER-Channel-Binding";
    f.exporter.resize(32);
    if (SSL_export_keying_material(ssl_, reinterpret_cast<unsigned char*>(f.exporter.data()), 32, label.data(),
                                   label.size(), nullptr, 0, 0) != 1)
      f.exporter.clear();
  }
  if (auto* x = SSL_get_certificate(ssl_))
    f.end_point_hash = end_point_hash_of(*x);
  if (auto* x = SSL_get0_peer_certificate(ssl_); x && knows_client(*ssl_)) {
    if (auto result = SSL_get_verify_result(ssl_); result == X509_V_OK)
      f.client_addresses = xmpp_addresses_of(*x);
    else
      f.client_problem = X509_verify_cert_error_string(result);
  }
  return f;
}

std::optional<endpoint> client_socket::peer_endpoint() const {
  if (behind_proxy_)
    return *behind_proxy_;
  error_code ec;
  auto e = socket_.remote_endpoint(ec);
  if (ec)
    return std::nullopt;
  if (e.address().is_v6())
    return endpoint{e.address().to_v6().to_bytes(), e.port()};
  auto four = e.address().to_v4().to_bytes();
  return v4_endpoint({reinterpret_cast<const char*>(four.data()), four.size()}, e.port());
}

std::string client_socket::peer() const {
  auto e = peer_endpoint();
  return e ? to_text(*e) : "unknown";
}

std::string client_socket::peer_address() const {
  auto e = peer_endpoint();
  return e ? limited_text(*e) : "unknown";
}

// --- compression: between the bytes above and the socket or TLS below

bool client_socket::prepare_compression(std::uint32_t ratio) {
  try {
    zip_ = std::make_unique<compression>(ratio);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void client_socket::start_compression() { is_compressed_ = true; }

std::size_t client_socket::inflate_some(char* to, std::size_t size, error_code& ec) {
  auto& z = *zip_;
  if (z.has_failed) // what comes now is only taken off the socket
    return read_raw(to, size, ec);
  ec = {};
  std::array<char, 4'096> piece;
  std::string_view in = z.unread;
  if (in.empty() && !z.in.has_more()) {
    auto n = read_raw(piece.data(), piece.size(), ec);
    if (ec)
      return 0;
    in = {piece.data(), n};
  }
  auto made = z.in.run(in, to, size, ec);
  z.has_failed = static_cast<bool>(ec);
  z.unread = std::string{in}; // mostly empty: then it owns nothing
  if (made == 0 && !ec)
    ec = asio::error::would_block;
  return made;
}

std::size_t client_socket::deflate_some(const char* from, std::size_t size, error_code& ec) {
  auto& z = *zip_;
  ec = {};
  std::size_t taken = 0;
  while (taken < size) {
    if (z.unsent.empty()) {
      z.held = static_cast<std::uint16_t>(std::min(size - taken, largest_record));
      z.out.run({from + taken, z.held}, z.unsent);
    }
    while (z.sent < z.unsent.size() && !ec)
      z.sent += write_raw(z.unsent.data() + z.sent, z.unsent.size() - z.sent, ec);
    if (z.sent < z.unsent.size())
      break;
    ec = {};
    z.unsent = {};
    z.sent = 0;
    taken += std::exchange(z.held, 0);
  }
  return taken;
}

std::size_t client_socket::must_repeat() const { return is_compressed_ ? zip_->held : must_repeat_; }

void client_socket::watch_peer(std::chrono::seconds idle, std::chrono::seconds timeout) {
  int fd = socket_.native_handle(), on = 1, wait = static_cast<int>(idle.count());
  constexpr int probes = 3;
  int between = std::max(1, static_cast<int>(timeout.count()) / probes);
  unsigned unanswered = static_cast<unsigned>(timeout.count()) * 1'000;
  if (wait > 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &wait, sizeof wait);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered, sizeof unanswered);
}

void client_socket::shutdown() {
  error_code ignored;
  if (ssl_)
    tls::say_goodbye(ssl_, failed_, ignored);
  socket_.shutdown(tcp_socket::shutdown_send, ignored);
}

tcp_socket adopt(loop& l, int fd, bool is_v6) {
  tcp_socket s{l.io().get_executor()};
  error_code ec;
  s.assign(is_v6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), fd, ec);
  if (ec)
    ::close(fd);
  return s;
}

} // namespace net
