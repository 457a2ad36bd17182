// A client's stream from its header to a bound resource, as a machine (RFC 6120 sections 4 to 7, XEP-0388 and what it
// carries): events in, commands out, in order. No I/O, clock or actor inside.
#pragma once
#include "base/random.hpp"
#include "xmpp/errors.hpp"
#include "xmpp/sasl/mechanism.hpp"
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace xmpp::stream {

/// What one virtual host wants of its clients' streams.
struct host_settings {
  std::string domain;                        // prepared
  bool has_tls = true;                       // there is a certificate: STARTTLS can be offered
  bool require_tls = true;                   // nothing else before TLS
  bool plain_without_tls = false;            // PLAIN on a stream without TLS (require_tls off too)
  /// EXTERNAL is offered to those whose certificate names an account here, whatever else the list says of TLS.
  std::vector<sasl::mechanism_kind> mechanisms{std::begin(sasl::all_mechanisms), std::end(sasl::all_mechanisms) - 1};
  std::vector<base::crypto::hash> upgrades;  // accounts without keys for these are asked for them (XEP-0480)
  bool tokens = false;                       // XEP-0484
  std::string fake_secret;                   // for sasl::fake_keys; the same on all nodes
  std::uint32_t fake_iterations = 10'000;    // what new accounts get
  std::uint8_t max_login_attempts = 3;       // failures on one stream; then policy-violation
  /// XML of modules, offered beside SASL. In-band registration puts
  /// <register xmlns='http://jabber.org/features/iq-register'/> here (XEP-0077 section 3.4).
  std::string features_before_login;
  std::string features_after_login;          // XML of modules, offered beside bind
  /// Namespaces of IQ payloads that are taken before login (jabber:iq:register), under the same TLS
  /// rule as login. Empty: every stanza before login ends the stream.
  std::vector<std::string> namespaces_before_login;
  std::uint8_t max_requests_before_login = 10; // then policy-violation
  std::string see_other_host;                // "host" or "host:port": clients are sent there
  bool stream_management = false;            // XEP-0198 is offered; resumption too
  bool carbons = false, client_state = false; // what else <bind/> of XEP-0386 may switch on
  bool compression = false;                  // XEP-0138 is offered after login
  std::uint32_t max_bytes_before_login = 0, max_bytes = 0; // of one element (XEP-0478); 0: not told
};

/// What a client asks for together with its resource (XEP-0386 section 4): carried out by the session at once.
struct bind_extras {
  struct management { bool resume = false; std::uint32_t max_s = 0; }; // <enable/> of XEP-0198; max 0: the server's
  std::optional<management> enable_management;
  bool carbons = false;   // XEP-0280
  bool inactive = false;  // XEP-0352
};

struct tls_facts {
  std::string protocol; // "TLSv1.3"
  sasl::channel_bindings bindings;
  std::vector<std::string> client_addresses = {}; // in a certificate that was verified (XEP-0178)
};

struct settings {
  /// Null: not ours. The pointer stays valid as long as the machine; asked once per stream, at the
  /// first header, with a prepared domain. The host is frozen from then on.
  std::function<const host_settings*(std::string_view domain)> find_host;
  std::string default_domain;     // `from` of an answer where the client named no host of ours
  std::optional<tls_facts> tls;   // direct TLS: encrypted from the first byte
  base::random* random = nullptr; // stream ids, nonces, resources
  std::function<bool()> prepare_compression; // false: no memory for it; asked where a host offers it
};

namespace on {
struct opened { stream_open header; };
struct element { stanza_ref what; };
struct ended {};                                  // the client's closing tag
struct unreadable { framer_errc why; };           // the framer refused
struct injected_bytes {};                         // bytes behind <starttls/> before TLS began
struct tls_established { tls_facts facts; };
struct keys { sasl::keys_answer answer; };        // to find_keys; one each, also if late
struct password_checked { sasl::account_answer answer; }; // to check_password and find_account
struct keys_added { sasl::account_answer answer; };
struct tokens { sasl::tokens_answer answer; };
struct tokens_changed { sasl::token_change_answer answer; };
/// To bind. `inline_xml`: what the extras that were asked for answer (<enabled/> and the like).
struct bound { jid_ref full; std::string inline_xml = {}; };
struct bind_refused { stanza_error why; };
/// To resume: the earlier session is this stream's now. `h`: what it had handled of its client's stanzas.
struct resumed { jid_ref full; std::uint32_t h; };
/// To resume: there is none, or it is somebody else's. `h`: where its last count is still known.
struct resume_refused { stanza_errc why; std::optional<std::uint32_t> h = {}; };
struct refused { stream_errc why; std::string text; }; // the server ends it: deadline, shutdown, limits
} // namespace on
using event = std::variant<on::opened, on::element, on::ended, on::unreadable, on::injected_bytes,
                           on::tls_established, on::keys, on::password_checked, on::keys_added, on::tokens,
                           on::tokens_changed, on::bound, on::bind_refused, on::resumed, on::resume_refused, on::refused>;

namespace todo {
struct send { std::string xml; };
struct start_tls {};                              // what was sent before goes out in clear; drop buffered input
struct start_compression {};                      // the same, both ways, after prepare_compression()
struct find_keys { std::string local; base::crypto::hash h; };
struct check_password { std::string local, password; };
struct find_account { std::string local; };
struct add_keys { std::string local; std::uint64_t version; base::crypto::hash h; sasl::scram_keys keys; };
struct find_tokens { std::string local, client; };
struct change_tokens { sasl::token_change what; };
struct restart_framer {};                         // the header comes again
/// Raise limits; from now on this stream is this account's. `mechanism` is for the log.
struct authenticated { jid_ref account; std::string_view mechanism; };
/// One failed attempt, already answered: for the log and for limits by account and address.
struct login_failed { std::string local; sasl_errc why; std::string_view cause; };
struct bind { jid_ref wanted; bind_extras extras = {}; }; // full JID; the resource is the client's or random
/// XEP-0198 section 5: go on with the session that `previd` names, if it is one of `account`. `h`: what the client
/// had handled. The session sends what is missing after the answer of this machine.
struct resume { std::string previd; std::uint32_t h; jid_ref account; };
struct request_before_login { stanza_ref what; std::string ns; }; // answer by sending a stanza
struct stanza { stanza_ref what; };               // bound: hand to the session
/// The last command: everything was sent, the closing tag too. Flush, then close. `why`: the stream
/// error that was sent, or nothing for a normal end.
struct close { std::optional<stream_errc> why; std::string text; };
} // namespace todo
using command = std::variant<todo::send, todo::start_tls, todo::start_compression, todo::find_keys, todo::check_password,
                             todo::find_account, todo::add_keys, todo::find_tokens, todo::change_tokens,
                             todo::restart_framer, todo::authenticated, todo::login_failed, todo::bind,
                             todo::resume, todo::request_before_login, todo::stanza, todo::close>;
using commands = std::vector<command>;

class negotiation {
public:
  explicit negotiation(settings s);
  ~negotiation();
  negotiation(negotiation&&) noexcept;
  negotiation& operator=(negotiation&&) noexcept;

  /// After `close` every event is ignored. What a client sends while an answer is awaited (keys, tokens,
  /// bind, resume) is kept, at most 32 elements, and handled after it.
  [[nodiscard]] commands step(event what);

  [[nodiscard]] bool is_bound() const;
  [[nodiscard]] bool is_authenticated() const;
  [[nodiscard]] bool is_encrypted() const;
  /// Null before the first good header.
  [[nodiscard]] const host_settings* host() const;
  /// Null before login.
  [[nodiscard]] const jid_ref& account() const;

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// The answer to what only makes sense while a stream is negotiated, from a client that is bound:
/// <session/> of RFC 3921 (a result), a second <bind/> (not-allowed). Null: not such a request.
/// For shells that bypass the machine after bind. `s` is a set without `to`, or to the host or account.
[[nodiscard]] stanza_ref answer_when_bound(const xmpp::stanza& s);

/// `<?xml …?><stream:stream …>` of the server. Empty `to`: left out.
[[nodiscard]] std::string header_xml(std::string_view from, std::string_view to, std::string_view id);
inline constexpr std::string_view closing_tag = "</stream:stream>";

} // namespace xmpp::stream
