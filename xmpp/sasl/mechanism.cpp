// Names and the choice of mechanisms (mechanism.hpp).
#include "xmpp/sasl/mechanism.hpp"
#include "xmpp/sasl/plain.hpp"
#include "xmpp/sasl/scram.hpp"
#include <array>

namespace xmpp::sasl {
namespace {
constexpr std::array<std::string_view, 5> names{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256",
                                                "SCRAM-SHA-1", "PLAIN"};
} // namespace

std::string_view name_of(mechanism_kind k) { return names[static_cast<std::size_t>(k)]; }

std::optional<mechanism_kind> parse_mechanism(std::string_view name) {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name)
      return static_cast<mechanism_kind>(i);
  return std::nullopt;
}

outcome::failure refusal_of(credentials_errc e, std::string_view local) {
  auto why = sasl_errc::not_authorized;
  std::string_view cause;
  switch (e) {
  case credentials_errc::no_such_user: cause = "no such user"; break;
  case credentials_errc::disabled: cause = "account is disabled"; break;
  case credentials_errc::wrong_password: cause = "wrong password"; break;
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

outcomes mechanism::on_password(const password_answer&) {
  return outcome::failure{sasl_errc::temporary_auth_failure, "an answer that nobody asked for"};
}

std::unique_ptr<mechanism> make_mechanism(mechanism_kind k, mechanism_settings s) {
  using base::crypto::hash;
  switch (k) {
  case mechanism_kind::scram_sha256_plus: return std::make_unique<scram>(hash::sha256, true, std::move(s));
  case mechanism_kind::scram_sha1_plus: return std::make_unique<scram>(hash::sha1, true, std::move(s));
  case mechanism_kind::scram_sha256: return std::make_unique<scram>(hash::sha256, false, std::move(s));
  case mechanism_kind::scram_sha1: return std::make_unique<scram>(hash::sha1, false, std::move(s));
  case mechanism_kind::plain: break;
  }
  return std::make_unique<plain>(std::move(s));
}

} // namespace xmpp::sasl
