// tls_stream under Asio's own operations: STARTTLS, pressure both ways, peers that break off.
#include "certificates.hpp"
#include "net/loop.hpp"
#include "net/tls_stream.hpp"
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <doctest/doctest.h>
#include <optional>

using namespace net;
using tcp = asio::ip::tcp;
using asio::awaitable;
using asio::use_awaitable;

namespace {
/// Both ends on one loop.
struct two_ends {
  test::folder files;
  net::loop loop;
  tls_context_ref context;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> client_context{SSL_CTX_new(TLS_client_method()), SSL_CTX_free};
  asio::basic_socket_acceptor<tcp, asio::io_context::executor_type> acceptor{
      loop.io().get_executor(), {asio::ip::address_v4::loopback(), 0}};
  timer watchdog = loop.after(std::chrono::seconds{60}, [this] { loop.stop(); });

  two_ends() {
    make_certificate(files, "a");
    context = *make_server_context(files / "a.pem", files / "a.key");
    SSL_CTX_set_mode(client_context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  }
  template <class F>
  void spawn(F f) {
    asio::co_spawn(loop.io(), std::move(f), [](std::exception_ptr e) {
      if (e)
        std::rethrow_exception(e);
    });
  }
  awaitable<tls_stream> accept() {
    tls_stream s{co_await acceptor.async_accept(use_awaitable), *context, tls_stream::role::server};
    co_await s.async_handshake(use_awaitable);
    co_return s;
  }
  awaitable<tcp_socket> connect_plain() {
    tcp_socket socket{loop.io().get_executor()};
    co_await socket.async_connect(acceptor.local_endpoint(), use_awaitable);
    co_return socket;
  }
  awaitable<tls_stream> connect() {
    tls_stream s{co_await connect_plain(), *client_context, tls_stream::role::client};
    co_await s.async_handshake(use_awaitable);
    co_return s;
  }
};
} // namespace

TEST_CASE("tls_stream: STARTTLS, an idle wait without a buffer, close_notify") {
  two_ends s;
  std::string got;
  s.spawn([&]() -> awaitable<void> {
    auto socket = co_await s.acceptor.async_accept(use_awaitable);
    std::string plain;
    auto buffer = asio::dynamic_buffer(plain);
    co_await asio::async_read_until(socket, buffer, "<starttls/>", use_awaitable);
    CHECK(plain == "<starttls/>");
    co_await asio::async_write(socket, asio::buffer("<proceed/>", 10), use_awaitable);
    tls_stream tls{std::move(socket), *s.context, tls_stream::role::server};
    co_await tls.async_handshake(use_awaitable);
    std::array<char, 64> shared;
    co_await tls.async_wait_readable(use_awaitable);
    error_code ec;
    std::size_t n = 0;
    while ((n = tls.read_some(asio::buffer(shared), ec), ec == asio::error::would_block))
      co_await tls.async_wait_readable(use_awaitable);
    co_await asio::async_write(tls, asio::buffer(shared, n), use_awaitable);
    co_await tls.async_shutdown(use_awaitable);
  });
  s.spawn([&]() -> awaitable<void> {
    auto socket = co_await s.connect_plain();
    co_await asio::async_write(socket, asio::buffer("<starttls/>", 11), use_awaitable);
    std::string plain;
    auto buffer = asio::dynamic_buffer(plain);
    co_await asio::async_read_until(socket, buffer, "<proceed/>", use_awaitable);
    tls_stream tls{std::move(socket), *s.client_context, tls_stream::role::client};
    co_await tls.async_handshake(use_awaitable);
    co_await asio::async_write(tls, asio::buffer("<stream>", 8), use_awaitable);
    error_code ec;
    auto token = asio::redirect_error(use_awaitable, ec);
    co_await asio::async_read(tls, asio::dynamic_buffer(got), token);
    CHECK(ec == asio::error::eof); // close_notify came
    s.loop.stop();
  });
  s.loop.run();
  CHECK(got == "<stream>");
}

TEST_CASE("tls_stream: much both ways at once against back pressure") {
  two_ends s;
  constexpr std::size_t size = 8'000'000;
  std::size_t correct = 0;
  int open = 4;
  auto pump = [&](std::shared_ptr<tls_stream> t, char seed) {
    s.spawn([&, t, seed]() -> awaitable<void> {
      std::string out(size, '\0');
      for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<char>(seed + i % 97);
      co_await asio::async_write(*t, asio::buffer(out), use_awaitable);
      if (--open == 0)
        s.loop.stop();
    });
    s.spawn([&, t, seed]() -> awaitable<void> {
      std::string in(size, '\0');
      co_await asio::async_read(*t, asio::buffer(in), use_awaitable);
      for (std::size_t i = 0; i < size; ++i)
        correct += in[i] == static_cast<char>((seed ^ 1) + i % 97);
      if (--open == 0)
        s.loop.stop();
    });
  };
  s.spawn([&]() -> awaitable<void> { pump(std::make_shared<tls_stream>(co_await s.accept()), 2); });
  s.spawn([&]() -> awaitable<void> { pump(std::make_shared<tls_stream>(co_await s.connect()), 3); });
  s.loop.run();
  CHECK(correct == 2 * size);
}

TEST_CASE("tls_stream: a peer that vanishes, and one that speaks no TLS, end in errors, not in signals") {
  two_ends s;
  error_code cut, late, refused, garbage;
  s.spawn([&]() -> awaitable<void> {
    auto t = co_await s.accept();
    std::array<char, 16> b;
    co_await t.async_read_some(asio::buffer(b), asio::redirect_error(use_awaitable, cut));
    std::string much(1'000'000, 'x');
    co_await asio::async_write(t, asio::buffer(much), asio::redirect_error(use_awaitable, late));
    co_await t.async_shutdown(asio::redirect_error(use_awaitable, refused)); // not undefined behaviour
    auto socket = co_await s.acceptor.async_accept(use_awaitable);
    tls_stream plain{std::move(socket), *s.context, tls_stream::role::server};
    co_await plain.async_handshake(asio::redirect_error(use_awaitable, garbage));
    s.loop.stop();
  });
  s.spawn([&]() -> awaitable<void> {
    {
      auto t = co_await s.connect();
      t.next_layer().set_option(asio::socket_base::linger{true, 0});
      t.next_layer().close(); // RST; the destructor would have reset the option and sent FIN
    }
    auto plain = co_await s.connect_plain();
    co_await asio::async_write(plain, asio::buffer("GET / HTTP/1.1\r\n\r\n", 18), use_awaitable);
    std::array<char, 64> b;
    error_code ec;
    co_await plain.async_read_some(asio::buffer(b), asio::redirect_error(use_awaitable, ec));
  });
  s.loop.run();
  CHECK(cut);
  CHECK(late);
  CHECK(refused == asio::error::broken_pipe);
  CHECK(garbage);
}

TEST_CASE("tls_stream: closing ends what is pending") {
  two_ends s;
  error_code read, handshake;
  s.spawn([&]() -> awaitable<void> {
    auto t = std::make_shared<tls_stream>(co_await s.accept());
    s.loop.post([t] { t->next_layer().close(); });
    std::array<char, 16> b;
    co_await t->async_read_some(asio::buffer(b), asio::redirect_error(use_awaitable, read));
    auto silent = std::make_shared<tls_stream>(co_await s.acceptor.async_accept(use_awaitable), *s.context, tls_stream::role::server);
    s.loop.post([silent] { silent->next_layer().close(); });
    co_await silent->async_handshake(asio::redirect_error(use_awaitable, handshake));
    s.loop.stop();
  });
  std::optional<tls_stream> open;
  std::optional<tcp_socket> other;
  s.spawn([&]() -> awaitable<void> {
    open.emplace(co_await s.connect());
    other.emplace(co_await s.connect_plain());
  });
  s.loop.run();
  CHECK(read == asio::error::operation_aborted);
  CHECK(handshake == asio::error::operation_aborted);
}
