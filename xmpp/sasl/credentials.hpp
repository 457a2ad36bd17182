// Where a virtual host's secrets come from: one asynchronous interface. SCRAM keys, yes or no to a password, tokens;
// the store behind it may be ours, LDAP, SQL or a program.
#pragma once
#include "base/result.hpp"
#include "xmpp/sasl/names.hpp"
#include <functional>
#include <optional>
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
  no_such_user,   // or one without keys for this hash, or a client without tokens
  disabled,
  wrong_password, // check_password only
  unavailable,    // the store does not answer, is overloaded, or refuses more attempts for now
  changed,        // the account or its tokens are no longer what was verified
};

/// An account as it was when its keys were read or its password was checked.
struct account_facts {
  std::uint64_t version = 0; // whoever changes the account because of this login names it
  std::uint8_t hashes = 0;   // bits: there are keys for these
  [[nodiscard]] bool has(base::crypto::hash h) const { return (hashes >> static_cast<unsigned>(h)) & 1; }
  void add(base::crypto::hash h) { hashes = static_cast<std::uint8_t>(hashes | 1u << static_cast<unsigned>(h)); }
};
struct known_keys : scram_keys {
  account_facts facts;
  known_keys(scram_keys k = {}, account_facts f = {}) : scram_keys(std::move(k)), facts(f) {} // NOLINT: keys are keys
};

using keys_answer = base::result<known_keys, credentials_errc>;
using account_answer = base::result<account_facts, credentials_errc>;

// --- tokens (XEP-0484)

/// Bound to one account, one client (the id of its user agent) and one mechanism.
struct token {
  std::string secret;        // as the client was given it: the key of HT-*
  mechanism_kind mechanism = mechanism_kind::ht_sha256_none;
  std::uint32_t count = 0;   // the highest that came with it
  bool is_expired = false;
  bool is_due = false;       // for rotation
  bool supersedes = false;   // its use ends an older one that is still there
};
/// At most two of one client (section 5.1): handed out and never used; the last one used.
struct client_tokens {
  std::optional<token> fresh, current;
};
/// What one login changes. The token that it used must still be there, and the count be higher than any before:
/// both are looked at again when the change is made.
struct token_change {
  std::string local, client;
  std::uint64_t account_version = 0; // the login used no token: of account_facts
  std::string used;                  // else its secret: older ones go
  std::optional<std::uint32_t> count;
  bool invalidate = false;           // the token that was used goes, too
  std::optional<mechanism_kind> issue; // a new one for this mechanism
};
struct issued_token {
  std::string secret;
  std::string expires; // XEP-0082
};
using tokens_answer = base::result<client_tokens, credentials_errc>;
using token_change_answer = base::result<std::optional<issued_token>, credentials_errc>;

class credentials {
public:
  virtual ~credentials() = default;
  /// `local` is prepared (nodeprep). `then` is called once, on any thread, perhaps before this
  /// returns. Keys of an account that is disabled are not given out. The same holds for all below.
  virtual void find_keys(std::string local, base::crypto::hash h, std::function<void(keys_answer)> then) = 0;
  /// Takes as long for an unknown user as for a known one (see fake_keys, matches).
  virtual void check_password(std::string local, std::string password, std::function<void(account_answer)> then) = 0;
  /// For who proves by other means who he is: does the account exist?
  virtual void find_account(std::string local, std::function<void(account_answer)> then) = 0;
  /// Adds keys that the account lacks, if it is still of `version` (else `changed`). Answers with the new facts.
  virtual void add_keys(std::string local, std::uint64_t version, base::crypto::hash h, scram_keys keys,
                        std::function<void(account_answer)> then) = 0;
  virtual void find_tokens(std::string local, std::string client, std::function<void(tokens_answer)> then) = 0;
  virtual void change_tokens(token_change what, std::function<void(token_change_answer)> then) = 0;
  /// False where only a yes or no to a password can be had (LDAP bind, PAM): PLAIN alone is offered.
  [[nodiscard]] virtual bool offers_scram() const = 0;
};

} // namespace xmpp::sasl
