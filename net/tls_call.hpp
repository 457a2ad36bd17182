// One call into OpenSSL and what became of it: the only place that maps its errors.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/error_code.hpp>
#include <cerrno>
#include <memory>

typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;

namespace net {
namespace asio = boost::asio;
using error_code = boost::system::error_code;
/// The concrete executor: smaller and faster than the type-erased default.
using tcp_socket = asio::basic_stream_socket<asio::ip::tcp, asio::io_context::executor_type>;

class tls_identity_source;

namespace tls {

/// What the caller must wait for before it repeats the call.
enum class need { nothing, read, write };

struct deleter {
  void operator()(SSL* s) const;
};
using handle = std::unique_ptr<SSL, deleter>;

/// A server's or client's connection on a connected descriptor, which OpenSSL reads and writes itself.
/// `ids` (null: the context's own certificate) chooses by server name and must outlive the handshake.
/// Throws std::bad_alloc.
[[nodiscard]] handle make(SSL_CTX& context, int descriptor, bool is_server, const tls_identity_source* ids);

/// Maps the result of a call; `failed` is set after errors that forbid any further one.
need settle(SSL* s, int result, bool& failed, error_code& ec);
/// OpenSSL's queue is per thread: another stream's error must not be taken as ours.
void forget_errors();

/// `call()` is one SSL function and returns its result (1: done). Errors: eof
/// (close_notify), stream_truncated (none came), broken_pipe (`failed` before), errno, OpenSSL's own.
template <class Call>
need attempt(SSL* s, bool& failed, error_code& ec, Call&& call) {
  ec = {};
  if (failed) {
    ec = asio::error::broken_pipe;
    return need::nothing;
  }
  forget_errors();
  errno = 0;
  int r = call();
  return r > 0 ? need::nothing : settle(s, r, failed, ec);
}

/// Sends close_notify where that is still allowed; the peer's is not waited for.
need say_goodbye(SSL* s, bool& failed, error_code& ec);

} // namespace tls
} // namespace net
