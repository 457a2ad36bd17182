// SASL ANONYMOUS (RFC 4505, XEP-0175): an account for one session, which nobody had before.
#pragma once
#include "xmpp/sasl/mechanism.hpp"

namespace xmpp::sasl {

class anonymous final : public mechanism {
public:
  explicit anonymous(mechanism_settings s) : settings_(std::move(s)) {}
  /// The message is trace information: it is not kept, and may say nothing.
  outcomes step(std::string_view message) override;

private:
  mechanism_settings settings_;
};

/// Accounts of people may not begin so on a host with ANONYMOUS.
inline constexpr std::string_view anonymous_prefix = "anonymous-";

} // namespace xmpp::sasl
