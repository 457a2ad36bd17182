// The one gate that decides who somebody is, for every SASL mechanism.
#pragma once
#include "xmpp/errors.hpp"

namespace xmpp::sasl {

/// The account that the authentication identity names at `host`. The authorisation identity never
/// decides: it may be empty or this same bare JID (RFC 6120 section 6.3.8).
/// Errors: not_authorized (`authcid` is no local part), invalid_authzid.
[[nodiscard]] base::result<jid_ref, sasl_errc> decide_identity(std::string_view authcid, std::string_view authzid,
                                                               std::string_view host);

} // namespace xmpp::sasl
