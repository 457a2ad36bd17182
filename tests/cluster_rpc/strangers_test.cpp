// Strangers on the cluster port, and nodes that do what they may not.
#include "base/metrics.hpp"
#include "cluster/rpc/door.hpp"
#include "tests/cluster_rpc/nodes.hpp"
#include "tests/cluster_rpc/wild_client.hpp"
#include <arpa/inet.h>
#include <future>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace rpc_tests;
using wire::close_cause;
using wire::refusal_code;

namespace {
/// A plain connection to the node.
struct connection {
  explicit connection(const node& to) : connection(to.service->port()) {}
  explicit connection(std::uint16_t port) : fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    is_open = connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0;
    timeval limit{3, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  connection(const connection&) = delete;
  ~connection() { close(fd); }
  void say(const std::string& text) const { (void)!send(fd, text.data(), text.size(), MSG_NOSIGNAL); }
  /// The other end closed it, within 3 s.
  [[nodiscard]] bool is_closed_by_peer() const {
    char buffer[4'096];
    for (;;) {
      auto n = recv(fd, buffer, sizeof buffer, 0);
      if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return true;
      if (n < 0)
        return false;
    }
  }
  int fd;
  bool is_open = false;
};

double strangers() {
  double sum = 0;
  for (auto& [name, v] : base::metrics::values())
    if (name.starts_with("covey_cluster_strangers_total"))
      sum += v;
  return sum;
}
struct exposed {
  home h;
  folder files;
  ca authority;
  node b{h, files, authority, "b", [](auto& s) {
           s.limits.hello = 500ms;
           s.limits.strangers = 10;
           s.limits.strangers_per_address = 8;
         }};
  node a{h, files, authority, "a"};
  void check_well() { // b serves nodes as before
    if (!a.link_to("b")) {
      a.dial(b);
      REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
    }
    auto before = b.count();
    REQUIRE(a.service->send(a.link_to("b"), "x") == wire::sent::ok);
    CHECK(h.until([&] { return b.count() == before + 1; }));
  }
};
} // namespace

TEST_CASE("who is let in writes at once, and is missed when its machine is gone") {
  std::promise<int> let_in;
  rpc::door d{{10, 8, 5s}, [&](int fd) { let_in.set_value(fd); }, [](base::time_point) { return false; }};
  REQUIRE(d.listen("127.0.0.1:0"));
  d.start();
  connection stranger{d.port()};
  auto fd = let_in.get_future();
  REQUIRE(fd.wait_for(5s) == std::future_status::ready);
  struct closed { int fd; ~closed() { close(fd); } } own{fd.get()};
  auto option = [&](int level, int name) {
    int value = 0;
    socklen_t size = sizeof value;
    CHECK(getsockopt(own.fd, level, name, &value, &size) == 0);
    return value;
  };
  CHECK(option(IPPROTO_TCP, TCP_NODELAY) == 1); // else small frames wait for the other end's delayed acknowledgement
  CHECK(option(SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(IPPROTO_TCP, TCP_USER_TIMEOUT) == 10'000);
}

TEST_CASE_FIXTURE(exposed, "plain bytes, silence, and an end at once: closed and counted") {
  check_well();
  auto before = strangers();
  {
    connection http{b}, silent{b}, gone{b};
    shutdown(gone.fd, SHUT_RDWR);
    http.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(http.is_closed_by_peer());
    CHECK(silent.is_closed_by_peer()); // at the deadline
  }
  CHECK(h.until([&] { return strangers() >= before + 3; }, 3s));
  CHECK(strangers() == before + 3);
  check_well();
}

TEST_CASE_FIXTURE(exposed, "TLS without a certificate, and nothing said in it") {
  auto before = strangers();
  connection c{b};
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context{SSL_CTX_new(TLS_client_method()), SSL_CTX_free};
  const unsigned char h2[] = {2, 'h', '2'};
  SSL_CTX_set_alpn_protos(context.get(), h2, sizeof h2);
  SSL_CTX_set_max_proto_version(context.get(), TLS1_1_VERSION);
  SSL_CTX_set_security_level(context.get(), 0); // TLS 1.1 needs it: so that it is the server who refuses
  {
    std::unique_ptr<SSL, void (*)(SSL*)> old{SSL_new(context.get()), SSL_free};
    connection d{b};
    SSL_set_fd(old.get(), d.fd);
    CHECK(SSL_connect(old.get()) != 1); // below TLS 1.2
  }
  SSL_CTX_set_max_proto_version(context.get(), 0);
  std::unique_ptr<SSL, void (*)(SSL*)> ssl{SSL_new(context.get()), SSL_free};
  SSL_set_fd(ssl.get(), c.fd);
  REQUIRE(SSL_connect(ssl.get()) == 1);
  CHECK(SSL_version(ssl.get()) >= TLS1_2_VERSION);
  CHECK(c.is_closed_by_peer()); // at the deadline
  h.run_for(100ms);
  CHECK(strangers() == before + 2);
  check_well();
}

TEST_CASE_FIXTURE(exposed, "a flood of connections: few at a time, and nodes are served all the while") {
  check_well();
  auto before = strangers();
  std::vector<std::unique_ptr<connection>> flood;
  for (int i = 0; i < 500; ++i)
    flood.push_back(std::make_unique<connection>(b));
  check_well();
  for (auto& c : flood)
    CHECK(c->is_closed_by_peer());
  h.run_for(100ms);
  CHECK(strangers() == before + 500);
  check_well();
}

TEST_CASE_FIXTURE(exposed, "a call without a certificate is refused with the reason") {
  auto before = strangers();
  wild_client wild{b.address(), {}, {}};
  auto how = wild.say_hello({"test", "w", 1, "127.0.0.1:9", 1, 3});
  CHECK(how.code == refusal_code::wrong_certificate);
  CHECK(how.text == "there is no certificate");
  h.run_for(100ms);
  CHECK(strangers() == before); // refused, so not counted as one
  check_well();
}

TEST_CASE_FIXTURE(exposed, "a hello that is none, or far too long") {
  auto own_files = authority.issue(files, "w");
  auto chain = folder::read(own_files.certificate), key = folder::read(own_files.key);
  CHECK(wild_client{b.address(), chain, key}.say("\xff\xff").code == refusal_code::malformed);
  CHECK(wild_client{b.address(), chain, key}.say(std::string(4'000, 'x')).code == refusal_code::malformed);
  (void)wild_client{b.address(), chain, key}.say(std::string(100'000, 'x')); // more than gRPC takes
  (void)wild_client{b.address(), chain, key}.say({});
  CHECK(b.asked == 0);
  check_well();
}

TEST_CASE_FIXTURE(exposed, "a stranger cannot make the node hold what it sends") {
  wild_client wild{b.address(), {}, {}};
  CHECK(wild.flood(64u << 20) < 1u << 20); // bytes that were read of 64 MB, at most
  check_well();
}

TEST_CASE("a member that sends one message of 40 MB is cut off at the bound of memory, or told its size") {
  home h;
  folder files;
  ca authority;
  auto own_files = authority.issue(files, "w");
  auto chain = folder::read(own_files.certificate), key = folder::read(own_files.key);
  auto dies_of = [&](std::size_t memory) {
    node b{h, files, authority, "b", [&](auto& s) { s.limits.memory = memory; }};
    wild_client wild{b.address(), chain, key};
    REQUIRE(wild.link({"test", "w", 1, "127.0.0.1:9", 1, 3}, h));
    auto how = wild.frames(40u << 20);
    CHECK(h.until([&] { return !b.link_to("w"); }));
    return how.text;
  };
  CHECK(dies_of(8u << 20).find("RST_STREAM") != std::string::npos);
  CHECK(dies_of(128u << 20).find("larger than max") != std::string::npos);
}

TEST_CASE_FIXTURE(exposed, "a node that sends more than a packet may hold, frames before the link, or two beginnings") {
  auto own_files = authority.issue(files, "w");
  auto chain = folder::read(own_files.certificate), key = folder::read(own_files.key);
  wire::hello own{"test", "w", 1, "127.0.0.1:9", 1, 3};
  SUBCASE("too large") {
    wild_client wild{b.address(), chain, key};
    REQUIRE(wild.link(own, h));
    (void)wild.frames(3u << 20);
    CHECK(h.until([&] { return !b.link_to("w"); }));
  }
  SUBCASE("frames first") {
    wild_client wild{b.address(), chain, key};
    auto how = wild.frames_first(own, h);
    CHECK(how.code == refusal_code::malformed);
    CHECK(b.connects == 0);
  }
  SUBCASE("ready twice") {
    wild_client wild{b.address(), chain, key};
    REQUIRE(wild.link(own, h));
    CHECK(wild.ready_again(h).code == refusal_code::malformed);
    CHECK(h.until([&] { return !b.link_to("w"); }));
    CHECK(b.last.cause == close_cause::protocol_error);
  }
  SUBCASE("no ready") {
    wild_client wild{b.address(), chain, key};
    auto how = wild.wait_after_hello(own, h);
    CHECK(how.code == refusal_code::malformed);
    CHECK(b.connects == 0);
  }
  check_well();
}
