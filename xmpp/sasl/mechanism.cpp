// The choice of mechanisms, and what they have in common (mechanism.hpp).
#include "xmpp/sasl/mechanism.hpp"
#include "xmpp/sasl/anonymous.hpp"
#include "xmpp/sasl/external.hpp"
#include "xmpp/sasl/hashed_token.hpp"
#include "xmpp/sasl/plain.hpp"
#include "xmpp/sasl/scram.hpp"
#include <algorithm>

namespace xmpp::sasl {

outcome::failure refusal_of(credentials_errc e, std::string_view local) {
  auto why = sasl_errc::not_authorized;
  std::string_view cause;
  switch (e) {
  case credentials_errc::no_such_user: cause = "no such user"; break;
  case credentials_errc::disabled: cause = "account is disabled"; break;
  case credentials_errc::wrong_password: cause = "wrong password"; break;
  case credentials_errc::changed: cause = "the credentials were changed meanwhile"; break;
  case credentials_errc::unavailable:
    why = sasl_errc::temporary_auth_failure;
    cause = "credentials are not available";
    break;
  }
  return {why, cause, std::string{local}};
}

outcomes mechanism::on_keys(const keys_answer&) {
  return outcome::failure{sasl_errc::temporary_auth_failure, "keys that nobody asked for"};
}

outcomes mechanism::on_account(const account_answer&) {
  return outcome::failure{sasl_errc::temporary_auth_failure, "an answer that nobody asked for"};
}

outcomes mechanism::on_tokens(const tokens_answer&) {
  return outcome::failure{sasl_errc::temporary_auth_failure, "tokens that nobody asked for"};
}

std::string downgrade_text(std::vector<std::string_view> mechanisms, std::vector<std::string_view> bindings) {
  std::string out;
  auto append = [&](std::vector<std::string_view>& all) {
    std::sort(all.begin(), all.end()); // i;octet
    for (auto& one : all) {
      if (&one != &all.front())
        out += '\x1e';
      out += one;
    }
  };
  append(mechanisms);
  if (!bindings.empty()) {
    out += '\x1f';
    append(bindings);
  }
  return out;
}

std::unique_ptr<mechanism> make_mechanism(mechanism_kind k, mechanism_settings s) {
  if (is_scram(k))
    return std::make_unique<scram>(hash_of(k), is_plus(k), std::move(s));
  if (is_token(k))
    return std::make_unique<hashed_token>(k, std::move(s));
  if (k == mechanism_kind::external)
    return std::make_unique<external>(std::move(s));
  if (k == mechanism_kind::anonymous)
    return std::make_unique<anonymous>(std::move(s));
  return std::make_unique<plain>(std::move(s));
}

} // namespace xmpp::sasl
