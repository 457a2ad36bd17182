// SASL PLAIN (RFC 4616), server side.
#pragma once
#include "xmpp/sasl/mechanism.hpp"

namespace xmpp::sasl {

/// `[authzid] NUL authcid NUL password`; asks for a password check.
class plain final : public mechanism {
public:
  explicit plain(mechanism_settings s) : settings_(std::move(s)) {}
  outcomes step(std::string_view message) override;
  outcomes on_account(const account_answer& answer) override;

private:
  mechanism_settings settings_;
  jid_ref account_; // once the message was good
};

} // namespace xmpp::sasl
