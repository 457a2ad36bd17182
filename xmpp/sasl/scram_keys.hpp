// How passwords become SCRAM keys, and the keys of accounts that do not exist (RFC 5802, RFC 4013).
#pragma once
#include "xmpp/sasl/credentials.hpp"
#include <string_view>

namespace xmpp::sasl {

enum class saslprep_errc : std::uint8_t {
  empty,      // or nothing is left after preparation
  too_long,   // over 1,024 bytes
  prohibited, // bad UTF-8, control characters, mixed directions; stored strings: unassigned too
};

/// A query may hold code points that Unicode 3.2 does not assign, a stored string may not (RFC 3454
/// section 7): what is stored must compare equal under later tables. Passwords here are prepared as
/// queries everywhere, so that emoji work; no later table changes what one of them maps to.
[[nodiscard]] base::result<std::string, saslprep_errc> saslprep(std::string_view utf8, bool allow_unassigned = true);

/// Iterations above this in a client's view cost it seconds (RFC 7677 asks for at least 4,096).
inline constexpr std::uint32_t default_iterations = 10'000;
inline constexpr std::size_t salt_size = 16;

/// Keys for a new password. Burns time: never on a reactor.
[[nodiscard]] base::result<scram_keys, saslprep_errc> make_scram_keys(base::crypto::hash h, std::string_view password,
                                                                      std::string salt, std::uint32_t iterations);
/// The keys of Hi(password), which a client has worked out itself (XEP-0480 section 3).
[[nodiscard]] scram_keys keys_of_salted(base::crypto::hash h, std::string_view salted, std::string salt,
                                        std::uint32_t iterations);
/// Is `password` the one that `keys` were made of? In constant time but for its length. Burns time.
[[nodiscard]] bool matches(base::crypto::hash h, const scram_keys& keys, std::string_view password);

/// Keys for a name without an account: stable, and not to be told from real ones without `secret`
/// (one per host, the same on all nodes). Nobody knows a password for them.
[[nodiscard]] scram_keys fake_keys(base::crypto::hash h, std::string_view secret, std::string_view local,
                                   std::uint32_t iterations = default_iterations);

} // namespace xmpp::sasl
