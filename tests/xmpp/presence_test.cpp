// Presence values, and what becomes of messages at an account.
#include "xmpp/im/message_class.hpp"
#include "xmpp/im/presence.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::im;
using xmpp::stanza;
using xmpp::stanza_type;

TEST_CASE("presence: priority is an xs:byte and nothing else") {
  struct row { const char* text; int value; };
  for (auto& r : {row{"0", 0}, {"-128", -128}, {"127", 127}, {"+5", 5}, {" 7 ", 7}, {"007", 7}, {"-0", 0}, {"\n1\t", 1}}) {
    CAPTURE(r.text);
    REQUIRE(parse_priority(r.text));
    CHECK(*parse_priority(r.text) == r.value);
  }
  for (auto bad : {"", " ", "128", "-129", "1.0", "1e1", "0x1", "--1", "+-1", "1 2", "9999999999", "one", "-"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_priority(bad));
  }
}

TEST_CASE("presence: what a stanza says") {
  auto read = [](const char* xml) { return parse_presence(*stanza::from_xml(xml)); };
  CHECK(*read("<presence/>") == availability{true, 0, show::online});
  CHECK(*read("<presence type='unavailable'><priority>5</priority></presence>") == availability{});
  CHECK(*read("<presence><show>away</show><priority>-1</priority></presence>") == availability{true, -1, show::away});
  CHECK(*read("<presence><show>invisible</show></presence>") == availability{true, 0, show::online});
  CHECK(*read("<presence><priority xmlns='urn:x'>bad</priority><status>hi</status></presence>")
        == availability{true, 0, show::online});
  for (auto bad : {"<presence><priority>200</priority></presence>", "<presence><priority/></presence>",
                   "<presence><priority>1</priority><priority>1</priority></presence>",
                   "<presence><show>dnd</show><show>xa</show></presence>"}) {
    CAPTURE(bad);
    auto r = read(bad);
    REQUIRE_FALSE(r);
    CHECK(r.error().condition == xmpp::stanza_errc::bad_request);
  }
}

TEST_CASE("presence: show values are the four of section 4.7.2.1") {
  for (auto s : {show::chat, show::away, show::xa, show::dnd})
    CHECK(parse_show(name_of(s)) == s);
  CHECK(name_of(show::online).empty());
  CHECK_FALSE(parse_show(""));
  CHECK_FALSE(parse_show("Away"));
}

TEST_CASE("presence: the better resource has the higher priority, then the readier show") {
  availability gone{}, low{true, -1}, home{true, 5}, work{true, 5, show::dnd};
  CHECK(is_better(low, gone));
  CHECK(is_better(home, low));
  CHECK(is_better(home, work));
  CHECK_FALSE(is_better(work, home));
  CHECK_FALSE(is_better(home, home));
}

TEST_CASE("presence: what the server says in a name") {
  auto romeo = *xmpp::parse_jid("romeo@example.net/orchard"), juliet = *xmpp::parse_jid("juliet@example.com/balcony");
  CHECK(xmpp::to_string(make_unavailable(romeo)).find("from='romeo@example.net/orchard'") != std::string::npos);
  auto s = make_presence(stanza_type::subscribed, romeo, juliet);
  CHECK(s->type() == stanza_type::subscribed);
  CHECK(s->from->full() == "romeo@example.net");
  CHECK(s->to->full() == "juliet@example.com");
  for (auto t : {stanza_type::subscribe, stanza_type::unsubscribe, stanza_type::unsubscribed, stanza_type::probe,
                 stanza_type::unavailable, stanza_type::available})
    CHECK(make_presence(t, romeo, juliet)->type() == t);
}

TEST_CASE("messages: RFC 6121 table 1") {
  using enum message_action;
  struct row { stanza_type type; message_action bare_ready, bare_unready, full_ready, full_unready; };
  const row rows[] = {
    {stanza_type::normal, to_all_ready, store, bounce, bounce},
    {stanza_type::chat, to_all_ready, store, to_all_ready, store},
    {stanza_type::groupchat, bounce, bounce, bounce, bounce},
    {stanza_type::headline, to_all_ready, drop, drop, drop},
    {stanza_type::error, drop, drop, drop, drop},
  };
  for (auto& r : rows) {
    CAPTURE(static_cast<int>(r.type));
    CHECK(action_for(r.type, target::bare_ready) == r.bare_ready);
    CHECK(action_for(r.type, target::bare_unready) == r.bare_unready);
    CHECK(action_for(r.type, target::full_ready) == r.full_ready);
    CHECK(action_for(r.type, target::full_unready) == r.full_unready);
    CHECK(action_for(r.type, target::full_bound) == to_resource);
  }
}

TEST_CASE("messages: what is kept for later (XEP-0160 section 3, XEP-0334)") {
  struct row { const char* attributes; const char* payload; bool kept; bool error; };
  const row rows[] = {
    {"type='chat'", "<body>hi</body>", true, true},
    {"type='chat'", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", false, false},
    {"type='chat'", "<thread>t</thread><gone xmlns='http://jabber.org/protocol/chatstates'/>", false, false},
    {"type='chat'", "<body>hi</body><active xmlns='http://jabber.org/protocol/chatstates'/>", true, true},
    {"type='chat'", "<received xmlns='urn:xmpp:receipts' id='1'/>", true, true},
    {"", "<body>hi</body>", true, true},
    {"", "<subject>s</subject>", true, true},
    {"", "", false, false},
    {"type='groupchat'", "<body>hi</body>", false, true},
    {"type='headline'", "<body>hi</body>", false, true},
    {"type='headline'", "<body>hi</body><store xmlns='urn:xmpp:hints'/>", false, true},
    {"type='error'", "<body>hi</body>", false, true},
    {"type='chat'", "<body>hi</body><no-store xmlns='urn:xmpp:hints'/>", false, true},
    {"type='chat'", "<body>hi</body><no-permanent-store xmlns='urn:xmpp:hints'/>", false, true},
    {"type='chat'", "<composing xmlns='http://jabber.org/protocol/chatstates'/><store xmlns='urn:xmpp:hints'/>", true, false},
    {"type='chat'", "<body>hi</body><no-copy xmlns='urn:xmpp:hints'/>", true, true},
  };
  for (auto& r : rows) {
    CAPTURE(r.attributes);
    CAPTURE(r.payload);
    auto f = facts_of(*stanza::from_xml("<message " + std::string{r.attributes} + ">" + r.payload + "</message>"));
    CHECK(keepable(f) == r.kept);
    CHECK(worth_an_error(f) == r.error);
  }
}
