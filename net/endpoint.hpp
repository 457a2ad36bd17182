// An address and a port as plain bytes: what limits count, logs show and PROXY headers carry.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace net {

struct endpoint {
  std::array<std::uint8_t, 16> bytes{}; // network order; IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)
  std::uint16_t port = 0;
  bool operator==(const endpoint&) const = default;
  [[nodiscard]] bool is_v4() const;
};

[[nodiscard]] endpoint v4_endpoint(std::string_view four_bytes, std::uint16_t port);
/// "192.0.2.1" or "2001:db8::1". Nothing: neither.
[[nodiscard]] std::optional<endpoint> parse_address(const std::string& text, std::uint16_t port = 0);
/// Of the peer of a connected descriptor; nothing if it is gone already, or no IP peer.
[[nodiscard]] std::optional<endpoint> peer_of(int fd);

[[nodiscard]] std::string address_text(const endpoint& e); // "127.0.0.1" or "::1"
[[nodiscard]] std::string to_text(const endpoint& e);      // "127.0.0.1:40000" or "[::1]:40000"
/// What limits go by: the address, of an IPv6 one its /64.
[[nodiscard]] std::string limited_text(const endpoint& e);

/// "10.0.0.0/8", "2001:db8::/32" or a single address.
struct network {
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t prefix = 128; // bits of `bytes`: 96 more than written for IPv4
  [[nodiscard]] bool contains(const endpoint& e) const;
};
/// Nothing: no address, a prefix that is too long, or bits set behind it.
[[nodiscard]] std::optional<network> parse_network(const std::string& text);

} // namespace net
