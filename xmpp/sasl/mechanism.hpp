// The server's side of SASL mechanisms as machines: messages in, what to do next out. No I/O.
#pragma once
#include "xmpp/errors.hpp"
#include "xmpp/sasl/credentials.hpp"
#include <memory>
#include <variant>
#include <vector>

namespace xmpp::sasl {

/// Channel-binding data of the TLS connection (RFC 9266, RFC 5929 section 4). Empty: not to be had.
struct channel_bindings {
  std::string tls_exporter;         // 32 bytes; on TLS 1.2 only with the extended master secret
  std::string tls_server_end_point; // hash of the server's certificate
  [[nodiscard]] bool any() const { return !tls_exporter.empty() || !tls_server_end_point.empty(); }
};

/// What a mechanism must know of the stream and its host.
struct mechanism_settings {
  std::string host;            // prepared domain
  channel_bindings bindings;
  bool offered_plus = false;   // a -PLUS mechanism was among those offered on this stream
  std::string offer;           // SCRAM: what XEP-0474 hashes (downgrade_text); empty: no such attribute
  std::string server_nonce;    // printable, without a comma, at least 18 characters of randomness
  std::string fake_secret;     // for fake_keys
  std::uint32_t fake_iterations = 10'000;
  std::vector<std::string> certified; // EXTERNAL: addresses in the client's certificate
  std::string client;          // HT-*: the id of the user agent
  std::optional<std::uint32_t> count; // HT-*: XEP-0484 section 4.4
  std::string fresh_name;      // ANONYMOUS: a local part that nobody has
};

namespace outcome {
struct challenge { std::string data; };
struct need_keys { std::string local; base::crypto::hash h; };  // answer by on_keys()
struct need_password_check { std::string local, password; };    // answer by on_account()
struct need_account { std::string local; };                     // answer by on_account()
struct need_tokens { std::string local, client; };              // answer by on_tokens()
struct success {
  jid_ref account;
  std::optional<std::string> data;
  account_facts facts = {};
  std::optional<token> used = {}; // the token that let him in
};
/// `cause` and `local` are for the log (local: as far as it is known); the client hears `why` alone.
struct failure { sasl_errc why; std::string_view cause; std::string local = {}; };
} // namespace outcome
using outcomes = std::variant<outcome::challenge, outcome::need_keys, outcome::need_password_check, outcome::need_account,
                              outcome::need_tokens, outcome::success, outcome::failure>;

/// One attempt. After success or failure it is over. Messages are bytes, already out of base64.
class mechanism {
public:
  virtual ~mechanism() = default;
  virtual outcomes step(std::string_view message) = 0;
  /// Only after need_keys.
  virtual outcomes on_keys(const keys_answer& answer);
  /// Only after need_password_check or need_account.
  virtual outcomes on_account(const account_answer& answer);
  /// Only after need_tokens.
  virtual outcomes on_tokens(const tokens_answer& answer);
};

/// How an answer of the credentials is put to the client: unknown, disabled and wrong are one.
[[nodiscard]] outcome::failure refusal_of(credentials_errc e, std::string_view local);

/// What XEP-0474 section 5.1 hashes: what was offered, sorted, between delimiters that XML cannot carry.
[[nodiscard]] std::string downgrade_text(std::vector<std::string_view> mechanisms, std::vector<std::string_view> bindings);

/// A message longer than this is malformed.
inline constexpr std::size_t max_message = 4'096;

[[nodiscard]] std::unique_ptr<mechanism> make_mechanism(mechanism_kind k, mechanism_settings s);

} // namespace xmpp::sasl
