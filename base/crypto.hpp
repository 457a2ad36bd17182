// libcrypto behind a few functions. All are any-thread; those that burn time say so.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace base::crypto {

enum class hash : std::uint8_t { sha1, sha256, sha512 };
[[nodiscard]] std::size_t size_of(hash h);
[[nodiscard]] std::string digest(hash h, std::string_view data);
[[nodiscard]] std::string hmac(hash h, std::string_view key, std::string_view data);
/// Hi() of RFC 5802 section 2.2. Burns about 0.3 ms per 1,000 iterations: never on a reactor.
[[nodiscard]] std::string pbkdf2(hash h, std::string_view password, std::string_view salt,
                                 std::uint32_t iterations);
/// Without a branch on the contents; sizes may differ (then false).
[[nodiscard]] bool equal_in_constant_time(std::string_view a, std::string_view b);
/// Equal sizes only.
[[nodiscard]] std::string exclusive_or(std::string_view a, std::string_view b);
/// Overwrites a secret before its memory is given back.
void wipe(std::string& secret);

} // namespace base::crypto
