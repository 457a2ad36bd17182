// XEP-0191 and XEP-0377: who is kept out, what changes when the list does, limits, failures.
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
struct fixture : account_fixture {
  fixture() {
    values.numbers = {{"most", 3}, {"reports", 2}};
    start(make_blocking());
    join(1, "pc");
    join(2, "phone");
    contacts = {{jid("friend@example.org"), {true, true}}, {jid("fan@far.example"), {false, true}}, {jid("idol@far.example"), {true, false}}};
  }
  std::string change(std::string_view verb, std::initializer_list<std::string_view> items) {
    std::string xml = "<" + std::string{verb} + " xmlns='urn:xmpp:blocking'>";
    for (auto i : items)
      xml += "<item jid='" + std::string{i} + "'/>";
    return ask("set", xml + "</" + std::string{verb} + ">");
  }
  std::string stored() {
    restart();
    std::vector<std::string> all;
    if (snapshot()->blocked)
      for (auto& i : snapshot()->blocked->items())
        all.emplace_back(i->full());
    std::sort(all.begin(), all.end());
    std::string text;
    for (auto& i : all)
      text += i + ' ';
    return text;
  }
};
} // namespace

TEST_CASE_FIXTURE(fixture, "blocking: each kind of stanza, both ways") {
  CHECK(change("block", {"bad@far.example"}) == "");
  for (auto from : {"bad@far.example", "bad@far.example/any"}) {
    CHECK(receive("<message><body>x</body></message>", from) == "service-unavailable");
    CHECK(receive("<iq type='get' id='1'><q xmlns='x'/></iq>", from) == "service-unavailable");
    CHECK(receive("<iq type='set' id='1'><q xmlns='x'/></iq>", from) == "service-unavailable");
    CHECK(receive("<iq type='result' id='1'/>", from) == "drop");
    CHECK(receive("<iq type='error' id='1'/>", from) == "drop");
    for (auto type : {"subscribe", "subscribed", "unsubscribe", "unsubscribed", "probe", "unavailable", "error"})
      CHECK(receive("<presence type='" + std::string{type} + "'/>", from) == "drop");
    CHECK(receive("<presence/>", from) == "drop");
    for (auto xml : {"<message/>", "<presence/>", "<presence type='subscribe'/>", "<iq type='get' id='1'/>", "<iq type='result' id='1'/>"})
      CHECK(enter(xml, from) == "not-acceptable");
  }
  CHECK(receive("<message/>", "good@far.example/any") == "pass");
  CHECK(enter("<message/>", "good@far.example") == "pass");
}

TEST_CASE_FIXTURE(fixture, "blocking: never oneself nor the own server, whatever is on the list") {
  CHECK(change("block", {"example.org", "me@example.org"}) == "");
  CHECK(receive("<message/>", "me@example.org/phone") == "pass");
  CHECK(enter("<presence/>", "me@example.org") == "pass");
  CHECK(enter("<iq type='get' id='1'/>", "example.org") == "pass");
  CHECK(receive("<message/>", "example.org") == "pass");
  CHECK(receive("<message/>", "other@example.org/x") == "service-unavailable");
  CHECK(enter("<message/>", "other@example.org/x") == "not-acceptable");
}

TEST_CASE_FIXTURE(fixture, "blocking: the list survives; it is shown to its owner alone") {
  CHECK(ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>") == "<blocklist xmlns='urn:xmpp:blocking'/>");
  change("block", {"b.example", "a@b.example/r"});
  CHECK(stored() == "a@b.example/r b.example ");
  CHECK(ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>").find("<item jid='a@b.example/r'/>") != std::string::npos);
  CHECK(ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>", "friend@example.org/r") == "service-unavailable");
  CHECK(ask("set", "<unblock xmlns='urn:xmpp:blocking'/>", "friend@example.org/r") == "service-unavailable");
  change("unblock", {"b.example", "never@there.example"});
  CHECK(stored() == "a@b.example/r ");
  change("unblock", {});
  CHECK(stored() == "");
  CHECK_FALSE(snapshot()->blocked);
}

TEST_CASE_FIXTURE(fixture, "blocking: who asked for the list hears of changes") {
  change("block", {"a@b.example"});
  CHECK(delivered.empty());
  ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>", "me@example.org/phone");
  ask("get", "<blocklist xmlns='urn:xmpp:blocking'/>", "me@example.org/phone");
  change("block", {"c@d.example"});
  auto push = take(delivered);
  REQUIRE(push.size() == 1);
  CHECK(push[0].find("to='me@example.org/phone'") != std::string::npos);
  CHECK(push[0].find("<block xmlns='urn:xmpp:blocking'><item jid='c@d.example'/></block>") != std::string::npos);
  change("unblock", {});
  CHECK(take(delivered).at(0).find("<unblock xmlns='urn:xmpp:blocking'/>") != std::string::npos);
  leave(2);
  change("block", {"e@f.example"});
  CHECK(delivered.empty());
}

TEST_CASE_FIXTURE(fixture, "blocking: contacts see the account go and come; what they are is asked again") {
  change("block", {"far.example", "friend@example.org/work"});
  auto out = take(sent);
  REQUIRE(out.size() == 4); // two resources to each of the two that may see them
  for (auto& s : out) {
    CHECK(s.find("type='unavailable'") != std::string::npos);
    CHECK((s.find("to='fan@far.example'") != std::string::npos || s.find("to='friend@example.org/work'") != std::string::npos));
  }
  change("block", {"fan@far.example"}); // was blocked already: nothing changes
  CHECK(sent.empty());
  change("unblock", {"far.example"});
  out = take(sent);
  REQUIRE(out.size() == 1); // the fan stays blocked; the idol's presence was dropped meanwhile
  CHECK(out[0].find("type='probe'") != std::string::npos);
  CHECK(out[0].find("to='idol@far.example'") != std::string::npos);
  change("unblock", {});
  out = take(sent);
  REQUIRE(out.size() == 4);
  for (auto& s : out)
    CHECK(s.find("type=") == std::string::npos);
  members.clear();
  change("block", {"friend@example.org"}); // nobody is there: nothing to hide
  CHECK(sent.empty());
}

TEST_CASE_FIXTURE(fixture, "blocking: limits and bad requests change nothing") {
  CHECK(change("block", {"a@x", "b@x", "c@x"}) == "");
  CHECK(change("block", {"d@x"}) == "resource-constraint");
  CHECK(change("block", {"a@x", "b@x"}) == ""); // they are there
  CHECK(change("block", {}) == "bad-request");
  CHECK(change("block", {"a b@c"}) == "jid-malformed");
  CHECK(ask("set", "<other xmlns='urn:xmpp:blocking'/>") == "bad-request");
  CHECK(ask("get", "<block xmlns='urn:xmpp:blocking'/>") == "bad-request");
  CHECK(stored() == "a@x b@x c@x ");
  engine.set_available(false);
  CHECK(change("unblock", {"a@x"}) == "resource-constraint");
  CHECK(receive("<message/>", "a@x") == "service-unavailable");
  engine.set_available(true);
  CHECK(stored() == "a@x b@x c@x ");
  change("unblock", {"a@x"});
  CHECK(change("block", {"d@x"}) == ""); // what failed is not counted for ever
}

TEST_CASE_FIXTURE(fixture, "blocking: reports go to the administrators, so many an hour") {
  auto report = [&](std::string_view who) {
    return ask("set", "<block xmlns='urn:xmpp:blocking'><item jid='" + std::string{who} + "'><report xmlns='urn:xmpp:reporting:1' "
                      "reason='urn:xmpp:reporting:spam'><text>buy &lt;this&gt;</text></report></item></block>");
  };
  CHECK(report("a@x") == "");
  auto out = take(sent);
  REQUIRE(out.size() == 1);
  CHECK(out[0].find("to='admin@example.org'") != std::string::npos);
  CHECK(out[0].find("me@example.org reports a@x (urn:xmpp:reporting:spam):\nbuy &lt;this&gt;") != std::string::npos);
  CHECK(report("a@x") == ""); // blocked before, reported now
  CHECK(sent.size() == 1);
  CHECK(report("b@x") == "");
  CHECK(sent.size() == 1); // two an hour; the block holds
  CHECK(receive("<message/>", "b@x") == "service-unavailable");
  clock.advance(std::chrono::hours{1});
  CHECK(report("c@x") == "");
  CHECK(sent.size() == 2);
}
