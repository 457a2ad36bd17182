// Boost.Beast on tls_stream: HTTPS for curl, a WebSocket echo (HTTP and WebSocket come to the same loop).
#include "net/tls_stream.hpp"
#include "peers.hpp"
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <boost/beast/websocket.hpp>

namespace beast = boost::beast;
namespace http = beast::http;
namespace asio = boost::asio;
using namespace test;
using net::error_code;
using net::tls_stream;

namespace {
/// Reads a request, answers with its path, as long as the client likes.
struct https_session : std::enable_shared_from_this<https_session> {
  explicit https_session(tls_stream s) : stream(std::move(s)) {}
  void start() {
    stream.async_handshake([self = shared_from_this()](error_code ec) {
      if (!ec)
        self->read();
    });
  }
  void read() {
    request = {};
    http::async_read(stream, buffer, request, [self = shared_from_this()](error_code ec, std::size_t) {
      ec ? self->stream.async_shutdown([self](error_code) {}) : self->answer();
    });
  }
  void answer() {
    response = {http::status::ok, 11};
    response.keep_alive(request.keep_alive());
    response.body() = "you asked for " + std::string{request.target()} + "\n";
    response.prepare_payload();
    http::async_write(stream, response, [self = shared_from_this()](error_code ec, std::size_t) {
      if (!ec)
        self->read();
    });
  }
  void close() { stream.next_layer().close(); }
  tls_stream stream;
  beast::flat_buffer buffer;
  http::request<http::string_body> request;
  http::response<http::string_body> response;
};

struct echo_session : std::enable_shared_from_this<echo_session> {
  explicit echo_session(tls_stream s) : socket(std::move(s)) {}
  void start() {
    socket.next_layer().async_handshake([self = shared_from_this()](error_code ec) {
      if (!ec)
        self->socket.async_accept([self](error_code failed) {
          if (!failed)
            self->read();
        });
    });
  }
  void read() {
    socket.async_read(buffer, [self = shared_from_this()](error_code ec, std::size_t) {
      if (ec) {
        self->end.set_value(ec);
        return;
      }
      self->socket.text(self->socket.got_text());
      self->socket.async_write(self->buffer.data(), [self](error_code failed, std::size_t) {
        self->buffer.clear();
        if (!failed)
          self->read();
      });
    });
  }
  void close() { socket.next_layer().next_layer().close(); }
  beast::websocket::stream<tls_stream> socket;
  beast::flat_buffer buffer;
  std::promise<error_code> end;
};

template <class Session>
struct beast_server {
  beast_server() {
    make_certificate(files, "localhost");
    auto c = net::make_server_context(files / "localhost.pem", files / "localhost.key", {.use = net::tls_use::http});
    REQUIRE(c);
    ids.put("localhost", *c);
    port = on.ask([&] {
      auto l = net::listener::open(on.loop(), "127.0.0.1", 0, [this](int fd, bool is_v6) {
        last = std::make_shared<Session>(
            tls_stream{net::adopt(on.loop(), fd, is_v6), *ids.find({}), tls_stream::role::server, &ids});
        last->start();
      });
      listener = l ? std::move(*l) : nullptr;
      watchdog = on.loop().after(patience, [this] { if (last) last->close(); }); // a peer that waits for ever gets an end
      return listener ? listener->port() : std::uint16_t{0};
    });
    REQUIRE(port);
  }
  ~beast_server() {
    on.ask([&] {
      last = nullptr;
      listener = nullptr;
      watchdog.cancel();
      return 0;
    });
    on.stop();
  }
  folder files;
  net::tls_identity_source ids;
  running_loop on;
  std::unique_ptr<net::listener> listener;
  std::shared_ptr<Session> last;
  net::timer watchdog;
  std::uint16_t port = 0;
};
} // namespace

TEST_CASE("curl gets two pages over one connection by HTTPS with ALPN; TLS 1.3 and 1.2") {
  for (auto* version : {"--tlsv1.3", "--tls-max 1.2"}) {
    beast_server<https_session> s;
    auto url = "https://127.0.0.1:" + std::to_string(s.port);
    auto out = run("curl -sS -m 20 --cacert " + s.files / "localhost.pem " + version + " " + url + "/a " + url + "/b");
    CHECK(out.text == "you asked for /a\nyou asked for /b\n");
    CHECK(out.status == 0);
    auto verbose = run("curl -sS -v -m 20 --http1.1 -k " + url + "/a").text;
    CHECK(verbose.find("server accepted http/1.1") != std::string::npos);
  }
}

TEST_CASE("WebSocket echo of 1 B to 1 MB and a clean close, against Beast on Asio's own TLS") {
  beast_server<echo_session> s;
  asio::io_context io;
  asio::ssl::context context{asio::ssl::context::tls_client};
  beast::websocket::stream<asio::ssl::stream<asio::ip::tcp::socket>> ws{io, context};
  beast::get_lowest_layer(ws).connect({asio::ip::address_v4::loopback(), s.port});
  beast::get_lowest_layer(ws).set_option(asio::ip::tcp::no_delay{true});
  ws.next_layer().handshake(asio::ssl::stream_base::client);
  ws.handshake("localhost", "/xmpp-websocket");
  for (std::size_t size : {1u, 300u, 70'000u, 1'000'000u}) {
    CAPTURE(size);
    std::string text(size, 'x');
    beast::flat_buffer buffer;
    ws.write(asio::buffer(text));
    ws.read(buffer);
    bool is_same = beast::buffers_to_string(buffer.data()) == text;
    CHECK(is_same);
  }
  auto end = s.on.ask([&] { return s.last->end.get_future(); });
  ws.close(beast::websocket::close_code::normal);
  CHECK(end.get() == beast::websocket::error::closed);
}
