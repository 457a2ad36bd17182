// XEP-0012: uptime, and when an account was left, for who may know.
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
struct fixture : account_fixture {
  fixture() {
    clock.advance(std::chrono::seconds{100});
    start(make_last());
    contacts = {{jid("friend@far.example"), {false, true}}, {jid("idol@far.example"), {true, false}}};
  }
  std::string get(std::string_view from = "friend@far.example/r") { return ask("get", "<query xmlns='jabber:iq:last'/>", from); }
  void say(std::string_view xml) {
    xmpp::delivery d{stanza(xml, "me@example.org/pc", "me@example.org"), {}};
    effects out;
    stanza_sent ev{d, *this, out};
    CHECK(view.sent.run(ev).passes());
  }
};
} // namespace

TEST_CASE_FIXTURE(fixture, "last activity: of the server it is the uptime") {
  clock.advance(std::chrono::seconds{42});
  CHECK(ask("get", "<query xmlns='jabber:iq:last'/>", "any@far.example", at::host) == "<query xmlns='jabber:iq:last' seconds='42'/>");
}

TEST_CASE_FIXTURE(fixture, "last activity: of an account, for who sees its presence") {
  CHECK(get() == "item-not-found"); // was never here
  join(1, "pc");
  CHECK(get() == "<query xmlns='jabber:iq:last' seconds='0'/>");
  CHECK(get("idol@far.example/r") == "forbidden");
  CHECK(get("stranger@far.example/r") == "forbidden");
  CHECK(get("me@example.org/pc") == "<query xmlns='jabber:iq:last' seconds='0'/>");
  join(2, "phone");
  say("<presence type='unavailable'><status>first &amp; not last</status></presence>");
  leave(1);
  CHECK(get() == "<query xmlns='jabber:iq:last' seconds='0'/>");
  say("<presence type='unavailable'><status>good &lt;night&gt;</status></presence>");
  leave(2);
  clock.advance(std::chrono::seconds{903});
  restart();
  CHECK(get() == "<query xmlns='jabber:iq:last' seconds='903'>good &lt;night&gt;</query>");
  CHECK(get("stranger@far.example/r") == "forbidden");
  join(3, "pc");
  leave(3); // without a word
  CHECK(get() == "<query xmlns='jabber:iq:last' seconds='0'/>");
}

TEST_CASE_FIXTURE(fixture, "last activity: no client is asked by strangers") {
  auto ask_client = [&](std::string_view xml, std::string_view from) {
    xmpp::delivery d{stanza(xml, from, "me@example.org/pc"), {}};
    effects out;
    stanza_received ev{d, *this, out};
    return name_of(view.received.run(ev));
  };
  constexpr auto last = "<iq type='get' id='1'><query xmlns='jabber:iq:last'/></iq>";
  CHECK(ask_client(last, "friend@far.example/r") == "pass");
  CHECK(ask_client(last, "idol@far.example/r") == "forbidden");
  CHECK(ask_client("<iq type='get' id='1'><q:query xmlns:q='jabber:iq&#58;last'/></iq>", "idol@far.example/r") == "forbidden");
  CHECK(ask_client("<iq type='get' id='1'><query xmlns='jabber:iq:version'/></iq>", "idol@far.example/r") == "pass");
}

TEST_CASE_FIXTURE(fixture, "last activity: what cannot be read is said") {
  is_roster_there = false;
  CHECK(get() == "resource-constraint");
  is_roster_there = true;
  engine.set_available(false);
  CHECK(get() == "resource-constraint");
}
