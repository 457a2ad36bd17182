// XEP-0191: which JIDs an item matches, and its payloads with reports.
#include "tests/support/made.hpp"
#include "xmpp/im/block_list.hpp"
#include <doctest/doctest.h>

using namespace xmpp::im;
using xmpp::stanza_errc;

namespace {
using covey_tests::jid;
block_list list(std::initializer_list<std::string_view> all) {
  std::vector<xmpp::jid_ref> items;
  for (auto s : all)
    items.push_back(jid(s));
  return block_list{std::move(items)};
}
} // namespace

TEST_CASE("block list: the four kinds of item (section 5)") {
  struct row { std::string_view item, who; bool is_blocked; };
  for (auto& r : {
         row{"a@b.example/r", "a@b.example/r", true}, row{"a@b.example/r", "a@b.example/s", false}, row{"a@b.example/r", "a@b.example", false},
         row{"a@b.example", "a@b.example", true}, row{"a@b.example", "a@b.example/r", true}, row{"a@b.example", "c@b.example", false},
         row{"a@b.example", "b.example", false}, row{"b.example/r", "b.example/r", true}, row{"b.example/r", "b.example", false},
         row{"b.example/r", "b.example/s", false}, row{"b.example/r", "a@b.example/r", false}, row{"b.example", "b.example", true},
         row{"b.example", "b.example/r", true}, row{"b.example", "a@b.example", true}, row{"b.example", "a@b.example/r", true},
         row{"b.example", "a@sub.b.example", false}, row{"b.example", "b.exampl", false}, row{"A@B.example", "a@b.EXAMPLE/R", true}}) {
    CAPTURE(r.item);
    CAPTURE(r.who);
    CHECK(list({r.item}).matches(*jid(r.who)) == r.is_blocked);
    CHECK(list({"x@y.example", r.item, "z.example"}).matches(*jid(r.who)) == r.is_blocked);
  }
  CHECK_FALSE(block_list{}.matches(*jid("a@b.example")));
}

TEST_CASE("block list: a change makes another list; nothing is on it twice") {
  auto one = list({"a@b.example", "a@b.example", "c.example"});
  CHECK(one.size() == 2);
  std::vector<xmpp::jid_ref> more{jid("d@e.example"), jid("c.example")};
  auto two = one.with(more);
  CHECK(two.size() == 3);
  CHECK(one.size() == 2);
  auto three = two.without(more);
  CHECK(three.size() == 1);
  CHECK(three.contains(*jid("a@b.example")));
  CHECK_FALSE(three.contains(*jid("a@b.example/r"))); // matches, but is no item
  CHECK_FALSE(three.matches(*jid("c.example")));
}

TEST_CASE("block list: items are found among a thousand") {
  std::vector<xmpp::jid_ref> items;
  for (int i = 0; i < 1'000; ++i)
    items.push_back(jid("u" + std::to_string(i) + "@d" + std::to_string(i % 7) + ".example"));
  block_list many{items};
  CHECK(many.size() == 1'000);
  for (auto& i : items)
    CHECK(many.matches(*i));
  CHECK_FALSE(many.matches(*jid("u1000@d6.example")));
}

TEST_CASE("block list: payloads") {
  auto parse = [](std::string_view inside) {
    xmpp::document d;
    return parse_block_items(d.parse("<block xmlns='urn:xmpp:blocking'>" + std::string{inside} + "</block>"));
  };
  auto good = parse("<item jid='A@b.example/R'/><other/><item jid='a@b.example/R'/><item jid='c.example'/>");
  REQUIRE(good.has_value());
  CHECK(good->size() == 2);
  CHECK(parse("")->empty());
  CHECK(parse("<item xmlns='urn:other' jid='a@b'/>")->empty());
  CHECK(parse("<item/>").error().condition == stanza_errc::bad_request);
  CHECK(parse("<item jid='a b@c'/>").error().condition == stanza_errc::jid_malformed);
  CHECK(parse("<item jid=''/>").error().condition == stanza_errc::jid_malformed);
  std::vector<xmpp::jid_ref> two{jid("b@c.example/it's"), jid("d.example")};
  CHECK(block_payload("block", two) == "<block xmlns='urn:xmpp:blocking'><item jid='b@c.example/it&apos;s'/><item jid='d.example'/></block>");
  CHECK(block_payload("unblock", {}) == "<unblock xmlns='urn:xmpp:blocking'/>");
  CHECK(to_xml(blocked_error()) == "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
                                   "<blocked xmlns='urn:xmpp:blocking:errors'/></error>");
}

TEST_CASE("block list: reports (XEP-0377)") {
  auto report = [](const std::string& xml) {
    xmpp::document d;
    auto items = parse_block_items(d.parse("<block xmlns='urn:xmpp:blocking'><item jid='a@b'>" + xml + "</item></block>"));
    REQUIRE(items.has_value());
    return items->front().report;
  };
  auto r = report("<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'><text xml:lang='en'>no &lt;more&gt;</text></report>");
  REQUIRE(r.has_value());
  CHECK(r->reason == "urn:xmpp:reporting:spam");
  CHECK(r->text == "no <more>");
  CHECK_FALSE(report("<report xmlns='urn:xmpp:reporting:1'/>")); // blocks all the same
  CHECK_FALSE(report("<report xmlns='urn:xmpp:reporting:0' reason='x'/>"));
  CHECK(report("<report xmlns='urn:xmpp:reporting:1' reason='x'><text>" + std::string(5'000, 'y') + "</text></report>")->text.size() == 1'000);
}
