// Tokens instead of passwords (hashed_token.hpp). Section numbers are XEP-0484's.
#include "xmpp/sasl/hashed_token.hpp"
#include "xmpp/sasl/identity.hpp"

namespace xmpp::sasl {

namespace crypto = base::crypto;

std::string initiator_proof(std::string_view secret, std::string_view binding) {
  return crypto::hmac(crypto::hash::sha256, secret, std::string{"Initiator"}.append(binding));
}
std::string responder_proof(std::string_view secret, std::string_view binding) {
  return crypto::hmac(crypto::hash::sha256, secret, std::string{"Responder"}.append(binding));
}

std::string_view hashed_token::binding() const {
  if (kind_ == mechanism_kind::ht_sha256_exporter)
    return settings_.bindings.tls_exporter;
  if (kind_ == mechanism_kind::ht_sha256_end_point)
    return settings_.bindings.tls_server_end_point;
  return {};
}

outcomes hashed_token::step(std::string_view message) {
  auto malformed = [](std::string_view cause) { return outcome::failure{sasl_errc::malformed_request, cause}; };
  if (account_)
    return malformed("a second message");
  if (message.size() > max_message)
    return malformed("too long");
  auto end = message.find('\0');
  if (end == std::string_view::npos || end == 0)
    return malformed("no name");
  proof_ = message.substr(end + 1); // may hold NUL
  if (proof_.size() != crypto::size_of(crypto::hash::sha256))
    return malformed("not a hashed token");
  auto account = decide_identity(message.substr(0, end), {}, settings_.host);
  if (!account)
    return outcome::failure{account.error(), "not a valid name", std::string{message.substr(0, end)}};
  account_ = std::move(*account);
  return outcome::need_tokens{std::string{account_->local()}, settings_.client};
}

outcomes hashed_token::on_tokens(const tokens_answer& answer) {
  if (!account_)
    return mechanism::on_tokens(answer);
  auto fail = [this](sasl_errc why, std::string_view cause) { return outcome::failure{why, cause, std::string{account_->local()}}; };
  if (!answer && answer.error() == credentials_errc::no_such_user)
    return fail(sasl_errc::not_authorized, "no token of this client");
  if (!answer)
    return refusal_of(answer.error(), account_->local());
  for (auto* slot : {&answer->fresh, &answer->current}) {
    // section 4.4: a token is for one mechanism, else a binding could be left out
    if (!*slot || (*slot)->mechanism != kind_
        || !crypto::equal_in_constant_time(proof_, initiator_proof((*slot)->secret, binding())))
      continue;
    auto& t = **slot;
    if (t.is_expired)
      return fail(sasl_errc::credentials_expired, "the token has expired");
    if (settings_.count && *settings_.count <= t.count)
      return fail(sasl_errc::not_authorized, "a token that is replayed");
    return outcome::success{account_, responder_proof(t.secret, binding()), {}, t};
  }
  return fail(sasl_errc::not_authorized, "wrong token");
}

} // namespace xmpp::sasl
