// OpenSSL's results as error codes.
#include "net/tls_call.hpp"
#include "net/tls_identity.hpp"
#include <boost/asio/ssl/error.hpp>
#include <new>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace net::tls {

void deleter::operator()(SSL* s) const { SSL_free(s); }

handle make(SSL_CTX& context, int descriptor, bool is_server, const tls_identity_source* ids) {
  handle s{SSL_new(&context)};
  if (!s || SSL_set_fd(s.get(), descriptor) != 1)
    throw std::bad_alloc{};
  if (ids && SSL_set_app_data(s.get(), const_cast<tls_identity_source*>(ids)) != 1)
    throw std::bad_alloc{};
  is_server ? SSL_set_accept_state(s.get()) : SSL_set_connect_state(s.get());
  return s;
}

void forget_errors() { ERR_clear_error(); }

need settle(SSL* s, int result, bool& failed, error_code& ec) {
  auto system_error = errno;
  switch (SSL_get_error(s, result)) {
    case SSL_ERROR_WANT_READ:
      return need::read;
    case SSL_ERROR_WANT_WRITE:
      return need::write;
    case SSL_ERROR_ZERO_RETURN:
      ec = asio::error::eof;
      return need::nothing;
    case SSL_ERROR_SYSCALL:
      ec = system_error ? error_code{system_error, boost::system::system_category()} : asio::error::broken_pipe;
      break;
    default:
      if (auto e = ERR_get_error(); ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        ec = asio::ssl::error::stream_truncated;
      else
        ec = error_code{static_cast<int>(e), asio::error::get_ssl_category()};
  }
  failed = true;
  return need::nothing;
}

need say_goodbye(SSL* s, bool& failed, error_code& ec) {
  return attempt(s, failed, ec, [s] {
    int r = SSL_in_init(s) ? 1 : SSL_shutdown(s);
    return r == 0 ? 1 : r; // 0: sent, the peer's is missing
  });
}

} // namespace net::tls
