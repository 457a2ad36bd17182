// Networks of addresses, as an operator writes them: 192.0.2.0/24, 2001:db8::/32, or one address.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace base {

/// An IPv4 network is one of mapped addresses (RFC 4291 section 2.5.5.2), so that an address matches in either form.
struct network {
  std::array<std::uint8_t, 16> address{};
  unsigned bits = 128; // that must agree
  [[nodiscard]] bool is_v4() const { return bits >= 96 && address[10] == 0xff && address[11] == 0xff; }
  /// False for what is no address. A zone ("%eth0") or a prefix behind it is ignored.
  [[nodiscard]] bool contains(const std::string& address_text) const;
};
/// Nothing: no such network, or bits are set behind its prefix, as in 192.0.2.1/24.
[[nodiscard]] std::optional<network> parse_network(const std::string& text);

} // namespace base
