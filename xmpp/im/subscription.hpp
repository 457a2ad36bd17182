// Presence subscriptions: the complete state tables of RFC 6121 section 3 and appendix A, as pure functions.
#pragma once
#include "xmpp/stanza.hpp"
#include <cstdint>
#include <optional>
#include <string_view>

namespace xmpp::im {

/// The state of one contact in one roster (RFC 6121 appendix A.1). The nine states of the RFC are
/// the valid ones: pending_out only without `to`, pending_in only without `from`.
struct subscription_state {
  bool to = false;          // the owner sees the contact's presence
  bool from = false;        // the contact sees the owner's
  bool pending_out = false; // the owner asked and has no answer
  bool pending_in = false;  // the contact asked and has no answer; clients do not see this in the roster
  bool approved = false;    // the owner said yes before the contact asked (section 3.4); used up by its request
  friend bool operator==(const subscription_state&, const subscription_state&) = default;

  [[nodiscard]] bool is_valid() const { return !(to && pending_out) && !(from && pending_in); }
  /// Nothing that would have to be kept.
  [[nodiscard]] bool is_none() const { return *this == subscription_state{}; }
  /// For rows: bits 0 to 4 in the order above.
  [[nodiscard]] std::uint8_t bits() const {
    return static_cast<std::uint8_t>(to | from << 1 | pending_out << 2 | pending_in << 3 | approved << 4);
  }
  /// Nothing if `bits` is no valid state.
  [[nodiscard]] static std::optional<subscription_state> from_bits(std::uint32_t bits);
};

/// "none", "to", "from" or "both" (section 2.1.2.5).
[[nodiscard]] std::string_view name_of(const subscription_state& s);
/// Do the two look different to a client (subscription, ask, approved)? Then a roster push is due.
[[nodiscard]] bool looks_different(const subscription_state& a, const subscription_state& b);

/// subscribe, subscribed, unsubscribe or unsubscribed
[[nodiscard]] constexpr bool is_subscription(stanza_type t) {
  return t == stanza_type::subscribe || t == stanza_type::subscribed || t == stanza_type::unsubscribe
         || t == stanza_type::unsubscribed;
}

/// For the stream features (section 3.4.1).
inline constexpr std::string_view pre_approval_feature = "<sub xmlns='urn:xmpp:features:pre-approval'/>";

/// What presence the owner's available resources send to the contact because of the change.
enum class presence_due : std::uint8_t { none, current, unavailable };

struct outbound_decision {
  bool route = false;      // with the bare JID as `from`
  bool push = false;       // roster push to the owner's interested resources
  presence_due presence = presence_due::none;
  subscription_state next;
};
/// The owner of the roster sends `t` (appendix A.2). `t`: one of the four.
[[nodiscard]] outbound_decision outbound(const subscription_state& s, stanza_type t);

struct inbound_decision {
  bool deliver = false;    // a subscribe to all available resources and kept for later logins
                           // (section 3.1.3), the rest to all interested ones
  bool push = false;
  std::optional<stanza_type> reply; // sent to the contact in the owner's name
  presence_due presence = presence_due::none;
  subscription_state next;
};
/// The contact's `t` arrives (appendix A.3). `t`: one of the four.
[[nodiscard]] inbound_decision inbound(const subscription_state& s, stanza_type t);

/// What the owner's server sends when the owner removes the contact (section 2.5.2), in this order.
struct removal_decision {
  bool unsubscribe = false, unsubscribed = false;
  presence_due presence = presence_due::none;
  subscription_state next; // an unanswered request of the contact stays, unseen
};
[[nodiscard]] removal_decision on_removal(const subscription_state& s);

} // namespace xmpp::im
