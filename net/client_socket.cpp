// Reads, writes and the handshake of a client's socket.
#include "net/client_socket.hpp"
#include <boost/asio/ssl/error.hpp>
#include <cerrno>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

namespace net {

client_socket::client_socket(tcp_socket s) : socket_(std::move(s)) {
  error_code ignored; // a socket that the peer has reset already says so at the first read
  socket_.set_option(asio::ip::tcp::no_delay{true}, ignored);
  socket_.native_non_blocking(true, ignored);
}

client_socket::~client_socket() { close(); }

void client_socket::close() {
  if (ssl_)
    SSL_free(std::exchange(ssl_, nullptr));
  error_code ignored;
  socket_.close(ignored);
}

error_code client_socket::error_of(int result) {
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return asio::error::would_block;
    case SSL_ERROR_ZERO_RETURN:
      return asio::error::eof;
    case SSL_ERROR_SYSCALL:
      failed_ = true;
      return errno ? error_code{errno, boost::system::system_category()} : asio::error::broken_pipe;
    default:
      failed_ = true;
      if (auto e = ERR_get_error(); ERR_GET_REASON(e) != SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return {static_cast<int>(e), asio::error::get_ssl_category()};
      return asio::ssl::error::stream_truncated;
  }
}

template <class Call>
std::size_t client_socket::attempt(Call call, error_code& ec) {
  if (failed_) {
    ec = asio::error::broken_pipe;
    return 0;
  }
  ERR_clear_error(); // the queue is per thread: another stream's error must not be taken as ours
  errno = 0;
  std::size_t n = 0;
  int r = call(n);
  ec = r > 0 ? error_code{} : error_of(r);
  return r > 0 ? n : 0;
}

std::size_t client_socket::read_some(char* to, std::size_t size, error_code& ec) {
  if (ssl_)
    return attempt([&](std::size_t& n) { return SSL_read_ex(ssl_, to, size, &n); }, ec);
  auto n = ::recv(socket_.native_handle(), to, size, MSG_DONTWAIT);
  if (n > 0) {
    ec = {};
    return static_cast<std::size_t>(n);
  }
  if (n == 0)
    ec = asio::error::eof;
  else if (errno == EAGAIN || errno == EINTR)
    ec = asio::error::would_block;
  else
    ec = {errno, boost::system::system_category()};
  return 0;
}

bool client_socket::has_buffered() const { return ssl_ && !failed_ && SSL_has_pending(ssl_); }

std::size_t client_socket::write_some(const char* from, std::size_t size, error_code& ec) {
  if (ssl_)
    return attempt([&](std::size_t& n) { return SSL_write_ex(ssl_, from, size, &n); }, ec);
  auto n = ::send(socket_.native_handle(), from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) {
    ec = {};
    return static_cast<std::size_t>(n);
  }
  ec = errno == EAGAIN || errno == EINTR ? error_code{asio::error::would_block}
                                         : error_code{errno, boost::system::system_category()};
  return 0;
}

bool client_socket::begin_tls(const tls_identity_source& ids) {
  auto context = ids.find({});
  if (!context)
    return false;
  ssl_ = SSL_new(context.get()); // holds the context itself
  if (!ssl_)
    throw std::bad_alloc{};
  SSL_set_app_data(ssl_, const_cast<tls_identity_source*>(&ids)); // for the server name
  SSL_set_fd(ssl_, socket_.native_handle());
  SSL_set_accept_state(ssl_);
  return true;
}

client_socket::wanted client_socket::step_handshake(error_code& ec) {
  ERR_clear_error();
  errno = 0;
  int r = SSL_do_handshake(ssl_);
  if (r > 0) {
    ec = {};
    return wanted::nothing;
  }
  switch (SSL_get_error(ssl_, r)) {
    case SSL_ERROR_WANT_READ: return wanted::read;
    case SSL_ERROR_WANT_WRITE: return wanted::write;
    default: break;
  }
  ec = error_of(r);
  failed_ = true;
  return wanted::failed;
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
  if (auto* x = SSL_get_certificate(ssl_)) { // RFC 5929 section 4.1: the signature's hash, at least SHA-256
    int digest = NID_undef;
    OBJ_find_sigid_algs(X509_get_signature_nid(x), &digest, nullptr);
    auto* md = digest == NID_sha384 ? EVP_sha384() : digest == NID_sha512 ? EVP_sha512() : EVP_sha256();
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (X509_digest(x, md, hash, &n) == 1)
      f.end_point_hash.assign(reinterpret_cast<const char*>(hash), n);
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
  if (ssl_ && !failed_ && !SSL_in_init(ssl_)) {
    ERR_clear_error();
    SSL_shutdown(ssl_); // our close_notify; the peer's is not waited for
  }
  error_code ignored;
  socket_.shutdown(tcp_socket::shutdown_send, ignored);
}

} // namespace net
