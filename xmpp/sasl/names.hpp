// The mechanisms by name, and what a list of them says of each.
#pragma once
#include "base/crypto.hpp"
#include <optional>
#include <string_view>

namespace xmpp::sasl {

/// Strongest first, as they are offered. HT-* (draft-schmaus-kitten-sasl-ht) take a token instead of a password and
/// are offered inside <fast/> alone (XEP-0484).
enum class mechanism_kind : std::uint8_t {
  external,
  scram_sha512_plus, scram_sha256_plus, scram_sha1_plus, scram_sha512, scram_sha256, scram_sha1,
  plain,
  anonymous,
  ht_sha256_exporter, ht_sha256_end_point, ht_sha256_none,
};
inline constexpr mechanism_kind all_mechanisms[] = {
    mechanism_kind::external, mechanism_kind::scram_sha512_plus, mechanism_kind::scram_sha256_plus,
    mechanism_kind::scram_sha1_plus, mechanism_kind::scram_sha512, mechanism_kind::scram_sha256,
    mechanism_kind::scram_sha1, mechanism_kind::plain, mechanism_kind::anonymous};
inline constexpr mechanism_kind token_mechanisms[] = {
    mechanism_kind::ht_sha256_exporter, mechanism_kind::ht_sha256_end_point, mechanism_kind::ht_sha256_none};

[[nodiscard]] std::string_view name_of(mechanism_kind k); // "SCRAM-SHA-256-PLUS"
[[nodiscard]] std::optional<mechanism_kind> parse_mechanism(std::string_view name);
[[nodiscard]] constexpr bool is_plus(mechanism_kind k) {
  return k >= mechanism_kind::scram_sha512_plus && k <= mechanism_kind::scram_sha1_plus;
}
[[nodiscard]] constexpr bool is_scram(mechanism_kind k) {
  return k >= mechanism_kind::scram_sha512_plus && k <= mechanism_kind::scram_sha1;
}
[[nodiscard]] constexpr bool is_token(mechanism_kind k) { return k >= mechanism_kind::ht_sha256_exporter; }
/// Who logs in by it knows the password.
[[nodiscard]] constexpr bool takes_password(mechanism_kind k) { return is_scram(k) || k == mechanism_kind::plain; }
/// SCRAM only.
[[nodiscard]] base::crypto::hash hash_of(mechanism_kind k);
/// "SCRAM-SHA-256": the mechanism without channel binding.
[[nodiscard]] std::string_view scram_name(base::crypto::hash h);

} // namespace xmpp::sasl
