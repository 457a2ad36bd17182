// jabber:iq:roster: every error of RFC 6121 section 2.3.3, and the bytes that clients see.
#include "xmpp/im/roster.hpp"
#include <doctest/doctest.h>
#include <ostream>

using namespace xmpp::im;
using xmpp::stanza_errc;

namespace {
const auto owner = *xmpp::parse_jid("romeo@example.net");

/// Parses the inside of a query.
base::result<roster_change, xmpp::stanza_error> read(const std::string& inside, const roster_limits& limits = {}) {
  static xmpp::document d;
  return parse_roster_set(d.parse("<query xmlns='jabber:iq:roster'>" + inside + "</query>"), *owner, limits);
}
} // namespace

TEST_CASE("roster set: what is wrong, and how it is called") {
  struct row { std::string inside; stanza_errc error; };
  std::string many;
  for (int i = 0; i < 65; ++i)
    many += "<group>g" + std::to_string(i) + "</group>";
  const row rows[] = {
    {"", stanza_errc::bad_request},
    {"<item jid='a@b'/><item jid='c@d'/>", stanza_errc::bad_request},
    {"<item xmlns='urn:other' jid='a@b'/>", stanza_errc::bad_request},
    {"<other/>", stanza_errc::bad_request},
    {"<item/>", stanza_errc::bad_request},
    {"<item jid=''/>", stanza_errc::jid_malformed},
    {"<item jid='@b'/>", stanza_errc::jid_malformed},
    {"<item jid='a@b/'/>", stanza_errc::jid_malformed},
    {"<item jid='romeo@example.net'/>", stanza_errc::not_allowed},
    {"<item jid='ROMEO@example.net/x'/>", stanza_errc::not_allowed},
    {"<item jid='a@b'><group>x</group><group>x</group></item>", stanza_errc::bad_request},
    {"<item jid='a@b'><group></group></item>", stanza_errc::not_acceptable},
    {"<item jid='a@b'><group>" + std::string(1024, 'g') + "</group></item>", stanza_errc::not_acceptable},
    {"<item jid='a@b' name='" + std::string(1024, 'n') + "'/>", stanza_errc::not_acceptable},
    {"<item jid='a@b'>" + many + "</item>", stanza_errc::not_acceptable},
  };
  for (auto& r : rows) {
    CAPTURE(r.inside.substr(0, 80));
    auto c = read(r.inside);
    REQUIRE_FALSE(c);
    CHECK(c.error().condition == r.error);
  }
}

TEST_CASE("roster set: what is right") {
  auto c = read("<item jid='Juliet@Example.COM/balcony' name='J &amp; C' subscription='both' ask='subscribe'>"
                "<group>Lovers</group><group>Capulets</group></item>");
  REQUIRE(c);
  CHECK(c->contact->full() == "juliet@example.com");
  CHECK(c->name == "J & C");
  CHECK(c->groups == std::vector<std::string>{"Capulets", "Lovers"});
  CHECK_FALSE(c->is_removal);
  CHECK(read("<item jid='a@b' name='" + std::string(1023, 'n') + "'/>"));

  auto gone = read("<item jid='juliet@example.com' subscription='remove'/>");
  REQUIRE(gone);
  CHECK(gone->is_removal);
}

TEST_CASE("roster set: subscription state is the server's, names are the client's") {
  roster_item before{*xmpp::parse_jid("juliet@example.com"), "old", {"x"}, {true, false, false, true}, false};
  auto after = merge(*read("<item jid='juliet@example.com' name='new' subscription='both'/>"), &before);
  CHECK(after.name == "new");
  CHECK(after.groups.empty());
  CHECK(after.state == before.state);
  CHECK(after.is_listed);
  auto fresh = merge(*read("<item jid='juliet@example.com'/>"), nullptr);
  CHECK(fresh.state.is_none());
  CHECK(fresh.contact->full() == "juliet@example.com");
}

TEST_CASE("roster result and push: bytes") {
  auto juliet = *xmpp::parse_jid("juliet@example.com");
  roster_item a{juliet, "J's \"<&>\"", {"A & B", "C"}, {true, true}, true};
  roster_item asked{*xmpp::parse_jid("nurse@example.com"), "", {}, {false, false, true, true}, true};
  roster_item hidden{*xmpp::parse_jid("paris@example.com"), "", {}, {false, false, false, true}, false};
  const roster_item items[] = {a, asked, hidden};
  CHECK(roster_result(items, "v7")
        == "<query xmlns='jabber:iq:roster' ver='v7'>"
           "<item jid='juliet@example.com' name='J&apos;s &quot;&lt;&amp;&gt;&quot;' subscription='both'>"
           "<group>A &amp; B</group><group>C</group></item>"
           "<item jid='nurse@example.com' subscription='none' ask='subscribe'/></query>");
  CHECK(roster_result({}) == "<query xmlns='jabber:iq:roster'/>");
  CHECK(roster_push(asked, "v8")
        == "<query xmlns='jabber:iq:roster' ver='v8'>"
           "<item jid='nurse@example.com' subscription='none' ask='subscribe'/></query>");
  CHECK(roster_push_removed(*juliet)
        == "<query xmlns='jabber:iq:roster'><item jid='juliet@example.com' subscription='remove'/></query>");
  auto push = make_push(roster_push_removed(*juliet, "v9"), "p1");
  CHECK(push->kind() == xmpp::stanza_kind::iq);
  CHECK(push->type() == xmpp::stanza_type::set);
  CHECK(push->id() == "p1");
}

TEST_CASE("roster get: a version is opaque, and empty is not absent") {
  xmpp::document d;
  CHECK_FALSE(parse_roster_get(d.parse("<query xmlns='jabber:iq:roster'/>")).has_value());
  CHECK(parse_roster_get(d.parse("<query xmlns='jabber:iq:roster' ver=''/>")) == "");
  CHECK(parse_roster_get(d.parse("<query xmlns='jabber:iq:roster' ver='x&lt;y'/>")) == "x<y");
}
