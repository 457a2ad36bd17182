// PROXY headers off real sockets: in one piece with what follows, byte by byte, never, from strangers.
#include "net/proxy_reader.hpp"
#include "peers.hpp"

using namespace test;

namespace {
/// A listener behind a proxy: what was let in (with the bytes behind the header), and what was refused.
struct front {
  struct guest { std::string source, bytes; };
  running_loop on;
  std::unique_ptr<net::listener> listener;
  std::unique_ptr<net::proxy_reader> reader;
  std::mutex mutex;
  std::vector<guest> let_in;
  std::vector<std::string> refused;
  std::uint16_t port = 0;

  explicit front(const std::string& trusted, const net::proxy_limits& limits = {}) {
    port = on.ask([&] {
      reader = std::make_unique<net::proxy_reader>(on.loop(), std::vector{*net::parse_network(trusted)}, limits, [this](const std::string& peer, std::string_view why) {
        std::lock_guard guard{mutex};
        CHECK(peer.starts_with("127.0.0.1:"));
        refused.emplace_back(why);
      });
      auto l = net::listener::open(on.loop(), "127.0.0.1", 0, [this](int fd, bool is_v6) {
        reader->take(fd, is_v6, [this](int ready, std::optional<net::endpoint> source) { note(ready, source); });
      });
      listener = std::move(*l);
      return listener->port();
    });
  }
  ~front() {
    on.ask([&] {
      listener = nullptr;
      reader = nullptr;
      return 0;
    });
    on.ask([] { return 0; });
    on.stop();
  }
  /// Says goodbye with what it found behind the header.
  void note(int fd, std::optional<net::endpoint> source) {
    char rest[100];
    auto n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
    std::lock_guard guard{mutex};
    let_in.push_back({source ? to_text(*source) : "", std::string(rest, n > 0 ? static_cast<std::size_t>(n) : 0)});
    ::send(fd, "bye", 3, MSG_NOSIGNAL);
    ::close(fd);
  }
  template <class F>
  bool becomes_true(F f) {
    for (auto end = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < end; std::this_thread::sleep_for(1ms)) {
      std::lock_guard guard{mutex};
      if (f())
        return true;
    }
    return false;
  }
};
const std::string header = "PROXY TCP4 192.0.2.1 10.0.0.1 40000 5222\r\n";
} // namespace

TEST_CASE("a trusted proxy's header is taken off, and nothing else") {
  front f{"127.0.0.0/8"};
  plain_client c{f.port};
  c.send(header + "<?xml");
  CHECK(c.read(3) == "bye");
  REQUIRE(f.let_in.size() == 1);
  CHECK(f.let_in[0].source == "192.0.2.1:40000");
  CHECK(f.let_in[0].bytes == "<?xml");
  CHECK(f.refused.empty());
}

TEST_CASE("a header may come byte by byte") {
  front f{"127.0.0.1"};
  plain_client c{f.port};
  for (char byte : header) {
    c.send({&byte, 1});
    std::this_thread::sleep_for(1ms);
  }
  CHECK(c.read(3) == "bye");
  CHECK(f.let_in.at(0).source == "192.0.2.1:40000");
}

TEST_CASE("strangers, garbage, silence and goodbyes are closed, each with its word") {
  {
    front f{"192.0.2.0/24"};
    plain_client c{f.port};
    c.send(header);
    CHECK(c.read(1).empty());
    CHECK(f.becomes_true([&] { return f.refused == std::vector<std::string>{"stranger"}; }));
    CHECK(f.let_in.empty());
  }
  front f{"127.0.0.1", {.time = 200ms, .connections = 1}};
  auto expect = [&](const std::string& why) {
    CHECK(f.becomes_true([&] { return !f.refused.empty(); }));
    std::lock_guard guard{f.mutex};
    CHECK(f.refused == std::vector{why});
    f.refused.clear();
  };
  {
    plain_client c{f.port};
    c.send("<stream:stream>");
    CHECK(c.read(1).empty());
    expect("missing");
  }
  {
    plain_client c{f.port};
    c.send("PROXY TCP4 nonsense\r\n");
    CHECK(c.read(1).empty());
    expect("malformed");
  }
  {
    plain_client c{f.port};
    c.send("PROXY TCP4 192.0.2.1");
    CHECK(c.read(1).empty()); // until the deadline
    expect("deadline");
  }
  {
    plain_client c{f.port};
    c.send("PROXY");
    c.close();
    expect("closed");
  }
  plain_client first{f.port};
  first.send("PROXY");
  std::this_thread::sleep_for(50ms);
  plain_client second{f.port};
  CHECK(second.read(1).empty());
  expect("too many");
  CHECK(f.on.ask([&] { return f.reader->waiting(); }) == 1);
}

TEST_CASE("a reader that goes closes what waits for it") {
  auto before = open_descriptors();
  {
    front f{"127.0.0.1"};
    plain_client c{f.port};
    c.send("PRO");
    std::this_thread::sleep_for(20ms);
    f.on.ask([&] {
      f.reader = nullptr;
      return 0;
    });
    CHECK(c.read(1).empty());
  }
  CHECK(open_descriptors() == before);
}
