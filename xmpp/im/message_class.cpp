// What becomes of a message (message_class.hpp).
#include "xmpp/im/message_class.hpp"
#include "xmpp/element.hpp"

namespace xmpp::im {

message_action action_for(stanza_type type, target where) {
  using enum message_action;
  if (where == target::full_bound)
    return to_resource; // section 8.5.3.1: whatever its type
  bool is_full = where == target::full_ready || where == target::full_unready;
  bool is_ready = where == target::full_ready || where == target::bare_ready;
  switch (type) {
  case stanza_type::error:
    return drop;
  case stanza_type::groupchat:
    return bounce; // a room learns so that its occupant has gone
  case stanza_type::headline: // section 8.5.3.2.1 leaves it: worth nothing to another device or later
    return !is_full && is_ready ? to_all_ready : drop;
  case stanza_type::chat: // section 8.5.3.2.1: as if sent to the bare JID
    return is_ready ? to_all_ready : store;
  default: // normal: to a resource that has gone it goes back rather than to a device not meant
    if (is_full)
      return bounce;
    return is_ready ? to_all_ready : store;
  }
}

message_facts facts_of(const stanza& message) {
  constexpr std::string_view chat_states = "http://jabber.org/protocol/chatstates", hints = "urn:xmpp:hints",
                             delay = "urn:xmpp:delay", ids = "urn:xmpp:sid:0";
  message_facts f;
  f.type = message.type();
  thread_local document d;
  auto root = d.parse(message.bytes());
  bool has_chat_state = false;
  for (auto c = root.first_child(); c; c = c.next_sibling()) {
    auto ns = c.ns(), name = c.name();
    if (ns == root.ns()) {
      if (name == "body")
        f.has_body = true;
      else if (name != "thread")
        f.has_payload = true;
    } else if (ns == hints) {
      f.hint_store = f.hint_store || name == "store";
      f.hint_no_store = f.hint_no_store || name == "no-store" || name == "no-permanent-store";
    } else if (ns == chat_states) {
      has_chat_state = true;
    } else if (ns != delay && ns != ids) {
      f.has_payload = true;
    }
  }
  f.only_chat_state = has_chat_state && !f.has_body && !f.has_payload;
  return f;
}

bool keepable(const message_facts& f) {
  if (f.type == stanza_type::groupchat || f.type == stanza_type::headline || f.type == stanza_type::error)
    return false; // whatever the hint: they are not for later
  if (f.hint_no_store)
    return false;
  if (f.hint_store)
    return true;
  if (f.only_chat_state)
    return false;
  return f.has_body || f.has_payload;
}

} // namespace xmpp::im
