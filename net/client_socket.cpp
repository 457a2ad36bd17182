// Reads, writes and the handshake of a client's socket.
#include "net/client_socket.hpp"
#include <algorithm>
#include <array>
#include <cerrno>
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
  error_code ignored;
  socket_.close(ignored);
}

void client_socket::abort() {
  error_code ignored;
  socket_.set_option(asio::socket_base::linger{true, 0}, ignored);
  close();
}

std::size_t client_socket::read_some(char* to, std::size_t size, error_code& ec) {
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

bool client_socket::has_buffered() const { return ssl_ && !failed_ && !is_dry_ && SSL_has_pending(ssl_); }

std::size_t client_socket::write_some(const char* from, std::size_t size, error_code& ec) {
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
  if (auto* x = SSL_get0_peer_certificate(ssl_)) {
    if (auto result = SSL_get_verify_result(ssl_); result == X509_V_OK)
      f.client_addresses = xmpp_addresses_of(*x);
    else
      f.client_problem = X509_verify_cert_error_string(result);
  }
  return f;
}

std::string client_socket::peer() const {
  error_code ec;
  auto e = socket_.remote_endpoint(ec);
  if (ec)
    return "unknown";
  auto a = e.address();
  if (a.is_v6() && a.to_v6().is_v4_mapped())
    a = asio::ip::make_address_v4(asio::ip::v4_mapped, a.to_v6());
  auto text = a.to_string();
  return (a.is_v6() ? '[' + text + ']' : text) + ':' + std::to_string(e.port());
}

std::string client_socket::peer_address() const {
  error_code ec;
  auto a = socket_.remote_endpoint(ec).address();
  if (ec)
    return "unknown";
  if (a.is_v6() && a.to_v6().is_v4_mapped())
    a = asio::ip::make_address_v4(asio::ip::v4_mapped, a.to_v6());
  if (a.is_v4())
    return a.to_string();
  auto bytes = a.to_v6().to_bytes(); // whoever has one address of a /64 has them all
  std::fill(bytes.begin() + 8, bytes.end(), 0);
  return asio::ip::address_v6{bytes}.to_string() + "/64";
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
