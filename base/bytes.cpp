// Hex, base64, and the two hashes: a fast seeded one for tables, SipHash for ids that nobody may guess.
#include "base/bytes.hpp"
#include <array>
#include <random>

namespace base {

/// Defined by a simulator alone, whose runs must be the same in every process.
[[gnu::weak]] std::uint64_t simulated_hash_seed();

namespace {
constexpr char hex_digits[] = "0123456789abcdef";
constexpr char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr auto base64_values = [] {
  std::array<std::int8_t, 256> t{};
  t.fill(-1);
  for (int i = 0; i < 64; ++i)
    t[static_cast<std::uint8_t>(base64_digits[i])] = static_cast<std::int8_t>(i);
  return t;
}();

std::uint64_t load8(const char* p) {
  std::uint64_t v;
  std::memcpy(&v, p, 8);
  return v;
}
std::uint64_t load4(const char* p) {
  std::uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  auto r = static_cast<unsigned __int128>(a) * b;
  return static_cast<std::uint64_t>(r) ^ static_cast<std::uint64_t>(r >> 64);
}
/// Once per process, so that nobody can prepare names that collide; before every other static object,
/// as what one of them hashed must be found later.
struct process_seed {
  std::uint64_t value = [] {
    if (simulated_hash_seed)
      return simulated_hash_seed();
    std::random_device d;
    return std::uint64_t{d()} << 32 | d();
  }();
};
__attribute__((init_priority(101))) const process_seed seed;
} // namespace

std::string to_hex(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  for (auto c : bytes) {
    out.push_back(hex_digits[static_cast<std::uint8_t>(c) >> 4]);
    out.push_back(hex_digits[static_cast<std::uint8_t>(c) & 15]);
  }
  return out;
}

std::string to_base64(std::string_view in) {
  std::string out;
  out.reserve((in.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < in.size(); i += 3) {
    std::uint32_t v = 0;
    auto n = std::min<std::size_t>(3, in.size() - i);
    for (std::size_t k = 0; k < 3; ++k)
      v = v << 8 | (k < n ? static_cast<std::uint8_t>(in[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k)
      out.push_back(k <= n ? base64_digits[v >> (18 - 6 * k) & 63] : '=');
  }
  return out;
}

std::optional<std::string> from_base64(std::string_view in) {
  if (in.size() % 4 != 0)
    return std::nullopt;
  std::string out;
  out.reserve(in.size() / 4 * 3);
  for (std::size_t i = 0; i < in.size(); i += 4) {
    bool last = i + 4 == in.size();
    std::size_t padding = last && in[i + 3] == '=' ? (in[i + 2] == '=' ? 2 : 1) : 0;
    std::uint32_t v = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      int digit = k < 4 - padding ? base64_values[static_cast<std::uint8_t>(in[i + k])] : 0;
      if (digit < 0)
        return std::nullopt;
      v = v << 6 | static_cast<std::uint32_t>(digit);
    }
    for (std::size_t k = 0; k < 3 - padding; ++k)
      out.push_back(static_cast<char>(v >> (16 - 8 * k)));
    if ((padding == 1 && (v & 0xff)) || (padding == 2 && (v & 0xffff)))
      return std::nullopt; // stray bits: two texts for one value
  }
  return out;
}

std::uint64_t hash_bytes(std::string_view s) noexcept {
  constexpr std::uint64_t k1 = 0xa0761d6478bd642f, k2 = 0xe7037ed1a0b428db;
  const char* p = s.data();
  auto n = s.size();
  std::uint64_t h = seed.value ^ n, a = 0, b = 0;
  for (; n > 16; p += 16, n -= 16)
    h = fold(load8(p) ^ k1, load8(p + 8) ^ h);
  if (n >= 8) {
    a = load8(p);
    b = load8(p + n - 8);
  } else if (n >= 4) {
    a = load4(p);
    b = load4(p + n - 4);
  } else if (n) {
    a = std::uint64_t{static_cast<std::uint8_t>(p[0])} << 16
        | std::uint64_t{static_cast<std::uint8_t>(p[n >> 1])} << 8 | static_cast<std::uint8_t>(p[n - 1]);
  }
  return fold(fold(a ^ k1, b ^ h), k2);
}

u128 siphash128(std::string_view in, siphash_key key) noexcept {
  std::uint64_t v0 = key.k0 ^ 0x736f6d6570736575, v1 = key.k1 ^ 0x646f72616e646f6d ^ 0xee,
                v2 = key.k0 ^ 0x6c7967656e657261, v3 = key.k1 ^ 0x7465646279746573;
  // always_inline: -O2 leaves the round out of line, which nearly doubles the cost
  auto rotate = [](std::uint64_t x, int s) __attribute__((always_inline)) { return x << s | x >> (64 - s); };
  auto round = [&]() __attribute__((always_inline)) {
    v0 += v1; v1 = rotate(v1, 13) ^ v0; v0 = rotate(v0, 32);
    v2 += v3; v3 = rotate(v3, 16) ^ v2;
    v0 += v3; v3 = rotate(v3, 21) ^ v0;
    v2 += v1; v1 = rotate(v1, 17) ^ v2; v2 = rotate(v2, 32);
  };
  const char* p = in.data();
  auto n = in.size();
  for (; n >= 8; p += 8, n -= 8) {
    auto m = load8(p);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  auto m = static_cast<std::uint64_t>(in.size()) << 56;
  for (std::size_t k = 0; k < n; ++k)
    m |= std::uint64_t{static_cast<std::uint8_t>(p[k])} << (8 * k);
  v3 ^= m;
  round();
  round();
  v0 ^= m;
  v2 ^= 0xee;
  for (int k = 0; k < 4; ++k)
    round();
  auto a = v0 ^ v1 ^ v2 ^ v3;
  v1 ^= 0xdd;
  for (int k = 0; k < 4; ++k)
    round();
  return {a, v0 ^ v1 ^ v2 ^ v3};
}

} // namespace base
