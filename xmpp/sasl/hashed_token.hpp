// HT-SHA-256-* (draft-schmaus-kitten-sasl-ht), server side, with the rules of XEP-0484 on tokens.
#pragma once
#include "xmpp/sasl/mechanism.hpp"

namespace xmpp::sasl {

/// `authcid NUL HMAC(token, "Initiator" data)`, data being the channel binding's; asks for the client's tokens. Its
/// answer proves that the server knows the token, too.
class hashed_token final : public mechanism {
public:
  hashed_token(mechanism_kind k, mechanism_settings s) : kind_(k), settings_(std::move(s)) {}
  outcomes step(std::string_view message) override;
  outcomes on_tokens(const tokens_answer& answer) override;

private:
  [[nodiscard]] std::string_view binding() const;
  mechanism_kind kind_;
  mechanism_settings settings_;
  jid_ref account_; // once the message was good
  std::string proof_;
};

/// What a client proves itself with, and the server in return.
[[nodiscard]] std::string initiator_proof(std::string_view secret, std::string_view binding);
[[nodiscard]] std::string responder_proof(std::string_view secret, std::string_view binding);

} // namespace xmpp::sasl
