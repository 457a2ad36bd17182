// Stream management's counts and queue, and what waits for an inactive client.
#include "xmpp/im/client_state.hpp"
#include "xmpp/stream/management.hpp"
#include <doctest/doctest.h>

using namespace xmpp;
using namespace xmpp::stream;
namespace sm = xmpp::stream::management;

namespace {
delivery stanza_of(const std::string& xml, const char* from = "a@example.org/x") {
  auto s = stanza::from_xml(xml);
  s->from = *parse_jid(from);
  return {s};
}
delivery message(int n) { return stanza_of("<message id='" + std::to_string(n) + "'/>"); }
std::vector<std::string> ids(std::span<sm::unacknowledged::entry> entries) {
  std::vector<std::string> all;
  for (auto& e : entries)
    all.emplace_back(e.what.what->id());
  return all;
}
element parsed(document& d, std::string_view xml) { return d.parse(xml); }
} // namespace

TEST_CASE("acks: what is covered goes, oldest first; what was never sent is refused") {
  sm::unacknowledged q;
  for (int n = 1; n <= 5; ++n)
    q.push(message(n), {});
  CHECK(q.sent() == 5);
  std::vector<std::string> acked;
  auto each = [&](auto& e) { acked.emplace_back(e.what.what->id()); };
  CHECK(q.acknowledge(2, each));
  CHECK(acked == std::vector<std::string>{"1", "2"});
  CHECK(q.acknowledge(2, each)); // again: nothing new
  CHECK(acked.size() == 2);
  CHECK_FALSE(q.acknowledge(6, each)); // too high
  CHECK_FALSE(q.acknowledge(1, each)); // less than before
  CHECK_FALSE(q.covers(0xffffffff));
  CHECK(ids(q.entries()) == std::vector<std::string>{"3", "4", "5"});
  CHECK(q.acknowledge(5, each));
  CHECK(q.empty());
  CHECK(q.sent() == 5);
}

TEST_CASE("acks: the count wraps at 2^32 and the queue stays in order while it moves") {
  sm::unacknowledged q;
  auto none = [](auto&) {};
  std::uint32_t sent = 0;
  for (int round = 0; round < 1'000; ++round) {
    for (int n = 0; n < 7; ++n)
      q.push(message(static_cast<int>(++sent)), {});
    CHECK(q.acknowledge(sent - 3, none));
    REQUIRE(q.size() == 3);
    CHECK(q.entries().front().what.what->id() == std::to_string(sent - 2));
  }
  CHECK(q.sent() == sent);
}

TEST_CASE("acks: h is a decimal number below 2^32 and nothing else") {
  document d;
  for (auto bad : {"", "-1", "+1", " 1", "1 ", "0x1", "4294967296", "x"}) {
    CAPTURE(bad);
    CHECK_FALSE(sm::parse_ack(parsed(d, "<a xmlns='urn:xmpp:sm:3' h='" + std::string{bad} + "'/>")));
  }
  CHECK_FALSE(sm::parse_ack(parsed(d, "<a xmlns='urn:xmpp:sm:3'/>")));
  CHECK(sm::parse_ack(parsed(d, "<a xmlns='urn:xmpp:sm:3' h='4294967295'/>")) == 4'294'967'295u);
}

TEST_CASE("enable: what the client wants, and what it is told") {
  document d;
  auto plain = sm::parse_enable(parsed(d, "<enable xmlns='urn:xmpp:sm:3'/>"));
  CHECK_FALSE(plain.resume);
  CHECK_FALSE(plain.max_s);
  auto full = sm::parse_enable(parsed(d, "<enable xmlns='urn:xmpp:sm:3' resume='1' max='300'/>"));
  CHECK(full.resume);
  CHECK(full.max_s == 300u);
  CHECK(sm::parse_enable(parsed(d, "<enable xmlns='urn:xmpp:sm:3' resume='true' max='soon'/>")).resume);
  CHECK(sm::enabled_xml({}, 0) == "<enabled xmlns='urn:xmpp:sm:3'/>");
  CHECK(sm::enabled_xml("x", 600) == "<enabled xmlns='urn:xmpp:sm:3' id='x' resume='true' max='600'/>");
  CHECK(sm::failed_xml(stanza_errc::item_not_found, 7u)
        == "<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>");
  CHECK(sm::handled_too_high_xml(9, 8)
        == "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
           "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='9' send-count='8'/></stream:error>");
}

TEST_CASE("shared deliveries: the last one that loses it sends it on, unless somebody has it") {
  delivery one{message(1).what, {}, new delivery_share};
  one.shared->holders = 2;
  delivery two = one;
  CHECK_FALSE(one.lose());
  CHECK(two.lose());
  one.shared->holders = 2;
  one.settle();
  CHECK_FALSE(two.lose());
  CHECK_FALSE(one.lose());
  delivery copy{message(2).what, {}, {}, true};
  CHECK_FALSE(copy.lose());
  CHECK(message(3).lose());
}

TEST_CASE("client state: presence and typing wait and supersede, all else is urgent") {
  im::held_back h;
  delivery replaced;
  auto hold = [&](const std::string& xml, const char* from = "a@example.org/x") {
    replaced = {};
    auto d = stanza_of(xml, from);
    return h.hold(d, replaced);
  };
  CHECK(hold("<presence id='1'/>"));
  CHECK(hold("<presence id='2'/>", "b@example.org/x"));
  CHECK(hold("<presence id='3' type='unavailable'/>"));
  REQUIRE(replaced.what);
  CHECK(replaced.what->id() == "1");
  CHECK(hold("<message id='4'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"));
  CHECK_FALSE(replaced.what); // another kind
  CHECK(hold("<message id='5'><paused xmlns='http://jabber.org/protocol/chatstates'/></message>"));
  CHECK(replaced.what->id() == "4");
  CHECK(hold("<message id='6'><received xmlns='urn:xmpp:receipts' id='x'/></message>"));
  for (auto urgent : {"<message><body>x</body></message>", "<iq type='get' id='i'><q xmlns='urn:x'/></iq>", "<presence type='subscribe'/>",
                      "<presence type='error'/>", "<message type='error'/>", "<message><encrypted xmlns='urn:xmpp:omemo:2'/></message>",
                      "<message><propose xmlns='urn:xmpp:jingle-message:0' id='c'/></message>"}) {
    CAPTURE(urgent);
    CHECK_FALSE(hold(urgent));
  }
  std::vector<std::string> order;
  for (auto& d : h.take_all())
    order.emplace_back(d.what->id());
  CHECK(order == std::vector<std::string>{"2", "3", "5", "6"});
  CHECK(h.empty());
  for (std::size_t n = 0; n < im::held_back::most; ++n) {
    auto from = "c" + std::to_string(n) + "@example.org/x";
    CHECK(hold("<presence/>", from.c_str()));
  }
  CHECK_FALSE(hold("<presence/>", "one@too.many/x"));
}
