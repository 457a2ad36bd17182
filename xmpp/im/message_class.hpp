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

/// What about a message decides whether it is kept.
struct message_facts {
  stanza_type type = stanza_type::normal;
  bool has_body = false;
  bool has_payload = false;       // a child other than chat states, hints, thread, ids and stamps
  bool only_chat_state = false;   // XEP-0085 notification without anything else
  bool hint_store = false;        // XEP-0334: <store/>
  bool hint_no_store = false;     // <no-store/> or <no-permanent-store/>
};
/// Reads the payload (RapidXML); only for messages that nobody took.
[[nodiscard]] message_facts facts_of(const stanza& message);
/// XEP-0160 section 3, with the hints of XEP-0334 before it.
[[nodiscard]] bool keepable(const message_facts& f);
/// Must its sender learn that nobody will read it? Not for typing notifications and the like.
[[nodiscard]] inline bool worth_an_error(const message_facts& f) { return f.has_body || f.has_payload; }

} // namespace xmpp::im
