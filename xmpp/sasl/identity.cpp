// The identity gate (identity.hpp).
#include "xmpp/sasl/identity.hpp"

namespace xmpp::sasl {

base::result<jid_ref, sasl_errc> decide_identity(std::string_view authcid, std::string_view authzid,
                                                 std::string_view host) {
  if (authcid.empty())
    return base::fail(sasl_errc::not_authorized);
  auto own = make_jid(authcid, host);
  if (!own || (*own)->is_domain() || !(*own)->is_bare() || (*own)->domain() != host)
    return base::fail(sasl_errc::not_authorized);
  if (authzid.empty())
    return *own;
  auto wanted = parse_jid(authzid);
  if (!wanted || **wanted != **own)
    return base::fail(sasl_errc::invalid_authzid);
  return *own;
}

} // namespace xmpp::sasl
