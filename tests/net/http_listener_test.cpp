// The small HTTP server, asked by curl and by hand.
#include "base/log.hpp"
#include "net/http_listener.hpp"
#include "peers.hpp"

using namespace test;

namespace {
struct http_server {
  explicit http_server(const net::http_limits& limits = {}) {
    auto find = [this](std::string_view path) -> std::optional<net::http_reply> {
      ++asked;
      if (path == "/metrics")
        return net::http_reply{200, "covey_up 1\n", "text/plain; version=0.0.4"};
      if (path == "/readyz")
        return net::http_reply{503, "starting\n"};
      if (path == "/large")
        return net::http_reply{200, std::string(5'000'000, 'x')};
      if (path == "/broken")
        throw std::runtime_error{"no"};
      return std::nullopt;
    };
    on.ask([&] {
      auto l = net::http_listener::open(on.loop(), "127.0.0.1", 0, find, limits);
      if (l)
        listener = std::move(*l);
      return 0;
    });
    REQUIRE(listener);
    port = listener->port();
  }
  ~http_server() { close(); }
  void close() {
    on.ask([&] {
      listener = nullptr;
      return 0;
    });
    base::log::flush();
  }
  std::string url(const std::string& path) const { return "http://127.0.0.1:" + std::to_string(port) + path; }
  /// Sends this, returns all that comes until the server closes.
  std::string talk(std::string_view request) const {
    plain_client c{port};
    c.send(request);
    return c.read(10'000'000);
  }
  std::atomic<int> asked{0};
  running_loop on;
  std::unique_ptr<net::http_listener> listener;
  std::uint16_t port = 0;
};
std::string status_of(const std::string& answer) { return answer.substr(0, answer.find('\r')); }
} // namespace

TEST_CASE("curl gets the routes, and nothing else") {
  http_server s;
  auto get = [&](const std::string& path) {
    return run("curl -sS -m 20 --path-as-is -w %{http_code} \"" + s.url(path) + "\"").text;
  };
  CHECK(get("/metrics") == "covey_up 1\n200");
  CHECK(get("/metrics?name=x") == "covey_up 1\n200");
  CHECK(get("/readyz") == "starting\n503");
  CHECK(get("/broken") == "internal error\n500");
  for (auto path : {"/", "/metrics/", "//metrics", "/%6detrics", "/x/../metrics", "/METRICS"}) {
    CAPTURE(path);
    CHECK(get(path).find("404") != std::string::npos);
  }
  auto head = run("curl -sS -m 20 -I " + s.url("/metrics")).text;
  CHECK(head.find("200 OK") != std::string::npos);
  CHECK(head.find("Content-Length: 11") != std::string::npos);
  CHECK(head.find("Content-Type: text/plain; version=0.0.4") != std::string::npos);
  CHECK(head.find("covey_up") == std::string::npos);
  auto two = run("curl -sS -m 20 -v " + s.url("/metrics") + " " + s.url("/metrics")).text;
  CHECK(two.find("Re-using existing connection") != std::string::npos);
  CHECK(run("curl -sS -m 20 " + s.url("/large") + " | wc -c").text == "5000000\n");
  CHECK(run("curl -sS -m 20 --http1.0 " + s.url("/metrics")).text == "covey_up 1\n");
}

TEST_CASE("methods, bodies, sizes and nonsense are refused") {
  http_server s{{.time = 500ms}};
  auto text = run("curl -sS -m 20 -i -X DELETE " + s.url("/metrics")).text;
  CHECK(text.find("405 Method Not Allowed") != std::string::npos);
  CHECK(text.find("Allow: GET, HEAD") != std::string::npos);
  auto asked = s.asked.load();
  struct { std::string request; const char* answer; } table[] = {
      {"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 413 Payload Too Large"},
      {"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 413 Payload Too Large"},
      {"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 413 Payload Too Large"},
      {"GET /metrics HTTP/1.1\r\nX: " + std::string(20'000, 'x') + "\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
      {"GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\n\r\n", "HTTP/1.1 431 Request Header Fields Too Large"},
      {"<stream:stream xmlns='jabber:client'>\r\n\r\n", "HTTP/1.1 400 Bad Request"},
      {"GET /metrics HTTP/9.9\r\n\r\n", "HTTP/1.1 400 Bad Request"},
      {"GET /metrics HTTP/1.1\r\nA B: x\r\n\r\n", "HTTP/1.1 400 Bad Request"},
      {std::string("\x16\x03\x01\x00\xf0", 5) + std::string(300, '\1'), "HTTP/1.1 400 Bad Request"},
      {"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 400 Bad Request"},
  };
  for (auto& t : table) {
    CAPTURE(t.request.substr(0, 60));
    CHECK(status_of(s.talk(t.request)) == t.answer);
  }
  CHECK(s.asked == asked);
  CHECK(status_of(s.talk("GET http://example.org/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == "HTTP/1.1 200 OK");
  CHECK(status_of(s.talk("GET http://example.org HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")) == "HTTP/1.1 404 Not Found");
}

TEST_CASE("requests sent at once are answered in order, up to the limit of a connection") {
  http_server s{{.requests = 3}};
  auto one = [](const std::string& path) { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"; };
  auto all = s.talk(one("/metrics") + one("/nothing") + one("/readyz") + one("/metrics"));
  auto first = all.find("200 OK"), second = all.find("404 Not Found"), third = all.find("503 Service Unavailable");
  CHECK(first < second);
  CHECK(second < third);
  CHECK(third != std::string::npos);
  CHECK(all.find("200 OK", third) == std::string::npos);
  CHECK(all.find("Connection: close", third) != std::string::npos);
}

TEST_CASE("who is silent, slow or one too many is closed, and the others are served") {
  http_server s{{.connections = 3, .time = 300ms}};
  plain_client silent{s.port}, half{s.port};
  half.send("GET /metr");
  plain_client third{s.port};
  third.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(third.read(12) == "HTTP/1.1 200");
  plain_client fourth{s.port};
  CHECK(fourth.read(1).empty()); // closed at once: three are there
  CHECK(silent.read(1).empty()); // in time
  CHECK(half.read(1).empty());
  CHECK(run("curl -sS -m 20 " + s.url("/metrics")).text == "covey_up 1\n");
}

TEST_CASE("the listener closes its connections with it") {
  http_server s;
  plain_client idle{s.port}, reader{s.port};
  reader.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(reader.read(1) == "H");
  s.close();
  CHECK(idle.read(1).empty());
  CHECK(reader.read(10'000'000).size() < 6'000'000);
  plain_client late{s.port};
  CHECK_FALSE(late.is_connected());
}
