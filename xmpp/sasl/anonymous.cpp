// ANONYMOUS (anonymous.hpp).
#include "xmpp/sasl/anonymous.hpp"

namespace xmpp::sasl {

outcomes anonymous::step(std::string_view message) {
  if (message.size() > max_message)
    return outcome::failure{sasl_errc::malformed_request, "too long"};
  auto account = make_jid(settings_.fresh_name, settings_.host);
  if (!account)
    return outcome::failure{sasl_errc::temporary_auth_failure, "no name for a stranger"};
  return outcome::success{*account, std::nullopt};
}

} // namespace xmpp::sasl
