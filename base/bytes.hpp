// Small things that every layer does with bytes: numbers, hex, base64, hashes of keys.
#pragma once
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace base {

/// The whole of `s` as a decimal number without sign or space, or nothing.
template <class T>
[[nodiscard]] std::optional<T> to_number(std::string_view s) {
  T v{};
  if (s.empty() || s[0] < '0' || s[0] > '9')
    return std::nullopt;
  auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc{} || end != s.data() + s.size())
    return std::nullopt;
  return v;
}

[[nodiscard]] std::string to_hex(std::string_view bytes);
/// Standard alphabet with padding (RFC 4648 section 4), no line breaks.
[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Strict: padding required, nothing outside the alphabet, no stray bits, or nothing.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

/// Big endian, so that byte order is number order: for keys.
inline void put_be64(std::string& out, std::uint64_t v) {
  for (int shift = 56; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(v >> shift));
}
[[nodiscard]] inline std::uint64_t get_be64(std::string_view in) {
  std::uint64_t v = 0;
  for (std::size_t i = 0; i < 8 && i < in.size(); ++i)
    v = v << 8 | static_cast<std::uint8_t>(in[i]);
  return v;
}

/// For hash tables that strangers fill: seeded at start, about 5 ns for a JID.
[[nodiscard]] std::uint64_t hash_bytes(std::string_view s) noexcept;

struct u128 {
  std::uint64_t a = 0, b = 0;
  explicit operator bool() const { return (a | b) != 0; }
  friend bool operator==(const u128&, const u128&) = default;
};
struct siphash_key { std::uint64_t k0 = 0, k1 = 0; };
/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein; the reference's vectors are a test).
[[nodiscard]] u128 siphash128(std::string_view in, siphash_key key) noexcept;

} // namespace base
