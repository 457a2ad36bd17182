// The session's id and a keyed hash of it; base64.
#include "actors/resumption.hpp"
#include "base/crypto.hpp"

namespace actors {

namespace {
constexpr std::size_t size = 8 + 16;

std::string sealed(std::uint64_t session, const base::siphash_key& key) {
  std::string bytes;
  base::put_be64(bytes, session);
  auto mac = base::siphash128(bytes, key);
  base::put_be64(bytes, mac.a);
  base::put_be64(bytes, mac.b);
  return bytes;
}
} // namespace

std::string resumption_text(std::uint64_t session, const base::siphash_key& key) {
  return base::to_base64(sealed(session, key));
}

std::optional<std::uint64_t> parse_resumption(std::string_view text, const base::siphash_key& key) {
  if (text.size() > 2 * size)
    return std::nullopt;
  auto bytes = base::from_base64(text);
  if (!bytes || bytes->size() != size)
    return std::nullopt;
  auto session = base::get_be64(*bytes);
  return base::crypto::equal_in_constant_time(sealed(session, key), *bytes) ? std::optional{session} : std::nullopt;
}

} // namespace actors
