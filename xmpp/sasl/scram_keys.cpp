// Passwords and SCRAM keys (scram_keys.hpp). SASLprep is ICU's.
#include "xmpp/sasl/scram_keys.hpp"
#include <memory>
#include <stdexcept>
#include <unicode/usprep.h>
#include <unicode/ustring.h>
#include <vector>

namespace xmpp::sasl {
namespace {

using base::crypto::digest;
using base::crypto::hmac;
constexpr std::size_t max_password = 1'024;

const UStringPrepProfile* profile() {
  static const UStringPrepProfile* const opened = [] {
    UErrorCode status = U_ZERO_ERROR;
    auto* p = usprep_openByType(USPREP_RFC4013_SASLPREP, &status);
    if (U_FAILURE(status))
      throw std::runtime_error(std::string{"ICU has no SASLprep: "} + u_errorName(status));
    return p; // for the life of the process
  }();
  return opened;
}

std::string client_key(base::crypto::hash h, std::string_view salted) { return hmac(h, salted, "Client Key"); }

} // namespace

base::result<std::string, saslprep_errc> saslprep(std::string_view utf8, bool allow_unassigned) {
  if (utf8.empty())
    return base::fail(saslprep_errc::empty);
  if (utf8.size() > max_password)
    return base::fail(saslprep_errc::too_long);
  UErrorCode status = U_ZERO_ERROR;
  // One UTF-16 unit per byte at most; NFKC may lengthen what it decomposes, at most 18 times.
  std::vector<UChar> in(utf8.size() + 1), out(utf8.size() * 18 + 1);
  std::int32_t in_size = 0;
  u_strFromUTF8(in.data(), static_cast<std::int32_t>(in.size()), &in_size, utf8.data(),
                static_cast<std::int32_t>(utf8.size()), &status);
  if (U_FAILURE(status))
    return base::fail(saslprep_errc::prohibited);
  auto size = usprep_prepare(profile(), in.data(), in_size, out.data(), static_cast<std::int32_t>(out.size()),
                             allow_unassigned ? USPREP_ALLOW_UNASSIGNED : USPREP_DEFAULT, nullptr, &status);
  if (U_FAILURE(status))
    return base::fail(saslprep_errc::prohibited);
  if (size == 0)
    return base::fail(saslprep_errc::empty);
  std::string prepared(static_cast<std::size_t>(size) * 3 + 1, '\0');
  std::int32_t written = 0;
  u_strToUTF8(prepared.data(), static_cast<std::int32_t>(prepared.size()), &written, out.data(), size, &status);
  if (U_FAILURE(status))
    return base::fail(saslprep_errc::prohibited);
  prepared.resize(static_cast<std::size_t>(written));
  return prepared;
}

base::result<scram_keys, saslprep_errc> make_scram_keys(base::crypto::hash h, std::string_view password,
                                                        std::string salt, std::uint32_t iterations) {
  auto prepared = saslprep(password);
  if (!prepared)
    return base::fail(prepared.error());
  auto salted = base::crypto::pbkdf2(h, *prepared, salt, iterations);
  base::crypto::wipe(*prepared);
  auto keys = keys_of_salted(h, salted, std::move(salt), iterations);
  base::crypto::wipe(salted);
  return keys;
}

scram_keys keys_of_salted(base::crypto::hash h, std::string_view salted, std::string salt, std::uint32_t iterations) {
  return {std::move(salt), iterations, digest(h, client_key(h, salted)), hmac(h, salted, "Server Key")};
}

bool matches(base::crypto::hash h, const scram_keys& keys, std::string_view password) {
  auto prepared = saslprep(password);
  if (!prepared || keys.iterations == 0)
    return false;
  auto salted = base::crypto::pbkdf2(h, *prepared, keys.salt, keys.iterations);
  base::crypto::wipe(*prepared);
  bool same = base::crypto::equal_in_constant_time(digest(h, client_key(h, salted)), keys.stored_key);
  base::crypto::wipe(salted);
  return same;
}

scram_keys fake_keys(base::crypto::hash h, std::string_view secret, std::string_view local,
                     std::uint32_t iterations) {
  auto part = [&](char which) {
    std::string input{which, static_cast<char>(h)};
    return hmac(h == base::crypto::hash::sha512 ? h : base::crypto::hash::sha256, secret, input.append(local));
  };
  auto size = base::crypto::size_of(h);
  return {part('s').substr(0, salt_size), iterations, part('k').substr(0, size), part('v').substr(0, size)};
}

} // namespace xmpp::sasl
