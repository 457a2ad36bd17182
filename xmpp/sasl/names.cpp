// Names of mechanisms (names.hpp).
#include "xmpp/sasl/names.hpp"
#include <array>
#include <cassert>

namespace xmpp::sasl {
namespace {
constexpr std::array<std::string_view, 12> names{
    "EXTERNAL", "SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256",
    "SCRAM-SHA-1", "PLAIN", "ANONYMOUS", "HT-SHA-256-EXPR", "HT-SHA-256-ENDP", "HT-SHA-256-NONE"};
} // namespace

std::string_view name_of(mechanism_kind k) { return names[static_cast<std::size_t>(k)]; }

std::optional<mechanism_kind> parse_mechanism(std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name)
      return static_cast<mechanism_kind>(i);
  return std::nullopt;
}

base::crypto::hash hash_of(mechanism_kind k) {
  using enum mechanism_kind;
  assert(is_scram(k));
  return k == scram_sha512_plus || k == scram_sha512   ? base::crypto::hash::sha512
         : k == scram_sha256_plus || k == scram_sha256 ? base::crypto::hash::sha256
                                                       : base::crypto::hash::sha1;
}

std::string_view scram_name(base::crypto::hash h) {
  using base::crypto::hash;
  return name_of(h == hash::sha512   ? mechanism_kind::scram_sha512
                 : h == hash::sha256 ? mechanism_kind::scram_sha256
                                     : mechanism_kind::scram_sha1);
}

} // namespace xmpp::sasl
