// zlib streams against zlib itself: every size, bombs, garbage; sockets that are compressed, plain and under TLS.
#include "net/deflate.hpp"
#include "peers.hpp"
#include <malloc.h>
#include <random>
#include <zlib.h>

using namespace test;

namespace {
/// The peer's zlib, with its own choice of window.
struct peer {
  z_stream in{}, out{};
  explicit peer(int window_bits = 15) {
    REQUIRE(inflateInit(&in) == Z_OK);
    REQUIRE(deflateInit2(&out, 9, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  }
  ~peer() {
    inflateEnd(&in);
    deflateEnd(&out);
  }
  std::string pack(std::string_view text) {
    std::string all(compressBound(text.size()) + 100, '\0');
    out.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    out.avail_in = static_cast<uInt>(text.size());
    out.next_out = reinterpret_cast<Bytef*>(all.data());
    out.avail_out = static_cast<uInt>(all.size());
    deflate(&out, Z_SYNC_FLUSH);
    all.resize(all.size() - out.avail_out);
    return all;
  }
  std::string unpack(std::string_view bytes) {
    std::string all;
    in.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    in.avail_in = static_cast<uInt>(bytes.size());
    char piece[10'000];
    do {
      in.next_out = reinterpret_cast<Bytef*>(piece);
      in.avail_out = sizeof piece;
      auto r = inflate(&in, Z_SYNC_FLUSH);
      REQUIRE((r == Z_OK || r == Z_BUF_ERROR));
      all.append(piece, sizeof piece - in.avail_out);
    } while (in.avail_out == 0);
    return all;
  }
};

std::string some_text(std::mt19937& random, std::size_t size) {
  std::string s;
  while (s.size() < size)
    s += "<message to='juliet" + std::to_string(random() % 50) + "@example.org'><body>" + std::to_string(random()) + "</body></message>";
  s.resize(size);
  return s;
}

/// All that `bytes` becomes, in rooms of `room`.
std::string inflated(net::inflater& z, std::string_view bytes, std::size_t room, boost::system::error_code& ec) {
  std::string all;
  std::vector<char> to(room);
  do {
    auto n = z.run(bytes, to.data(), room, ec);
    REQUIRE(n <= room);
    all.append(to.data(), n);
  } while (!ec && (!bytes.empty() || z.has_more()));
  return all;
}
} // namespace

TEST_CASE("what one side deflates the other inflates, piece by piece") {
  std::mt19937 random{4};
  for (int window_bits : {9, 12, 15}) {
    peer p{window_bits};
    net::inflater in{1'000};
    net::deflater out;
    for (std::size_t size : {1u, 2u, 100u, 4'096u, 65'536u, 300'000u, 7u})
      for (std::size_t room : {1u, 100u, 65'536u}) {
        if (room == 1 && size > 5'000)
          continue;
        auto text = some_text(random, size);
        std::string packed;
        out.run(text, packed);
        CHECK(p.unpack(packed) == text);
        boost::system::error_code ec;
        auto same = inflated(in, p.pack(text), room, ec) == text;
        CHECK(same);
        CHECK_FALSE(ec);
      }
  }
}

TEST_CASE("stanzas shrink") {
  std::mt19937 random{4};
  net::deflater out;
  std::string packed;
  for (int i = 0; i < 100; ++i)
    out.run(some_text(random, 200), packed);
  MESSAGE("20,000 bytes of stanzas became " << packed.size());
  CHECK(packed.size() < 10'000);
}

TEST_CASE("a bomb is refused after the first 64 kB, also behind much honest traffic") {
  for (bool has_credit : {false, true}) {
    peer p;
    net::inflater in{100};
    boost::system::error_code ec;
    std::mt19937 random{4};
    if (has_credit)
      for (int i = 0; i < 100; ++i) {
        std::string noise(100'000, '\0');
        for (auto& c : noise)
          c = static_cast<char>(random());
        inflated(in, p.pack(noise), 65'536, ec);
        REQUIRE_FALSE(ec);
      }
    auto all = inflated(in, p.pack(std::string(200'000'000, ' ')), 65'536, ec);
    CHECK(ec == net::make_error_code(net::deflate_errc::too_dense));
    CHECK(net::is_deflate_error(ec));
    MESSAGE("let through before: " << all.size());
    CHECK(all.size() < (has_credit ? 130'000'000u : 200'000u));
  }
}

TEST_CASE("what is no zlib stream, or one that ends, is broken") {
  std::mt19937 random{4};
  int refused = 0;
  for (int i = 0; i < 2'000; ++i) {
    peer p;
    net::inflater in{100};
    auto packed = p.pack(some_text(random, 1'000));
    packed[random() % packed.size()] = static_cast<char>(random());
    boost::system::error_code ec;
    inflated(in, packed, 4'096, ec);
    refused += ec == net::make_error_code(net::deflate_errc::broken);
  }
  CHECK(refused > 500); // what is changed within a literal is only another text
  net::inflater in{100};
  boost::system::error_code ec;
  inflated(in, "<stream:stream>", 100, ec);
  CHECK(ec == net::make_error_code(net::deflate_errc::broken));
  CHECK_FALSE(net::is_deflate_error(net::asio::error::eof));
  std::string whole(200, '\0');
  uLongf size = whole.size();
  REQUIRE(compress(reinterpret_cast<Bytef*>(whole.data()), &size, reinterpret_cast<const Bytef*>("end"), 3) == Z_OK);
  whole.resize(size);
  net::inflater second{100};
  inflated(second, whole, 100, ec);
  CHECK(ec == net::make_error_code(net::deflate_errc::broken));
}

namespace {
/// Compresses from the first "go" on, then echoes; `mode` plain or direct.
server::on_bytes compressing_echo(std::uint32_t ratio) {
  return [ratio](connection& c) {
    if (c.in == "go") {
      c.in.clear();
      REQUIRE(c.socket().prepare_compression(ratio));
      c.socket().start_compression();
      return;
    }
    echo(c);
  };
}
} // namespace

TEST_CASE("a compressed socket: echo of every size, slow readers included") {
  for (auto mode : {server::mode::plain, server::mode::direct}) {
    server s{mode, compressing_echo(1'000)};
    make_certificate(s.files, "localhost");
    s.ids.put("localhost", *net::make_server_context(s.files / "localhost.pem", s.files / "localhost.key"));
    plain_client below{s.port};
    std::unique_ptr<tls_client> secure;
    if (mode == server::mode::direct) {
      secure = std::make_unique<tls_client>(below);
      REQUIRE(secure->is_connected());
    }
    auto send = [&](std::string_view bytes) { secure ? void(secure->send(bytes)) : below.send(bytes); };
    send("go");
    REQUIRE(s.wait([](auto& all) { return all.size() == 1 && all[0].received == 2; }));
    s.on.ask([] { return 0; });
    peer p;
    std::mt19937 random{7};
    for (std::size_t size : {1u, 300u, 16'384u, 16'385u, 2'000'000u}) {
      CAPTURE(size);
      auto text = some_text(random, size);
      auto packed = p.pack(text);
      std::thread writer{[&] { send(packed); }};
      std::this_thread::sleep_for(size > 100'000 ? 100ms : 0ms); // the answer does not fit into the kernel
      std::string got;
      while (got.size() < text.size()) {
        auto piece = secure ? secure->read_some() : below.read(1);
        if (piece.empty())
          break;
        got += p.unpack(piece);
      }
      writer.join();
      bool is_same = got == text;
      CHECK(is_same);
    }
  }
}

TEST_CASE("a bomb on a socket is an error, in bounded steps") {
  server s{server::mode::plain, [echo_now = compressing_echo(100)](connection& c) {
             if (c.in == "go")
               return echo_now(c);
             CHECK(c.in.size() <= 8'192); // of one read
             c.in.clear();
           }};
  plain_client c{s.port};
  c.send("go");
  REQUIRE(s.wait([](auto& all) { return all.size() == 1 && all[0].received == 2; }));
  s.on.ask([] { return 0; });
  peer p;
  c.send(p.pack(std::string(50'000'000, 'x')));
  auto f = s.wait_for(0, [](auto& x) { return x.end.has_value(); });
  CHECK(*f.end == net::make_error_code(net::deflate_errc::too_dense));
  CHECK(f.received < 200'000);
}

TEST_CASE("what compression takes, and that it is given back") {
  std::vector<std::unique_ptr<net::inflater>> in;
  std::vector<std::unique_ptr<net::deflater>> out;
  auto before = mallinfo2().uordblks + mallinfo2().hblkhd;
  for (int i = 0; i < 20; ++i) {
    in.push_back(std::make_unique<net::inflater>(100));
    out.push_back(std::make_unique<net::deflater>());
    peer p;
    boost::system::error_code ec;
    inflated(*in.back(), p.pack("<presence/>"), 100, ec);
    std::string packed;
    out.back()->run("<presence/>", packed);
  }
  auto each = (mallinfo2().uordblks + mallinfo2().hblkhd - before) / 20;
  MESSAGE("bytes of a compressed stream: " << each);
  CHECK(each < 115'000);
  in.clear();
  out.clear();
  CHECK(mallinfo2().uordblks + mallinfo2().hblkhd < before + 20'000);
}
