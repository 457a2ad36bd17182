// Addresses as bytes and as text.
#include "net/endpoint.hpp"
#include "base/bytes.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>

namespace net {

namespace {
constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
} // namespace

bool endpoint::is_v4() const { return std::equal(mapped.begin(), mapped.end(), bytes.begin()); }

endpoint v4_endpoint(std::string_view four_bytes, std::uint16_t port) {
  endpoint e;
  std::copy(mapped.begin(), mapped.end(), e.bytes.begin());
  std::memcpy(e.bytes.data() + mapped.size(), four_bytes.data(), 4);
  e.port = port;
  return e;
}

std::optional<endpoint> parse_address(const std::string& text, std::uint16_t port) {
  char four[4];
  if (inet_pton(AF_INET, text.c_str(), four) == 1)
    return v4_endpoint({four, sizeof four}, port);
  endpoint e;
  e.port = port;
  if (inet_pton(AF_INET6, text.c_str(), e.bytes.data()) == 1)
    return e;
  return std::nullopt;
}

std::optional<endpoint> peer_of(int fd) {
  sockaddr_storage at{};
  socklen_t size = sizeof at;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0)
    return std::nullopt;
  if (at.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<const sockaddr_in&>(at);
    return v4_endpoint({reinterpret_cast<const char*>(&v4.sin_addr), 4}, ntohs(v4.sin_port));
  }
  if (at.ss_family != AF_INET6)
    return std::nullopt;
  auto& v6 = reinterpret_cast<const sockaddr_in6&>(at);
  endpoint e;
  std::memcpy(e.bytes.data(), &v6.sin6_addr, e.bytes.size());
  e.port = ntohs(v6.sin6_port);
  return e;
}

std::string address_text(const endpoint& e) {
  char text[INET6_ADDRSTRLEN];
  if (e.is_v4())
    inet_ntop(AF_INET, e.bytes.data() + mapped.size(), text, sizeof text);
  else
    inet_ntop(AF_INET6, e.bytes.data(), text, sizeof text);
  return text;
}

std::string to_text(const endpoint& e) {
  auto address = address_text(e);
  return (e.is_v4() ? address : '[' + address + ']') + ':' + std::to_string(e.port);
}

std::string limited_text(const endpoint& e) {
  if (e.is_v4())
    return address_text(e);
  auto all = e;
  std::fill(all.bytes.begin() + 8, all.bytes.end(), 0);
  return address_text(all) + "/64";
}

bool network::contains(const endpoint& e) const {
  auto whole = prefix / 8, rest = prefix % 8;
  if (!std::equal(bytes.begin(), bytes.begin() + whole, e.bytes.begin()))
    return false;
  return rest == 0 || (bytes[whole] ^ e.bytes[whole]) >> (8 - rest) == 0;
}

std::optional<network> parse_network(const std::string& text) {
  auto slash = text.find('/');
  auto address = parse_address(text.substr(0, slash));
  if (!address)
    return std::nullopt;
  unsigned above = text.find(':') == text.npos ? 96 : 0;
  auto bits = slash == text.npos ? std::optional<unsigned>{128 - above} : base::to_number<unsigned>(std::string_view{text}.substr(slash + 1));
  if (!bits || *bits > 128 - above)
    return std::nullopt;
  network n{address->bytes, static_cast<std::uint8_t>(*bits + above)};
  for (unsigned bit = n.prefix; bit < 128; ++bit)
    if (n.bytes[bit / 8] >> (7 - bit % 8) & 1)
      return std::nullopt;
  return n;
}

} // namespace net
