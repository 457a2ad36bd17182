// XEP-0198 where the storage is slow or somebody leaves at the wrong moment: counts stay right, nothing comes twice,
// nothing is lost with its sender.
#include "actors/router.hpp"
#include "tests/support/small_node.hpp"
#include "tests/support/stopped_reactor.hpp"

using namespace actors;
using namespace actors::testing;

namespace {
std::string message(const std::string& to, const std::string& name) {
  return "<message to='" + to + "' type='chat' id='" + name + "'><origin-id xmlns='urn:xmpp:sid:0' id='" + name + "'/><body>" + name + "</body></message>";
}
std::string between(const std::string& text, std::string_view before, char after) {
  auto at = text.find(before);
  if (at == text.npos)
    return {};
  at += before.size();
  return text.substr(at, text.find(after, at) - at);
}
/// From `word` on, one empty element.
std::string element(small_client& c, const std::string& word) {
  (void)c.read_until(word);
  return c.read_until("/>");
}
/// How far what `c` has sent has come: asked until it is `wanted`, or long enough.
std::string handled(small_client& c, const std::string& wanted) {
  std::string h;
  for (int n = 0; n < 50 && h != wanted; ++n) {
    c.send("<r xmlns='urn:xmpp:sm:3'/>");
    h = between(element(c, "<a xmlns='urn:xmpp:sm:3'"), " h='", '\'');
  }
  return h;
}
node_settings slow() {
  auto s = small_node::quick();
  s.storage_timeout = std::chrono::milliseconds{300};
  s.spool_after = std::chrono::milliseconds{50};
  return s;
}
} // namespace

TEST_CASE("resumption: what has not ended in time is sent again, under the same numbers, and comes once") {
  for (std::size_t back : {0u, 1u}) {
    CAPTURE(back);
    small_node node{2, slow()};
    auto& engine = dynamic_cast<storage::memory_engine&>(node.store.blocking());
    auto a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 1);
    c->send("<presence/>");
    REQUIRE(c->ping());
    REQUIRE(!c->enable().empty());
    auto id = a->enable();
    REQUIRE(!id.empty());
    engine.set_delay(std::chrono::seconds{2}); // so that nothing is stored, and c says nothing
    a->send(message("c@b/y", "one") + message("c@b/y", "two") + message("c@b/y", "three"));
    REQUIRE(c->sees("<body>three</body>"));
    a->shut();
    auto again = node.connect(back);
    REQUIRE(again->login_only("a"));
    again->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>");
    CHECK(between(element(*again, "<resumed "), " h='", '\'') == "0");
    engine.set_delay({});
    again->send(message("c@b/y", "one") + message("c@b/y", "two") + message("c@b/y", "three") + message("c@b/y", "four"));
    auto got = c->read_until("<body>four</body>");
    CHECK(got.find("<body>") == got.rfind("<body>")); // nothing else
    c->send("<a xmlns='urn:xmpp:sm:3' h='4'/>");
    REQUIRE(c->ping());
    CHECK(handled(*again, "4") == "4");
  }
}

TEST_CASE("a message outlives its sender: its receiver goes after him, and it waits for the next session") {
  small_node node{2, small_node::quick()};
  auto a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 1);
  c->send("<presence/><enable xmlns='urn:xmpp:sm:3'/>");
  REQUIRE(c->sees("<enabled "));
  REQUIRE(c->ping());
  REQUIRE(!a->enable().empty());
  a->send(message("c@b/y", "last words") + "</stream:stream>");
  REQUIRE(a->sees("</stream:stream>"));
  REQUIRE(c->sees("<body>last words</body>"));
  c->shut(); // without an ack
  REQUIRE(node.wait_until([&] { return node.around.registry().session_count() == 0; }));
  auto next = node.log_in("c", "z", 0);
  next->send("<presence/>");
  CHECK(next->sees("<body>last words</body>"));
}

TEST_CASE("an error comes with the outcome, though the sender's own account cannot be asked") {
  small_node node{2, slow()};
  auto& engine = dynamic_cast<storage::memory_engine&>(node.store.blocking());
  auto a = node.log_in("a", "x", 0);
  REQUIRE(!a->enable().empty());
  REQUIRE(a->ping());
  engine.set_delay(std::chrono::seconds{1}); // longer than anybody waits for it: its rows cannot be read
  std::atomic<bool> is_anew{false};
  node.with_entity("a@b", [&](entity& e) {
    e.start_again();
    is_anew = true;
  });
  REQUIRE(node.wait_until([&] { return is_anew.load(); }));
  a->send(message("c@elsewhere", "astray"));
  auto error = a->read_until("</message>");
  CHECK(error.find("id='astray'") != error.npos);
  CHECK(error.find("<remote-server-not-found ") != error.npos);
  engine.set_delay({});
}

TEST_CASE("a message that was stored and comes once more: who sent it and who keeps it both learn that it is there") {
  auto patient = small_node::quick();
  patient.spool_after = std::chrono::seconds{20};
  small_node node{2, patient};
  auto a = node.log_in("a", "x", 0);
  REQUIRE(!a->enable().empty());
  node.add_account("c");
  a->send(message("c@b/y", "one"));
  REQUIRE(handled(*a, "1") == "1"); // stored
  auto c = node.log_in("c", "y", 1);
  REQUIRE(!c->enable().empty());
  a->send(message("c@b/y", "one")); // as if it had not heard that
  REQUIRE(c->sees("<body>one</body>"));
  c->send("<presence/>"); // what is stored is for it, too, and has been read when all these have been answered
  for (std::string id : {"q1", "q2", "q3"}) {
    c->send("<iq type='get' id='" + id + "'><query xmlns='jabber:iq:private'><none xmlns='x'/></query></iq>");
    REQUIRE(c->sees("id='" + id + "'"));
  }
  c->send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
  CHECK(handled(*a, "2") == "2");
  c->send("</stream:stream>");
  REQUIRE(c->sees("</stream:stream>"));
  auto next = node.log_in("c", "z", 0);
  next->send("<presence/>");
  a->send(message("c@b/z", "two"));
  auto got = next->read_until("<body>two</body>");
  CHECK(got.find("<body>one") == got.npos);
}

TEST_CASE("what a client sends again is copied to the other devices once, as it is delivered once") {
  small_node node{2, small_node::quick()};
  auto a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 1), other = node.log_in("c", "z", 0);
  for (auto* one : {c.get(), other.get()}) {
    one->send("<iq type='set' id='copies'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    REQUIRE(one->sees("id='copies'"));
    REQUIRE(one->ping());
  }
  a->send(message("c@b/y", "one") + message("c@b/y", "one") + message("c@b/y", "two"));
  for (auto* one : {c.get(), other.get()}) {
    auto got = one->read_until("<body>two</body>");
    auto first = got.find("<body>one</body>");
    CHECK(first != got.npos);
    CHECK(got.find("<body>one</body>", first + 1) == got.npos);
  }
}

TEST_CASE("what is routed again may come before the first of it; its receiver gets one") {
  small_node node{1, small_node::quick()};
  auto c = node.log_in("c", "y", 0);
  auto route_one = [&](std::uint64_t id, bool is_again) {
    node.around.homes()[0]->post_from_anywhere([id, is_again](home& at) {
      auto s = xmpp::stanza::from_xml("<message type='chat' id='m" + std::to_string(id) + "'><body>x</body></message>");
      s->from = *xmpp::parse_jid("a@b/x");
      s->to = *xmpp::parse_jid("c@b/y");
      s->stanza_id = {id, id};
      s->completion = {1, 1, 0, 0}; // of nobody who is there
      route(at, {s, {}, {}, false, false, false, is_again});
    });
  };
  route_one(1, true);
  route_one(1, false);
  route_one(2, false);
  auto got = c->read_until("id='m2'");
  CHECK(got.find("id='m1'") != got.npos);
  CHECK(got.find("id='m1'") == got.rfind("id='m1'"));
}

TEST_CASE("what bounced counts as handled when its sender has acknowledged the error, for that is in one place only") {
  for (bool has_it : {true, false}) {
    CAPTURE(has_it);
    small_node node{2, small_node::quick()};
    auto a = node.log_in("a", "x", 0);
    auto id = a->enable();
    REQUIRE(!id.empty());
    a->send(message("nobody@b", "astray"));
    REQUIRE(a->sees("type='error'"));
    REQUIRE(a->sees("</message>"));
    CHECK(handled(*a, "0") == "0");
    a->send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
    CHECK(handled(*a, "1") == "1");
    a->send(message("nobody@b", "lost"));
    REQUIRE(a->sees("type='error'"));
    REQUIRE(a->sees("</message>"));
    a->shut();
    auto again = node.connect(1);
    REQUIRE(again->login_only("a"));
    again->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='" + (has_it ? "2" : "1") + "'/>");
    CHECK(between(element(*again, "<resumed "), " h='", '\'') == (has_it ? "2" : "1"));
    if (!has_it) {
      again->send(message("nobody@b", "lost"));
      CHECK(again->sees("</message>"));
      CHECK(again->sees("</message>")); // the error that it had not read, and that of the second try
      again->send("<a xmlns='urn:xmpp:sm:3' h='3'/>");
    }
    CHECK(handled(*again, "2") == "2");
  }
}

TEST_CASE("resumption: who is given presence that waited for him has time to acknowledge it") {
  small_node node{2, small_node::quick()};
  auto a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 1);
  auto id = a->enable();
  a->shut();
  std::this_thread::sleep_for(std::chrono::milliseconds{100}); // the presence must find it without a stream
  c->send("<presence to='a@b/x'/>");
  REQUIRE(c->ping());
  auto again = node.connect(1);
  REQUIRE(again->login_only("a"));
  again->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>");
  REQUIRE(again->sees("<r xmlns='urn:xmpp:sm:3'/>"));
  std::this_thread::sleep_for(std::chrono::milliseconds{300}); // longer than a session waits before it looks after its acks
  CHECK(again->ping());
}

namespace {
/// c has been asked for an ack.
struct asked {
  explicit asked(std::chrono::milliseconds ack_timeout) : node(1, with(ack_timeout)) {
    REQUIRE(!c->enable().empty());
    a->send(message("c@b/y", "one"));
    REQUIRE(c->sees("<r xmlns='urn:xmpp:sm:3'/>"));
  }
  static node_settings with(std::chrono::milliseconds ack_timeout) {
    auto s = small_node::quick();
    s.ack_timeout = ack_timeout;
    return s;
  }
  small_node node;
  std::unique_ptr<small_client> a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 0);
};
} // namespace

TEST_CASE("whose ack is read only after the node stood still is not taken for silent") {
  asked one{std::chrono::milliseconds{500}};
  one.node.around.homes()[0]->post_from_anywhere([](home&) { std::this_thread::sleep_for(std::chrono::milliseconds{800}); });
  std::this_thread::sleep_for(std::chrono::milliseconds{850}); // timers first, then sockets
  one.c->send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
  CHECK(one.c->ping());
}

TEST_CASE("who does not acknowledge in time is taken for silent") {
  asked one{std::chrono::milliseconds{100}};
  CHECK(one.c->is_let_go());
}

TEST_CASE("resumption: what comes between the stream's end and the account's word leaves no timer with the old place") {
  small_node node{2, asked::with(std::chrono::milliseconds{200})};
  auto first = node.log_in("c", "z", 0); // the account is where this one is
  auto a = node.log_in("a", "x", 1), c = node.log_in("c", "y", 1), again = node.connect(1);
  auto id = c->enable();
  REQUIRE(again->login_only("c"));
  {
    stopped_reactor account{node, 0};
    a->send(message("c@b/y", "one"));
    std::this_thread::sleep_for(std::chrono::milliseconds{50}); // the message waits for the account, the session's move behind it
    again->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='0'/>");
    REQUIRE(c->sees("</stream:stream>"));
  }
  CHECK(again->sees("<body>one</body>"));
  CHECK(again->is_let_go()); // it does not acknowledge
}
