// SASL EXTERNAL (RFC 4422 appendix A) by a client's certificate (XEP-0178 section 2).
#pragma once
#include "xmpp/sasl/mechanism.hpp"

namespace xmpp::sasl {

/// The message is an authorisation identity or empty. The certificate says who somebody may be.
class external final : public mechanism {
public:
  explicit external(mechanism_settings s) : settings_(std::move(s)) {}
  outcomes step(std::string_view message) override;
  outcomes on_account(const account_answer& answer) override;

private:
  mechanism_settings settings_;
  jid_ref account_; // once the message was good
};

/// Those of `addresses` that are accounts of `host`, each once: without one EXTERNAL is not offered.
[[nodiscard]] std::vector<jid_ref> accounts_among(const std::vector<std::string>& addresses, std::string_view host);

} // namespace xmpp::sasl
