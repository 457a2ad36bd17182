// SCRAM (RFC 5802, RFC 7677), server side, with channel binding (RFC 9266, RFC 5929) and the hash of what was offered
// (XEP-0474).
#pragma once
#include "xmpp/sasl/mechanism.hpp"

namespace xmpp::sasl {

class scram final : public mechanism {
public:
  scram(base::crypto::hash h, bool plus, mechanism_settings s) : hash_(h), plus_(plus), settings_(std::move(s)) {}
  outcomes step(std::string_view message) override;
  outcomes on_keys(const keys_answer& answer) override;

private:
  enum class stage : std::uint8_t { first, keys, final, over };
  outcomes on_first(std::string_view message);
  outcomes on_final(std::string_view message);
  outcomes fail(sasl_errc why, std::string_view cause);
  outcomes malformed(std::string_view cause) { return fail(sasl_errc::malformed_request, cause); }
  outcomes check_binding_flag(std::string_view flag, bool& ok);

  base::crypto::hash hash_;
  bool plus_;
  mechanism_settings settings_;
  stage stage_ = stage::first;
  jid_ref account_;
  std::string name_;                 // as sent, for the log
  std::string binding_input_;        // what c= must decode to
  std::string nonce_, first_bare_, server_first_;
  known_keys keys_;
  std::string_view refused_because_; // not empty: the keys are fake, and no proof will do
};

} // namespace xmpp::sasl
