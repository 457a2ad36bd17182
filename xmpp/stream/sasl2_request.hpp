// <authenticate/> of XEP-0388 and what a client may put into it, as values.
#pragma once
#include "xmpp/element.hpp"
#include "xmpp/stream/negotiation.hpp"

namespace xmpp::stream {

inline constexpr std::string_view ns_sasl2 = "urn:xmpp:sasl:2";               // XEP-0388
inline constexpr std::string_view ns_bind2 = "urn:xmpp:bind:0";               // XEP-0386
inline constexpr std::string_view ns_fast = "urn:xmpp:fast:0";                // XEP-0484
inline constexpr std::string_view ns_upgrade = "urn:xmpp:sasl:upgrade:0";     // XEP-0480
inline constexpr std::string_view ns_scram_upgrade = "urn:xmpp:scram-upgrade:0";
inline constexpr std::string_view ns_config_version = "urn:xmpp:iap:0";       // XEP-0509
inline constexpr std::string_view ns_management = "urn:xmpp:sm:3";            // XEP-0198
inline constexpr std::string_view ns_carbons = "urn:xmpp:carbons:2";          // XEP-0280
inline constexpr std::string_view ns_client_state = "urn:xmpp:csi:0";         // XEP-0352

/// <resume/> of XEP-0198.
struct resume_request {
  std::string previd;
  std::uint32_t h = 0;
};
/// Nothing: no `previd`, or no good `h`.
[[nodiscard]] std::optional<resume_request> parse_resume(const element& e);

/// <bind/> of XEP-0386.
struct bind_request {
  std::string tag;
  bind_extras extras; // only what `host` has
};
[[nodiscard]] bind_request parse_bind(const element& e, const host_settings& host);

/// What a client asks for with its login. Nothing of it is done before the login is good.
struct authenticate {
  std::string mechanism;
  std::optional<std::string> initial_response; // base64, as sent
  std::string client;                          // id of the user agent: opaque, at most max_client bytes
  std::optional<std::string> config_version;
  bool uses_token = false;                     // <fast/> is there
  std::optional<std::uint32_t> count;          // of <fast/>
  bool invalidates_token = false;
  std::optional<sasl::mechanism_kind> wants_token; // <request-token/> for a mechanism that we know
  std::vector<base::crypto::hash> upgrades;    // each once
  bool wants_resume = false;
  std::optional<resume_request> resume;        // wanted, and well-formed
  std::optional<bind_request> bind;
};
inline constexpr std::size_t max_client = 64; // a UUID has 36
/// Errors: malformed_request (no good count, an id of the user agent that is too long).
[[nodiscard]] base::result<authenticate, sasl_errc> parse_authenticate(const element& e, const host_settings& host);

/// The resource of XEP-0386 section 3.2.1: the tag where it can be one, and what stays the same for each login of this
/// client without telling its id. `random` is used where it has none.
[[nodiscard]] base::result<jid_ref, jid_errc> choose_resource(const jid& account, std::string_view tag, std::string_view client,
                                                              std::string_view secret, base::random& random);

} // namespace xmpp::stream
