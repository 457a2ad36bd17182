// What becomes of a message (message_class.hpp).
#include "xmpp/im/message_class.hpp"
#include "xmpp/element.hpp"
#include <algorithm>

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

const handling& handling_of(message_kind k) {
  static constexpr handling table[message_kinds]{
      //               urgent stored copied archived pushed
      /* error */        {true,  false, false, false, false},
      /* event */        {false, false, false, false, false},
      /* headline */     {true,  false, false, false, false},
      /* groupchat */    {true,  false, false, true,  true},
      /* call */         {true,  true,  true,  true,  true},
      /* conversation */ {true,  true,  true,  true,  true},
      /* reaction */     {false, true,  true,  true,  false},
      /* receipt */      {false, true,  true,  true,  false},
      /* marker */       {false, true,  true,  true,  false},
      /* chat_state */   {false, false, true,  false, false},
      /* other */        {true,  true,  true,  false, false},
      /* empty */        {false, false, false, false, false},
  };
  return table[static_cast<std::size_t>(k)];
}

namespace {
/// What one child makes of its message; `empty`: nothing.
message_kind kind_of_child(std::string_view name, std::string_view ns) {
  using enum message_kind;
  static constexpr struct { std::string_view ns; message_kind kind; } known[]{
      {"urn:xmpp:jingle-message:0", call},
      {"jabber:x:encrypted", conversation}, {"eu.siacs.conversations.axolotl", conversation}, {"urn:xmpp:omemo:2", conversation},
      {"urn:xmpp:openpgp:0", conversation}, {"urn:xmpp:message-correct:0", conversation}, {"urn:xmpp:message-retract:1", conversation},
      {"urn:xmpp:reactions:0", reaction}, {"urn:xmpp:chat-markers:0", marker}, {"http://jabber.org/protocol/chatstates", chat_state},
      {"urn:xmpp:delay", empty}, {"urn:xmpp:sid:0", empty}, {"urn:xmpp:hints", empty}, {"urn:xmpp:eme:0", empty},
  };
  if (ns == "urn:xmpp:receipts") // a request belongs to the message that carries it
    return name == "received" ? receipt : empty;
  if (ns == "urn:xmpp:chat-markers:0" && name == "markable")
    return empty;
  for (auto& k : known)
    if (k.ns == ns)
      return k.kind;
  return other;
}
} // namespace

message_facts facts_of(const stanza& message) {
  message_facts f;
  f.type = message.type();
  thread_local document d;
  auto root = d.parse(message.bytes());
  bool is_event = false;
  auto take = [&](message_kind k) { f.kind = std::min(f.kind, k); };
  for (auto c = root.first_child(); c; c = c.next_sibling()) {
    auto ns = c.ns(), name = c.name();
    if (ns == root.ns()) {
      if (name == "body") {
        f.has_body = true;
        take(message_kind::conversation);
      } else if (name != "thread") {
        take(message_kind::other);
      }
      continue;
    }
    if (ns == "urn:xmpp:hints") {
      f.hint_store = f.hint_store || name == "store";
      f.hint_no_store = f.hint_no_store || name == "no-store" || name == "no-permanent-store";
      f.hint_no_copy = f.hint_no_copy || name == "no-copy";
    } else if (ns == "urn:xmpp:carbons:2") {
      f.hint_no_copy = f.hint_no_copy || name == "private";
      f.is_carbon = f.is_carbon || name == "sent" || name == "received";
    } else if (ns == "http://jabber.org/protocol/muc#user" && name == "x" && !c.first_child()) {
      f.is_room_private = true; // with a child it is an invitation or the like
    }
    is_event = is_event || ns == "http://jabber.org/protocol/pubsub#event";
    take(kind_of_child(name, ns));
  }
  if (f.type == stanza_type::error)
    f.kind = message_kind::error;
  else if (f.type == stanza_type::headline)
    f.kind = is_event ? message_kind::event : message_kind::headline;
  else if (f.type == stanza_type::groupchat)
    f.kind = f.kind == message_kind::chat_state || f.kind == message_kind::empty ? f.kind : message_kind::groupchat;
  return f;
}

bool keepable(const message_facts& f) {
  if (f.type == stanza_type::groupchat || f.type == stanza_type::headline || f.type == stanza_type::error)
    return false; // whatever the hint: they are not for later
  if (f.hint_no_store)
    return false;
  return f.hint_store || handling_of(f.kind).is_stored;
}

bool copyable(const message_facts& f) {
  if (f.type != stanza_type::chat && f.type != stanza_type::normal)
    return false;
  return !f.hint_no_copy && !f.is_carbon && !f.is_room_private && handling_of(f.kind).is_copied;
}

bool worth_an_error(const message_facts& f) {
  return f.kind != message_kind::chat_state && f.kind != message_kind::empty && f.kind != message_kind::event;
}

} // namespace xmpp::im
