// The table of message classes (docs/messages.md): each payload in its class, and what hints change.
#include "xmpp/im/message_class.hpp"
#include <doctest/doctest.h>

using namespace xmpp;
using namespace xmpp::im;

namespace {
message_facts facts(const std::string& attributes, const std::string& payload) {
  return facts_of(*stanza::from_xml("<message " + attributes + ">" + payload + "</message>"));
}
} // namespace

TEST_CASE("message classes: by type and payload") {
  using enum message_kind;
  const std::string body = "<body>x</body>", typing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
  struct row { std::string attributes, payload; message_kind kind; };
  for (auto& r : {
           row{"type='chat'", body, conversation},
           row{"type='chat'", body + typing, conversation},
           row{"type='chat'", typing, chat_state},
           row{"", "<subject>x</subject>", other},
           row{"type='chat'", "<thread>t</thread>", empty},
           row{"type='chat'", "<encrypted xmlns='eu.siacs.conversations.axolotl'/>", conversation},
           row{"type='chat'", "<encrypted xmlns='urn:xmpp:omemo:2'/><encryption xmlns='urn:xmpp:eme:0'/>", conversation},
           row{"type='chat'", "<replace xmlns='urn:xmpp:message-correct:0' id='1'/>", conversation},
           row{"type='chat'", "<retract xmlns='urn:xmpp:message-retract:1' id='1'/>", conversation},
           row{"type='chat'", "<reactions xmlns='urn:xmpp:reactions:0' id='1'><reaction>x</reaction></reactions>", reaction},
           row{"type='chat'", "<received xmlns='urn:xmpp:receipts' id='1'/>", receipt},
           row{"type='chat'", body + "<request xmlns='urn:xmpp:receipts'/>", conversation},
           row{"type='chat'", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>", marker},
           row{"type='chat'", body + "<markable xmlns='urn:xmpp:chat-markers:0'/>", conversation},
           row{"type='chat'", "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>", call},
           row{"type='chat'", "<x xmlns='urn:example'/>", other},
           row{"type='chat'", "<delay xmlns='urn:xmpp:delay' stamp='x'/><stanza-id xmlns='urn:xmpp:sid:0' id='1' by='b'/>", empty},
           row{"type='headline'", body, headline},
           row{"type='headline'", "<event xmlns='http://jabber.org/protocol/pubsub#event'/>", event},
           row{"type='groupchat'", body, groupchat},
           row{"type='groupchat'", typing, chat_state},
           row{"type='error'", body, error},
       }) {
    CAPTURE(r.attributes);
    CAPTURE(r.payload);
    CHECK(facts(r.attributes, r.payload).kind == r.kind);
  }
}

TEST_CASE("message classes: copies, with hints and rooms") {
  const std::string body = "<body>x</body>";
  CHECK(copyable(facts("type='chat'", body)));
  CHECK(copyable(facts("", body)));
  CHECK(copyable(facts("type='chat'", "<received xmlns='urn:xmpp:receipts' id='1'/>")));
  CHECK_FALSE(copyable(facts("type='groupchat'", body)));
  CHECK_FALSE(copyable(facts("type='headline'", body)));
  CHECK_FALSE(copyable(facts("type='error'", body)));
  CHECK_FALSE(copyable(facts("type='chat'", body + "<private xmlns='urn:xmpp:carbons:2'/>")));
  CHECK_FALSE(copyable(facts("type='chat'", body + "<no-copy xmlns='urn:xmpp:hints'/>")));
  CHECK_FALSE(copyable(facts("type='chat'", body + "<x xmlns='http://jabber.org/protocol/muc#user'/>")));
  CHECK(copyable(facts("", "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'/></x>" + body)));
  CHECK_FALSE(copyable(facts("type='chat'", "<received xmlns='urn:xmpp:carbons:2'/>")));
  CHECK(facts("type='chat'", "<sent xmlns='urn:xmpp:carbons:2'/>").is_carbon);
}
