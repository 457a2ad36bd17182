// Where a virtual host's secrets come from: one asynchronous interface. SCRAM keys, or yes or no to a
// password; the store behind it may be ours, LDAP, SQL or a program.
#pragma once
#include "base/crypto.hpp"
#include "base/result.hpp"
#include <cstdint>
#include <functional>
#include <string>

namespace xmpp::sasl {

/// What is kept instead of a password, one per hash (RFC 5802 section 3). Bytes, not base64.
struct scram_keys {
  std::string salt;
  std::uint32_t iterations = 0;
  std::string stored_key, server_key;
  friend bool operator==(const scram_keys&, const scram_keys&) = default;
};

/// For logs and rules; what the client hears of the first three is one and the same.
enum class credentials_errc : std::uint8_t {
  no_such_user,   // or one without keys for this hash
  disabled,
  wrong_password, // check_password only
  unavailable,    // the store does not answer, is overloaded, or refuses more attempts for now
};

using keys_answer = base::result<scram_keys, credentials_errc>;
using password_answer = base::result<void, credentials_errc>;

class credentials {
public:
  virtual ~credentials() = default;
  /// `local` is prepared (nodeprep). `then` is called once, on any thread, perhaps before this
  /// returns. Keys of an account that is disabled are not given out.
  virtual void find_keys(std::string local, base::crypto::hash h, std::function<void(keys_answer)> then) = 0;
  /// As above. Takes as long for an unknown user as for a known one (see fake_keys, matches).
  virtual void check_password(std::string local, std::string password,
                              std::function<void(password_answer)> then) = 0;
  /// False where only a yes or no to a password can be had (LDAP bind, PAM): PLAIN alone is offered.
  [[nodiscard]] virtual bool offers_scram() const = 0;
};

} // namespace xmpp::sasl
