// One client's socket: plain, TLS 1.2 and 1.3, what channel binding sees, and peers that misbehave.
#include "peers.hpp"
#include <boost/asio/ssl/error.hpp>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <malloc.h>

using namespace test;
using mode = server::mode;
namespace error = net::asio::error;

namespace {
/// Direct TLS with one certificate, named `name.pem` in `files`.
struct tls_server : server {
  explicit tls_server(on_bytes f, const certificate_wish& wish = {}, mode m = mode::direct) : server(m, std::move(f)) {
    add("localhost", wish);
  }
  void add(const std::string& name, const certificate_wish& wish) {
    make_certificate(files, name, wish);
    auto c = net::make_server_context(files / (name + ".pem"), files / (name + ".key"));
    REQUIRE(c);
    ids.put(name, *c);
  }
  std::string fingerprint(const std::string& digest) {
    auto text = run("openssl x509 -in " + files / "localhost.pem" + " -noout -fingerprint -" + digest).text;
    auto hex = text.substr(text.find('=') + 1);
    std::erase_if(hex, [](char c) { return c == ':' || c == '\n'; });
    return hex;
  }
};
bool has_ended(const fate& f) { return f.end.has_value(); }
bool is_secure(const fate& f) { return f.handshake.has_value(); }
const std::string xmpp = "\x0bxmpp-client";
} // namespace

TEST_CASE("plain: bytes both ways, the end of the stream, a goodbye, the peer's address") {
  server s{mode::plain, echo_line};
  plain_client c{s.port};
  REQUIRE(c.is_connected());
  c.send("hel");
  c.send("lo\nrest");
  CHECK(c.read(100) == "hello\n");
  c.close();
  auto f = s.wait_for(0, has_ended);
  CHECK(*f.end == error::eof);
  CHECK(f.peer_address == "127.0.0.1");
  CHECK(f.peer.starts_with("127.0.0.1:"));
}

TEST_CASE("IPv6: address in brackets, counted by /64") {
  server s{mode::plain, echo_line, "::1"};
  plain_client c{s.port, true};
  if (!c.is_connected()) {
    MESSAGE("no IPv6 on this machine");
    return;
  }
  c.send("a\n");
  CHECK(c.read(2) == "a\n");
  auto f = s.wait_for(0, [](auto& x) { return !x.peer.empty(); });
  CHECK(f.peer.starts_with("[::1]:"));
  CHECK(f.peer_address == "::/64");
}

TEST_CASE("plain: a client that does not read is waited for, then has it all") {
  server s{mode::plain, [](connection& c) {
    if (std::exchange(c.in, {}) == "go") {
      std::string much;
      for (int i = 0; much.size() < 20'000'000; ++i)
        much += std::to_string(i) + ' ';
      c.send(much);
      c.finish();
    }
  }};
  plain_client c{s.port};
  c.send("go");
  std::this_thread::sleep_for(50ms);
  auto all = c.read(30'000'000);
  std::size_t at = 0;
  int i = 0;
  for (; at < all.size(); ++i) {
    auto next = std::to_string(i) + ' ';
    if (all.compare(at, next.size(), next) != 0)
      break;
    at += next.size();
  }
  CHECK(at == all.size());
  CHECK(all.size() >= 20'000'000);
}

TEST_CASE("TLS 1.3 and 1.2: echo of every size, facts, goodbye") {
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    tls_server s{[](connection& c) {
      auto bytes = std::exchange(c.in, {});
      c.send(bytes);
      if (bytes.ends_with("END"))
        c.finish();
    }};
    plain_client below{s.port};
    tls_client c{below, {.version = version, .server_name = "localhost", .alpn = xmpp}};
    REQUIRE_MESSAGE(c.is_connected(), c.problem());
    for (std::size_t size : {1u, 600u, 16'384u, 16'385u, 300'000u}) {
      std::string text(size, 'x');
      std::thread writer{[&] { CHECK(c.send(text)); }};
      writer.join(); // up to here the kernel's buffers hold it
      bool is_same = c.read(size) == text;
      CHECK(is_same);
    }
    c.send("END");
    CHECK(c.read(10) == "END");
    CHECK(c.has_goodbye());
    auto f = s.wait_for(0, is_secure);
    CHECK_FALSE(*f.handshake);
    CHECK(f.facts.protocol == (version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2"));
    CHECK(f.facts.cipher == SSL_get_cipher_name(c.native()));
    CHECK(f.facts.alpn == "xmpp-client");
    CHECK(f.facts.server_name == "localhost");
    CHECK(f.facts.exporter.size() == 32);
    CHECK(to_hex(f.facts.exporter) == to_hex(c.exporter()));
    CHECK(to_hex(f.facts.end_point_hash) == s.fingerprint("sha256"));
  }
}

TEST_CASE("the exporter is not offered where it could be shared: TLS 1.2 without extended master secret") {
  tls_server s{echo};
  plain_client below{s.port};
  tls_client c{below, {.version = TLS1_2_VERSION, .has_extended_master_secret = false}};
  REQUIRE_MESSAGE(c.is_connected(), c.problem());
  auto f = s.wait_for(0, is_secure);
  CHECK(f.facts.protocol == "TLSv1.2");
  CHECK(f.facts.exporter.empty());
  CHECK_FALSE(f.facts.end_point_hash.empty());
}

TEST_CASE("tls-server-end-point follows the certificate's signature (RFC 5929 section 4.1)") {
  struct { certificate_wish wish; const char* digest; } table[] = {
      {{.key = "P-256", .digest = "SHA384"}, "sha384"},
      {{.key = "RSA-2048", .digest = "SHA512"}, "sha512"},
      {{.key = "RSA-2048", .digest = "SHA1"}, "sha256"},
      {{.key = "ED25519"}, nullptr},
  };
  for (auto& t : table) {
    CAPTURE(t.wish.digest);
    tls_server s{echo, t.wish};
    plain_client below{s.port};
    tls_client c{below};
    REQUIRE_MESSAGE(c.is_connected(), c.problem());
    auto f = s.wait_for(0, is_secure);
    if (t.digest)
      CHECK(to_hex(f.facts.end_point_hash) == s.fingerprint(t.digest));
    else
      CHECK(f.facts.end_point_hash.empty());
  }
}

TEST_CASE("openssl s_client agrees on the exporter, verifies the certificate and gets its line") {
  for (auto* version : {"-tls1_3", "-tls1_2"}) {
    tls_server s{echo_line};
    auto out = run("echo hello | openssl s_client -connect 127.0.0.1:" + std::to_string(s.port) + " " + version
                   + " -servername localhost -verify_hostname localhost -verify_return_error -CAfile "
                   + s.files / "localhost.pem"
                   + " -alpn xmpp-client -keymatexport EXPORTER-Channel-Binding -keymatexportlen 32 -ign_eof");
    CAPTURE(out.text);
    auto f = s.wait_for(0, is_secure);
    CHECK_FALSE(*f.handshake);
    CHECK(out.text.find("Keying material: " + to_hex(f.facts.exporter)) != std::string::npos);
    CHECK(out.text.find("Verify return code: 0 (ok)") != std::string::npos);
    CHECK(out.text.find("ALPN protocol: xmpp-client") != std::string::npos);
    CHECK(out.text.find("hello\n") != std::string::npos);
    CHECK(s.wait_for(0, has_ended).end == error::eof);
  }
}

TEST_CASE("curl reads an answer from a client_socket, in the clear and under TLS") {
  auto answer = [](connection& c) {
    if (!c.in.ends_with("\r\n\r\n"))
      return;
    c.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nyes");
    c.finish();
  };
  server plain{mode::plain, answer};
  auto out = run("curl -sS -m 20 http://127.0.0.1:" + std::to_string(plain.port) + "/");
  CHECK(out.text == "yes");
  for (auto* version : {"--tlsv1.3", "--tls-max 1.2"}) {
    tls_server s{answer};
    auto url = " https://127.0.0.1:" + std::to_string(s.port) + "/";
    CHECK(run("curl -sS -m 20 --no-alpn --cacert " + s.files / "localhost.pem " + version + url).text == "yes");
  }
}

TEST_CASE("the server name picks the certificate; an unknown one gets the default") {
  tls_server s{echo, {.common_name = "first"}};
  s.add("example.org", {.alternative_names = "DNS:example.org", .common_name = "second", .key = "RSA-2048"});
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    struct { const char* asked; const char* got; } table[] = {
        {"localhost", "first"}, {"example.org", "second"}, {"EXAMPLE.ORG", "second"}, {"example.com", "first"}, {"", "first"}};
    for (auto& t : table) {
      CAPTURE(t.asked);
      plain_client below{s.port};
      tls_client c{below, {.version = version, .server_name = t.asked}};
      REQUIRE_MESSAGE(c.is_connected(), c.problem());
      CHECK(c.server() == t.got);
      CHECK(c.send("hi"));
      CHECK(c.read(2) == "hi");
    }
  }
}

TEST_CASE("the end-point hash is that of the certificate which was sent, and a reload touches no connection") {
  tls_server s{echo};
  s.add("example.org", {.alternative_names = "DNS:example.org"});
  plain_client below{s.port};
  tls_client c{below, {.server_name = "example.org"}};
  REQUIRE(c.is_connected());
  auto f = s.wait_for(0, is_secure);
  CHECK(to_hex(f.facts.end_point_hash) != s.fingerprint("sha256"));
  auto hash = to_hex(f.facts.end_point_hash);
  s.add("example.org", {.alternative_names = "DNS:example.org"});
  CHECK(c.send("still here"));
  CHECK(c.read(10) == "still here");
  CHECK(s.on.ask([&] { return 1; }) == 1);
  plain_client below2{s.port};
  tls_client c2{below2, {.server_name = "example.org"}};
  REQUIRE(c2.is_connected());
  CHECK(to_hex(s.wait_for(1, is_secure).facts.end_point_hash) != hash);
}

TEST_CASE("ALPN: xmpp-client or nothing; a web client is told so") {
  tls_server s{echo};
  struct { std::string offer; bool is_taken; } table[] = {
      {"", true}, {xmpp, true}, {"\x02h2" + xmpp, true}, {"\x02h2\x08http/1.1", false}, {"\x0bxmpp-server", false}};
  for (auto& t : table) {
    CAPTURE(t.offer);
    plain_client below{s.port};
    tls_client c{below, {.alpn = t.offer}};
    CHECK(c.is_connected() == t.is_taken);
    if (!t.is_taken)
      CHECK(c.problem().find("no application protocol") != std::string::npos);
  }
  auto out = run("curl -sS -m 20 -k https://127.0.0.1:" + std::to_string(s.port) + "/");
  CHECK(out.status == 35);
  CHECK(out.text.find("no application protocol") != std::string::npos);
  auto f = s.wait_for(5, is_secure);
  CHECK(*f.handshake);
}

TEST_CASE("without any certificate the handshake fails, not the process") {
  server s{mode::direct, echo};
  plain_client below{s.port};
  CHECK(s.wait_for(0, is_secure).handshake == error::no_protocol_option);
  CHECK(below.read(1).empty());
}

TEST_CASE("old protocol versions, and none at all, are refused with an alert") {
  tls_server s{echo};
  for (int version : {TLS1_VERSION, TLS1_1_VERSION}) {
    plain_client below{s.port};
    tls_client c{below, {.version = version}};
    CHECK_FALSE(c.is_connected());
  }
  plain_client garbage{s.port};
  garbage.send("GET / HTTP/1.1\r\n\r\n");
  auto f = s.wait_for(2, has_ended);
  CHECK(*f.handshake);
  CHECK(f.received == 0);
  for (std::string_view bytes : {std::string_view{"\x16\x03\x01\x40\x00\x01\x00\xff\xff\xff", 10}, std::string_view{"\x80\x2e\x01", 3},
                                 std::string_view{"\0\0\0\0\0\0\0\0", 8}}) {
    plain_client c{s.port};
    c.send(bytes);
    ::shutdown(c.fd(), SHUT_WR);
    c.read(1'000);
  }
  for (std::size_t i = 3; i < 6; ++i)
    CHECK(*s.wait_for(i, has_ended).handshake);
}

TEST_CASE("STARTTLS: plain bytes first, then TLS on the same socket") {
  tls_server s{[](connection& c) {
    if (c.socket().is_tls())
      return echo(c);
    if (std::exchange(c.in, {}) == "<starttls/>") {
      c.send("<proceed/>");
      c.start_tls();
    }
  }, {}, mode::plain};
  plain_client below{s.port};
  below.send("<starttls/>");
  REQUIRE(below.read(10) == "<proceed/>");
  tls_client c{below};
  REQUIRE_MESSAGE(c.is_connected(), c.problem());
  CHECK(c.send("<stream>"));
  CHECK(c.read(8) == "<stream>");

  SUBCASE("what comes in the clear behind the answer is never read as if it had been protected") {
    plain_client evil{s.port};
    evil.send("<starttls/>");
    REQUIRE(evil.read(10) == "<proceed/>");
    evil.send("<auth/>");
    auto f = s.wait_for(1, has_ended);
    CHECK(*f.handshake);
    CHECK(f.received == 11);
  }
}

TEST_CASE("a slow handshake keeps nobody else waiting") {
  tls_server s{echo};
  // a client hello recorded from a client whose server is silent, then sent a byte at a time
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context{SSL_CTX_new(TLS_client_method()), SSL_CTX_free};
  std::unique_ptr<SSL, void (*)(SSL*)> ssl{SSL_new(context.get()), SSL_free};
  SSL_set_fd(ssl.get(), pair[0]);
  ::shutdown(pair[1], SHUT_WR);
  SSL_connect(ssl.get());
  char hello[4'096];
  auto size = recv(pair[1], hello, sizeof hello, 0);
  ::close(pair[0]);
  ::close(pair[1]);
  REQUIRE(size > 100);
  plain_client slow{s.port};
  for (ssize_t i = 0; i < size; ++i) {
    slow.send({hello + i, 1});
    if (i % 100 == 50) {
      plain_client below{s.port};
      tls_client c{below};
      REQUIRE(c.is_connected());
      CHECK(c.send("quick"));
      CHECK(c.read(5) == "quick");
    }
  }
  CHECK(slow.read(1) == "\x16"); // the server's hello
}

TEST_CASE("peers that vanish: before, within and after the handshake, and while much is being sent") {
  tls_server s{[](connection& c) {
    std::string much(5'000'000, 'x');
    c.in.clear();
    c.send(much);
  }};
  { plain_client gone{s.port}; }
  { plain_client reset{s.port}; reset.reset(); }
  { plain_client half{s.port}; half.send({"\x16\x03\x01\x02\x00\x01\x00", 7}); half.reset(); }
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(*s.wait_for(i, has_ended).handshake);
  {
    plain_client below{s.port};
    tls_client c{below};
    REQUIRE(c.is_connected());
    s.wait_for(3, is_secure);
  } // a FIN without close_notify could be an attacker's
  CHECK(s.wait_for(3, has_ended).end == net::asio::ssl::error::stream_truncated);
  {
    plain_client below{s.port};
    tls_client c{below};
    REQUIRE(c.is_connected());
    CHECK(c.send("go"));
    CHECK(c.read(100'000).size() == 100'000);
    below.reset();
  }
  CHECK(*s.wait_for(4, has_ended).end);
  plain_client below{s.port};
  tls_client c{below};
  REQUIRE(c.is_connected());
  CHECK(SSL_shutdown(c.native()) >= 0);
  CHECK(s.wait_for(5, has_ended).end == error::eof);
}

TEST_CASE("what a full socket refused under TLS can be offered again, at least must_repeat() of it") {
  constexpr std::size_t size = 20'000'000;
  std::atomic<std::size_t> repeated{0}, taken_back{0};
  std::string expected;
  auto byte = [](std::size_t i) { return static_cast<char>('a' + i % 23); };
  tls_server s{[&](connection& c) {
    c.in.clear();
    auto& socket = c.socket();
    int little = 32'768;
    setsockopt(socket.native_handle(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
    std::string out(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
      out[i] = byte(i);
    net::error_code ec;
    auto n = socket.write_some(out.data(), out.size(), ec);
    CHECK(ec == error::would_block);
    CHECK(n < size);
    repeated = socket.must_repeat();
    taken_back = size - n - socket.must_repeat();
    auto rest = out.substr(n, socket.must_repeat()) + "END"; // the rest was thought better of
    auto self = c.shared_from_this();
    socket.wait_writable([self, rest](const net::error_code&) { self->send(rest); });
    expected = out.substr(0, n) + rest;
  }};
  plain_client below{s.port};
  tls_client c{below};
  REQUIRE(c.is_connected());
  CHECK(c.send("go"));
  std::string all;
  while (!all.ends_with("END") && all.size() < size) {
    auto more = c.read_some();
    if (more.empty())
      break;
    all += more;
  }
  CHECK(repeated > 0);
  CHECK(repeated <= 16'384);
  CHECK(taken_back > 0);
  bool is_same = all == s.on.ask([&] { return expected; });
  CHECK(is_same);
}

TEST_CASE("what comes in one segment with the client's last message of the handshake is read at once") {
  for (int version : {TLS1_3_VERSION, TLS1_2_VERSION}) {
    tls_server s{echo};
    plain_client below{s.port};
    int one = 1, zero = 0;
    setsockopt(below.fd(), IPPROTO_TCP, TCP_CORK, &one, sizeof one);
    tls_client c{below, {.version = version}};
    REQUIRE(c.is_connected());
    CHECK(c.send("first"));
    CHECK(c.send("second"));
    setsockopt(below.fd(), IPPROTO_TCP, TCP_CORK, &zero, sizeof zero);
    CHECK(c.read(11) == "firstsecond");
  }
}

TEST_CASE("half a record is waited for without spinning") {
  tls_server s{echo};
  plain_client below{s.port};
  tls_client c{below};
  REQUIRE(c.is_connected());
  // the record goes through a pipe of our own, so that it can be cut
  BIO* memory = BIO_new(BIO_s_mem());
  SSL_set0_wbio(c.native(), memory);
  CHECK(c.send("whole"));
  char* data = nullptr;
  auto size = BIO_get_mem_data(memory, &data);
  std::string record{data, static_cast<std::size_t>(size)};
  below.send(record.substr(0, 10));
  std::this_thread::sleep_for(100ms);
  std::atomic<int> turns{0};
  s.on.ask([&] {
    s.on.loop().at_end_of_turn([&] { return ++turns < 0; });
    return 0;
  });
  std::this_thread::sleep_for(300ms);
  CHECK(turns < 20);
  below.send(record.substr(10));
  CHECK(c.read(5) == "whole");
  s.on.ask([&] {
    s.on.loop().at_end_of_turn(nullptr);
    return 0;
  });
}

TEST_CASE("key updates while data flows, many in a row, and one that wants an answer") {
  tls_server s{echo};
  plain_client below{s.port};
  tls_client c{below};
  REQUIRE(c.is_connected());
  for (int i = 0; i < 50; ++i) {
    REQUIRE(SSL_key_update(c.native(), i % 2 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    if (i % 5 == 0) {
      REQUIRE(c.send("data"));
      REQUIRE(c.read(4) == "data");
    } else {
      REQUIRE(SSL_do_handshake(c.native()) == 1);
    }
  }
}

TEST_CASE("a flood of key updates does not keep the loop in one read") {
  tls_server s{echo};
  plain_client below{s.port};
  tls_client c{below};
  REQUIRE(c.is_connected());
  BIO* memory = BIO_new(BIO_s_mem()); // all at once, so that the socket is never empty
  SSL_set0_wbio(c.native(), memory);
  for (int i = 0; i < 30'000; ++i) {
    REQUIRE(SSL_key_update(c.native(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    REQUIRE(SSL_do_handshake(c.native()) == 1);
  }
  CHECK(c.send("x"));
  char* data = nullptr;
  auto size = BIO_get_mem_data(memory, &data);
  REQUIRE(size > 600'000);
  auto reads = s.reads.load();
  below.send({data, static_cast<std::size_t>(size)});
  CHECK(c.read(1) == "x");
  CHECK(s.reads.load() - reads >= 30); // OpenSSL reads 16 KB at a time
}

TEST_CASE("renegotiation is refused") {
  tls_server s{echo};
  plain_client below{s.port};
  tls_client c{below, {.version = TLS1_2_VERSION}};
  REQUIRE(c.is_connected());
  REQUIRE(SSL_renegotiate(c.native()) == 1);
  CHECK(SSL_do_handshake(c.native()) != 1);
  CHECK(ERR_GET_REASON(ERR_peek_error()) == SSL_R_NO_RENEGOTIATION);
}

TEST_CASE("a socket may go while its handshake waits, even in the turn in which it became ready") {
  for (int round = 0; round < 20; ++round) {
    net::loop l;
    folder files;
    if (round == 0)
      make_certificate(files, "a");
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    net::tls_identity_source ids;
    make_certificate(files, "a");
    ids.put("a", *net::make_server_context(files / "a.pem", files / "a.key"));
    auto socket = std::make_unique<net::client_socket>(net::adopt(l, pair[0], false));
    bool was_called = false;
    socket->start_tls(ids, [&](const net::error_code&) { was_called = true; });
    l.step(5);
    REQUIRE(::send(pair[1], "garbage!", 8, 0) == 8);
    l.post([&] { socket = nullptr; }); // before or behind the handler that is ready now
    if (round % 2)
      l.post([] {});
    l.step(5);
    CHECK_FALSE(was_called);
    ::close(pair[1]);
  }
}

TEST_CASE("a peer that takes nothing for too long is timed out by the kernel; who is only silent is asked") {
  server s{mode::plain, [](connection& c) {
             c.socket().watch_peer(100s, 1s);
             c.send(std::string(20'000'000, 'x'));
           }};
  plain_client c{s.port};
  c.send("go");
  auto f = s.wait_for(0, has_ended);
  CHECK((*f.end == error::timed_out || *f.end == error::eof)); // the kernel says why once; a write may have asked first
}

TEST_CASE("the address that a proxy named is the peer's") {
  server s{mode::plain, [](connection& c) {
             c.socket().set_peer(*net::parse_address("2001:db8::7", 7));
             c.send(c.socket().peer() + ' ' + c.socket().peer_address());
             c.finish();
           }};
  plain_client c{s.port};
  c.send("x");
  CHECK(c.read(100) == "[2001:db8::7]:7 2001:db8::/64");
}

TEST_CASE("abort sends a reset, close a FIN") {
  for (bool is_abort : {true, false}) {
    server s{mode::plain, [&](connection& c) { is_abort ? c.socket().abort() : c.socket().close(); }};
    plain_client c{s.port};
    c.send("x");
    CHECK(c.read(1).empty());
    CHECK(errno == (is_abort ? ECONNRESET : 0));
  }
}

TEST_CASE("connections opened and dropped leave descriptors and memory where they were") {
  auto* is_long = std::getenv("COVEY_TEST_LONG");
  const int rounds = is_long && *is_long ? 50 : 1;
  tls_server s{echo};
  std::size_t next = 0;
  auto round = [&](int n) {
    for (int i = 0; i < n; ++i, ++next) {
      plain_client below{s.port};
      REQUIRE(below.is_connected());
      if (i % 10 == 0) {
        tls_client c{below, {.version = i % 20 ? TLS1_2_VERSION : TLS1_3_VERSION}};
        REQUIRE(c.is_connected());
        CHECK(c.send("x"));
        CHECK(c.read(1) == "x");
      } else if (i % 3 == 0) {
        below.send({"\x16\x03\x01\x02\x00\x01\x00", 7});
      }
      if (i % 2)
        below.reset();
    }
    CHECK(s.wait([&](auto& all) { return all.size() == next && std::ranges::all_of(all, has_ended); }));
    s.on.ask([] { return 0; });
    s.forget();
    next = 0;
  };
  round(200); // pools and caches fill
  auto descriptors = open_descriptors();
  auto before = mallinfo2().uordblks;
  for (int i = 0; i < rounds; ++i)
    round(2'000);
  CHECK(open_descriptors() == descriptors);
  auto after = mallinfo2().uordblks;
  MESSAGE("heap in use before and after: " << before << ", " << after);
  CHECK(after < before + 200'000); // 100 bytes a connection would be a leak
}
