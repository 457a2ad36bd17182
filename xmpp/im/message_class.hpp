// What becomes of a message at its receiver's account: RFC 6121 section 8.5, and what is worth keeping
// for later (XEP-0160, XEP-0334). Tables only.
#pragma once
#include "xmpp/stanza.hpp"
#include <cstdint>

namespace xmpp::im {

/// How the address and the account look when the message arrives. "Ready": an available resource with
/// a priority that is not negative.
enum class target : std::uint8_t {
  bare_ready,      // bare JID, at least one resource is ready
  bare_unready,    // bare JID, none is
  full_bound,      // full JID of a bound resource
  full_ready,      // full JID of nobody, another resource is ready
  full_unready,    // full JID of nobody, none is ready
};

enum class message_action : std::uint8_t {
  to_resource,     // the one that was named
  to_all_ready,    // every ready resource
  store,           // keep for later if keepable(), else bounce if worth_an_error(), else drop
  bounce,          // service-unavailable
  drop,
};
/// RFC 6121 sections 8.5.2.1.1, 8.5.2.2.1, 8.5.3.1, 8.5.3.2.1 and table 1. `type`: of a message.
[[nodiscard]] message_action action_for(stanza_type type, target where);

/// What a message is, by its type and payload (docs/messages.md). The first that fits.
enum class message_kind : std::uint8_t {
  error,
  event,        // a notification of PubSub (XEP-0060): a type=headline that only programs read
  headline,
  groupchat,
  call,         // XEP-0353, whatever it says of the call
  conversation, // a body, something encrypted, a correction or a retraction
  reaction,     // XEP-0444
  receipt,      // XEP-0184: received
  marker,       // XEP-0333
  chat_state,   // XEP-0085 and nothing else
  other,        // a payload that this server does not know
  empty,
};
inline constexpr std::size_t message_kinds = static_cast<std::size_t>(message_kind::empty) + 1;

/// What becomes of each kind: one table for offline storage, carbons, client state, and what comes later.
struct handling {
  bool is_urgent;   // an inactive client hears of it at once (XEP-0352)
  bool is_stored;   // kept while nobody is there (XEP-0160)
  bool is_copied;   // to the other devices (XEP-0280)
  bool is_archived; // XEP-0313
  bool is_pushed;   // XEP-0357
};
[[nodiscard]] const handling& handling_of(message_kind k);

/// What about a message decides what becomes of it.
struct message_facts {
  stanza_type type = stanza_type::normal;
  message_kind kind = message_kind::empty;
  bool has_body = false;
  bool hint_store = false;        // XEP-0334: <store/>
  bool hint_no_store = false;     // <no-store/> or <no-permanent-store/>
  bool hint_no_copy = false;      // <no-copy/>, or <private/> of XEP-0280
  bool is_room_private = false;   // XEP-0045 section 7.5: from or to an occupant
  bool is_carbon = false;         // <sent/> or <received/> of XEP-0280
};
/// Reads the payload (RapidXML); not for each message of an active client.
[[nodiscard]] message_facts facts_of(const stanza& message);
/// XEP-0160 section 3, with the hints of XEP-0334 before it.
[[nodiscard]] bool keepable(const message_facts& f);
/// XEP-0280 section 6.1, with the hints.
[[nodiscard]] bool copyable(const message_facts& f);
/// Must its sender learn that nobody will read it? Not for typing notifications and the like.
[[nodiscard]] bool worth_an_error(const message_facts& f);

} // namespace xmpp::im
