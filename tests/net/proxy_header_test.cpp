// PROXY headers: what is good, in pieces of any size, and every way in which one can be wrong. Addresses.
#include "net/address_counter.hpp"
#include "net/proxy_header.hpp"
#include <doctest/doctest.h>
#include <random>

using net::parse_proxy_header;
using net::proxy_errc;
using namespace std::string_literals;

namespace {
const auto signature = "\r\n\r\n\0\r\nQUIT\n"s;
const auto v4 = "\xc0\x00\x02\x01\x0a\x00\x00\x01\x9c\x40\x14\x66"s; // 192.0.2.1:40000 to 10.0.0.1:5222
const auto v6 = "\x20\x01\x0d\xb8"s + std::string(11, '\0') + "\x07" + std::string(16, '\x01') + "\x9c\x40\x14\x66";

std::string be16(std::size_t n) { return {static_cast<char>(n >> 8), static_cast<char>(n)}; }
std::string header_2(unsigned char command, unsigned char family, const std::string& rest) {
  return signature + static_cast<char>(command) + static_cast<char>(family) + be16(rest.size()) + rest;
}
std::string addition(unsigned char type, const std::string& value) { return static_cast<char>(type) + be16(value.size()) + value; }

/// Who the client is ("": the proxy's own address counts), or the name of what is wrong.
std::string read(const std::string& in) {
  auto h = parse_proxy_header(in);
  return !h ? std::string{net::name_of(h.error())} : h->source ? to_text(*h->source) : "";
}

/// Good headers, with what they say.
const std::pair<std::string, std::string> good[] = {
    {"PROXY TCP4 192.0.2.1 10.0.0.1 40000 5222\r\n", "192.0.2.1:40000"},
    {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"},
    {"PROXY TCP6 2001:db8::7 ::1 40000 5222\r\n", "[2001:db8::7]:40000"},
    {"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 5222\r\n", "192.0.2.1:0"},
    {"PROXY UNKNOWN\r\n", ""},
    {"PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n", ""},
    {header_2(0x21, 0x11, v4), "192.0.2.1:40000"},
    {header_2(0x21, 0x21, v6), "[2001:db8::7]:40000"},
    {header_2(0x21, 0x31, std::string(216, 'x')), ""},             // a unix socket
    {header_2(0x20, 0x00, ""), ""},                                // LOCAL
    {header_2(0x20, 0x11, v4), ""},                                // LOCAL: addresses are of no meaning
    {header_2(0x20, 0xff, "anything"), ""},
    {header_2(0x21, 0x00, ""), ""},                                // UNSPEC
    {header_2(0x21, 0x11, v4 + addition(1, "h2") + addition(0xe0, "")), "192.0.2.1:40000"},
    {header_2(0x21, 0x11, v4 + addition(4, std::string(3'000, '\0'))), "192.0.2.1:40000"},
    {header_2(0x21, 0x11, v4 + addition(2, "example.org") + addition(3, "\xa5\x8a\xbf\xc7"s)), "192.0.2.1:40000"},
};
} // namespace

TEST_CASE("PROXY headers of both versions say who the client is") {
  for (auto& [in, says] : good) {
    CAPTURE(says);
    CHECK(read(in) == says);
    auto h = parse_proxy_header(in + "<?xml version='1.0'?>");
    REQUIRE(h);
    CHECK(h->size == in.size()); // what follows is the client's
  }
}

TEST_CASE("PROXY headers: each piece is good so far, down to single bytes") {
  for (auto& [in, says] : good)
    for (std::size_t n = 0; n < in.size(); ++n) {
      CAPTURE(n);
      auto h = parse_proxy_header(std::string_view{in}.substr(0, n));
      REQUIRE_FALSE(h);
      REQUIRE(h.error() == proxy_errc::incomplete);
    }
}

TEST_CASE("PROXY headers that are refused") {
  const std::pair<std::string, std::string> table[] = {
      {"<?xml", "missing"},
      {"\x16\x03\x01", "missing"},
      {"GET / HTTP/1.1\r\n", "missing"},
      {"proxy TCP4 192.0.2.1 10.0.0.1 40000 5222\r\n", "missing"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 40000 5222\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 40000\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 40000 5222 1\r\n", "malformed"},
      {"PROXY TCP4  192.0.2.1 10.0.0.1 40000 5222\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 40000 65536\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 -1 5222\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0.1 040 5222\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.01 10.0.0.1 40000 5222\r\n", "malformed"},
      {"PROXY TCP4 192.0.2 10.0.0.1 40000 5222\r\n", "malformed"},
      {"PROXY TCP4 192.0.2.1 10.0.0 40000 5222\r\n", "malformed"},
      {"PROXY TCP4 ::1 ::1 40000 5222\r\n", "malformed"},
      {"PROXY TCP6 192.0.2.1 10.0.0.1 40000 5222\r\n", "malformed"},
      {"PROXY TCP6 fe80::1%eth0 ::1 40000 5222\r\n", "malformed"},
      {"PROXY UDP4 192.0.2.1 10.0.0.1 40000 5222\r\n", "malformed"},
      {"PROXY \r\n", "malformed"},
      {"PROXY UNKNOWN " + std::string(93, 'x') + "\r\n", "too long"}, // 109 bytes
      {"PROXY " + std::string(200, 'x'), "too long"},
      {header_2(0x11, 0x11, v4), "malformed"},                       // version 1 in version 2
      {header_2(0x22, 0x11, v4), "malformed"},                       // a command that does not exist
      {header_2(0x21, 0x12, v4), "malformed"},                       // datagrams
      {header_2(0x21, 0x41, v4), "malformed"},
      {header_2(0x21, 0x11, v4.substr(1)), "malformed"},
      {header_2(0x21, 0x21, v4), "malformed"},
      {header_2(0x21, 0x31, v6), "malformed"},
      {header_2(0x21, 0x11, v4 + "\x01"), "malformed"},              // half an addition
      {header_2(0x21, 0x11, v4 + "\x01\x00\x05"s + "h2"), "malformed"},
      {header_2(0x21, 0x11, v4 + addition(3, "abc")), "malformed"},
      {header_2(0x21, 0x11, v4 + addition(3, "abcd")), "bad checksum"},
      {header_2(0x21, 0x11, v4 + addition(4, std::string(5'000, '\0'))), "too long"},
      {signature + "\x21\x11\xff\xff"s, "too long"},                 // before any of it is waited for
  };
  for (auto& [in, why] : table) {
    CAPTURE(in);
    CHECK(read(in) == why);
  }
  CHECK(read("PROXY UNKNOWN " + std::string(91, 'x') + "\r\n") == ""); // the longest that version 1 has
}

TEST_CASE("PROXY headers: a changed byte is refused, or changes nothing but what it says") {
  std::mt19937 random{5};
  for (int i = 0; i < 20'000; ++i) {
    auto in = good[random() % std::size(good)].first;
    in[random() % in.size()] = static_cast<char>(random());
    auto h = parse_proxy_header(in);
    if (h)
      REQUIRE(h->size <= in.size());
  }
}

TEST_CASE("addresses: as text, as a key, in a network") {
  auto a = *net::parse_address("192.0.2.1", 5), b = *net::parse_address("2001:db8:1:2:3::4", 6);
  CHECK(to_text(a) == "192.0.2.1:5");
  CHECK(to_text(b) == "[2001:db8:1:2:3::4]:6");
  CHECK(limited_text(a) == "192.0.2.1");
  CHECK(limited_text(b) == "2001:db8:1:2::/64");
  CHECK(*net::parse_address("::ffff:192.0.2.1", 5) == a); // IPv4 within IPv6 is IPv4
  CHECK(net::key_of(b) == net::key_of(*net::parse_address("2001:db8:1:2::")));
  CHECK_FALSE(net::key_of(a) == net::key_of(b));
  for (auto bad : {"", "localhost", "1.2.3", "1.2.3.4.5", "::g", "[::1]", "1.2.3.4 "}) {
    CAPTURE(bad);
    CHECK_FALSE(net::parse_address(bad));
  }
  struct { const char* network; const char* address; bool is_in; } table[] = {
      {"192.0.2.0/24", "192.0.2.255", true}, {"192.0.2.0/24", "192.0.3.0", false}, {"192.0.2.1", "192.0.2.1", true},
      {"192.0.2.1", "192.0.2.2", false},     {"0.0.0.0/0", "203.0.113.9", true},   {"0.0.0.0/0", "2001:db8::1", false},
      {"10.128.0.0/9", "10.200.1.1", true},  {"10.128.0.0/9", "10.127.1.1", false}, {"::/0", "2001:db8::1", true},
      {"2001:db8::/33", "2001:db8:7fff::", true}, {"2001:db8::/33", "2001:db8:8000::", false}, {"::1", "::1", true},
  };
  for (auto& t : table) {
    CAPTURE(t.network);
    CAPTURE(t.address);
    auto n = net::parse_network(t.network);
    REQUIRE(n);
    CHECK(n->contains(*net::parse_address(t.address)) == t.is_in);
  }
  for (auto bad : {"", "/8", "10.0.0.0/33", "10.0.0.1/8", "::/129", "2001:db8::1/64", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "net/8"}) {
    CAPTURE(bad);
    CHECK_FALSE(net::parse_network(bad));
  }
}
