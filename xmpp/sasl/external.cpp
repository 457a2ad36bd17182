// EXTERNAL (external.hpp).
#include "xmpp/sasl/external.hpp"
#include "xmpp/sasl/identity.hpp"
#include <algorithm>

namespace xmpp::sasl {

std::vector<jid_ref> accounts_among(const std::vector<std::string>& addresses, std::string_view host) {
  std::vector<jid_ref> all;
  for (auto& a : addresses) {
    auto j = parse_jid(a);
    if (j && (*j)->is_bare() && !(*j)->is_domain() && (*j)->domain() == host
        && std::none_of(all.begin(), all.end(), [&](auto& other) { return *other == **j; }))
      all.push_back(std::move(*j));
  }
  return all;
}

outcomes external::step(std::string_view message) {
  if (account_)
    return outcome::failure{sasl_errc::malformed_request, "a second message"};
  if (message.size() > max_message || message.find('\0') != std::string_view::npos)
    return outcome::failure{sasl_errc::malformed_request, "not an authorisation identity"};
  auto mine = accounts_among(settings_.certified, settings_.host);
  if (mine.empty())
    return outcome::failure{sasl_errc::not_authorized, "no address of this host in the certificate"};
  if (message.empty() && mine.size() > 1)
    return outcome::failure{sasl_errc::invalid_authzid, "several addresses in the certificate, none chosen"};
  for (auto& one : mine)
    if (message.empty() || decide_identity(one->local(), message, settings_.host))
      account_ = one;
  if (!account_)
    return outcome::failure{sasl_errc::invalid_authzid, "an address that is not in the certificate"};
  return outcome::need_account{std::string{account_->local()}};
}

outcomes external::on_account(const account_answer& answer) {
  if (!account_)
    return mechanism::on_account(answer);
  if (answer)
    return outcome::success{account_, std::nullopt, *answer};
  return refusal_of(answer.error(), account_->local());
}

} // namespace xmpp::sasl
