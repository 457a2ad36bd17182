// The tables of RFC 6121 appendix A, as operations on the bits of a state (subscription.hpp).
#include "xmpp/im/subscription.hpp"
#include <cassert>

namespace xmpp::im {

std::optional<subscription_state> subscription_state::from_bits(std::uint32_t bits) {
  subscription_state s{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0, (bits & 16) != 0};
  if (bits > 31 || !s.is_valid())
    return std::nullopt;
  return s;
}

std::string_view name_of(const subscription_state& s) {
  return s.to ? (s.from ? "both" : "to") : s.from ? "from" : "none";
}

bool looks_different(const subscription_state& a, const subscription_state& b) {
  return a.to != b.to || a.from != b.from || a.pending_out != b.pending_out || a.approved != b.approved;
}

outbound_decision outbound(const subscription_state& s, stanza_type t) {
  assert(is_subscription(t));
  outbound_decision d;
  d.next = s;
  switch (t) {
  case stanza_type::subscribe: // A.2.1: routed in every state, so that a lost one can be repeated
    d.route = true;
    d.next.pending_out = !s.to;
    break;
  case stanza_type::unsubscribe: // A.2.2
    d.route = true;
    d.next.to = d.next.pending_out = false;
    break;
  case stanza_type::subscribed: // A.2.3: an answer needs a question; before it is one, it is kept (section 3.4.2)
    d.route = s.pending_in;
    if (s.pending_in) {
      d.next.pending_in = false;
      d.next.from = true;
      d.presence = presence_due::current; // section 3.1.5
    } else if (!s.from) {
      d.next.approved = true;
    }
    break;
  default: // A.2.4: unsubscribed
    d.route = s.pending_in || s.from;
    d.next.pending_in = d.next.from = d.next.approved = false;
    if (s.from)
      d.presence = presence_due::unavailable; // section 3.2.2
    break;
  }
  d.push = looks_different(s, d.next);
  return d;
}

inbound_decision inbound(const subscription_state& s, stanza_type t) {
  assert(is_subscription(t));
  inbound_decision d;
  d.next = s;
  switch (t) {
  case stanza_type::subscribe: // A.3.1
    if (s.from) {
      d.reply = stanza_type::subscribed; // the owner said yes before
    } else if (s.approved) { // section 3.4.2: said yes before it was asked
      d.reply = stanza_type::subscribed;
      d.next.from = true;
      d.next.pending_in = d.next.approved = false;
      d.presence = presence_due::current;
    } else {
      d.deliver = !s.pending_in;
      d.next.pending_in = true;
    }
    break;
  case stanza_type::unsubscribe: // A.3.2
    d.deliver = s.from || s.pending_in;
    d.next.from = d.next.pending_in = false;
    if (s.from)
      d.presence = presence_due::unavailable; // section 3.3.3
    break;
  case stanza_type::subscribed: // A.3.3
    d.deliver = s.pending_out;
    if (s.pending_out) {
      d.next.pending_out = false;
      d.next.to = true;
    }
    break;
  default: // A.3.4: unsubscribed
    d.deliver = s.to || s.pending_out;
    d.next.to = d.next.pending_out = false;
    break;
  }
  d.push = looks_different(s, d.next);
  return d;
}

removal_decision on_removal(const subscription_state& s) {
  removal_decision d; // a pre-approval goes with the item
  d.unsubscribe = s.to || s.pending_out;
  d.unsubscribed = s.from;
  if (s.from)
    d.presence = presence_due::unavailable;
  d.next.pending_in = s.pending_in;
  return d;
}

} // namespace xmpp::im
