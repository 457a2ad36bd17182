// SASL PLAIN (plain.hpp).
#include "xmpp/sasl/identity.hpp"
#include "xmpp/sasl/plain.hpp"

namespace xmpp::sasl {

outcomes plain::step(std::string_view message) {
  auto malformed = [](std::string_view cause) { return outcome::failure{sasl_errc::malformed_request, cause}; };
  if (account_)
    return malformed("a second message");
  if (message.size() > max_message)
    return malformed("too long");
  auto first = message.find('\0');
  auto second = first == std::string_view::npos ? first : message.find('\0', first + 1);
  if (second == std::string_view::npos)
    return malformed("not three parts");
  auto authzid = message.substr(0, first), authcid = message.substr(first + 1, second - first - 1),
       password = message.substr(second + 1);
  if (password.find('\0') != std::string_view::npos)
    return malformed("more than three parts");
  if (authcid.empty() || password.empty())
    return malformed("empty name or password");
  auto account = decide_identity(authcid, authzid, settings_.host);
  if (!account)
    return outcome::failure{account.error(),
                            account.error() == sasl_errc::invalid_authzid ? "foreign authorisation identity"
                                                                          : "not a valid name",
                            std::string{authcid}};
  account_ = std::move(*account);
  return outcome::need_password_check{std::string{account_->local()}, std::string{password}};
}

outcomes plain::on_account(const account_answer& answer) {
  if (!account_)
    return mechanism::on_account(answer);
  if (answer)
    return outcome::success{account_, std::nullopt, *answer};
  return refusal_of(answer.error(), account_->local());
}

} // namespace xmpp::sasl
