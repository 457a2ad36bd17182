// Addresses as sixteen bytes, compared bit by bit.
#include "base/network.hpp"
#include "base/bytes.hpp"
#include <arpa/inet.h>
#include <algorithm>

namespace base {

namespace {
struct parsed { std::array<std::uint8_t, 16> bytes{}; bool is_v4 = false; };

std::optional<parsed> parse_address(const std::string& text) {
  parsed p;
  if (inet_pton(AF_INET6, text.c_str(), p.bytes.data()) == 1)
    return p;
  if (inet_pton(AF_INET, text.c_str(), p.bytes.data() + 12) != 1)
    return std::nullopt;
  p.is_v4 = true;
  std::fill_n(p.bytes.begin(), 10, std::uint8_t{0});
  p.bytes[10] = p.bytes[11] = 0xff;
  return p;
}

bool agree(const std::array<std::uint8_t, 16>& a, const std::array<std::uint8_t, 16>& b, unsigned bits) {
  for (unsigned n = 0; n < bits; n += 8) {
    auto differs = static_cast<unsigned>(a[n / 8] ^ b[n / 8]);
    if (differs >> (bits - n < 8 ? 8 - (bits - n) : 0))
      return false;
  }
  return true;
}
} // namespace

bool network::contains(const std::string& text) const {
  auto a = parse_address(text.substr(0, text.find_first_of("%/")));
  return a && agree(a->bytes, address, bits);
}

std::optional<network> parse_network(const std::string& text) {
  auto slash = text.find('/');
  auto a = parse_address(text.substr(0, slash));
  if (!a)
    return std::nullopt;
  auto most = a->is_v4 ? 32u : 128u;
  auto bits = slash == text.npos ? std::optional<unsigned>{most} : to_number<unsigned>(text.substr(slash + 1));
  if (!bits || *bits > most)
    return std::nullopt;
  network n{a->bytes, *bits + 128 - most};
  for (auto k = n.bits; k < 128; ++k)
    if (n.address[k / 8] >> (7 - k % 8) & 1)
      return std::nullopt;
  return n;
}

} // namespace base
