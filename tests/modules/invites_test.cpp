// Invitations: what an operator gets, what a stranger may do with it, how often and how long.
#include "storage/tables.hpp"
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;
namespace tables = storage::tables;

namespace {
struct fixture : account_fixture {
  storage::inline_store store{std::make_unique<storage::memory_engine>()};
  std::shared_ptr<std::any> stream = std::make_shared<std::any>();

  fixture() {
    around.rows = &store;
    values.numbers = {{"life", 3'600'000}, {"most", 3}, {"per_hour", 0}, {"shortest_password", 1}};
    values.texts = {{"landing", "https://example.org/i/#{token}&{uri}"}};
    values.off = {{"enabled", true}};
    start(make_register());
    start(make_invites());
  }
  std::string invite(std::string_view whom) {
    std::string got;
    view.invite(jid(whom), [&](base::result<invitation, std::string> r) { got = r ? r->uri : r.error(); });
    return got;
  }
  static std::string token_of(const std::string& uri) { return uri.substr(uri.find("preauth=") + 8, 32); }
  std::string say(std::string_view xml) {
    auto s = xmpp::stanza::from_xml(xml);
    xmpp::document d;
    auto payload = d.parse(s->bytes()).first_child();
    std::string result = "nothing";
    view.stranger_iqs.at(payload.ns() == "urn:xmpp:pars:0" ? "urn:xmpp:pars:0" : "jabber:iq:register")(s, payload, view, {"192.0.2.1", stream}, [&](auto r) {
      result = r ? "done" : std::string{xmpp::name_of(r.error().condition)};
    });
    return result;
  }
  std::string present(std::string_view token) {
    return say("<iq type='set' id='1'><preauth xmlns='urn:xmpp:pars:0' token='" + std::string{token} + "'/></iq>");
  }
  /// With what was written with the account, as the server would.
  std::string become(std::string_view name) {
    people.last = {};
    auto r = say("<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>" + std::string{name} + "</username><password>pw</password></query></iq>");
    if (r == "done" && !(people.last.changes.empty() && people.last.preconditions.empty()))
      r = store.blocking().commit({&people.last, 1}).front() == storage::outcome::done ? "done" : "conflict";
    return r;
  }
  std::string ask_to_be_contact(std::string_view from, std::string_view inside = "") {
    auto s = stanza("<presence type='subscribe'>" + std::string{inside} + "</presence>", from, "me@example.org");
    effects out;
    subscription_asked ev{s, *this, out};
    if (view.asked.run(ev).passes())
      return "pass";
    settle(out, store.blocking());
    REQUIRE(answered.size() == 1);
    return std::exchange(answered, {}).front().substr(0, 3);
  }
};
const std::string preauth = "<preauth xmlns='urn:xmpp:pars:0' token='";
} // namespace

TEST_CASE_FIXTURE(fixture, "invitations: links say whom and how (XEP-0401 section 5)") {
  people.there = {"me@example.org"};
  auto host = invite("example.org"), contact = invite("me@example.org"), name = invite("new@example.org");
  CHECK(host == "xmpp:example.org?register;preauth=" + token_of(host));
  CHECK(contact == "xmpp:me@example.org?roster;preauth=" + token_of(contact) + ";ibr=y");
  CHECK(name == "xmpp:new@example.org?register;preauth=" + token_of(name));
  CHECK(token_of(host).find_first_not_of("0123456789abcdef") == std::string::npos);
  CHECK(invite("example.org").find("invitations are open") != std::string::npos); // three at a time
  clock.advance(std::chrono::hours{1});
  auto later = invite("j\xc3\xa4ger@example.org");
  CHECK(later == "xmpp:j%C3%A4ger@example.org?register;preauth=" + token_of(later));
  CHECK(store.blocking().scan(tables::invitations_of("example.org"), storage::order::forward, 100)->size() == 2); // the old ones are gone
  std::string landing;
  view.invite(jid("example.org"), [&](auto r) { landing = r->landing; });
  CHECK(landing.starts_with("https://example.org/i/#" + landing.substr(23, 32) + "&example.org?register;preauth="));
}

TEST_CASE_FIXTURE(fixture, "invitations: one account each, where nobody may register") {
  CHECK(become("eve") == "not-allowed");
  auto token = token_of(invite("example.org"));
  CHECK(present("0123") == "item-not-found");
  CHECK(present(std::string(65, '0')) == "item-not-found");
  CHECK(say("<iq type='get' id='1'><preauth xmlns='urn:xmpp:pars:0' token='x'/></iq>") == "bad-request");
  CHECK(become("eve") == "not-allowed");
  CHECK(present(token) == "done");
  CHECK(become("admin name") == "jid-malformed"); // not used up by that
  CHECK(become("eve") == "done");
  CHECK(become("mallory") == "conflict");
  *stream = {};
  CHECK(present(token) == "item-not-found");
  CHECK(become("mallory") == "not-allowed");
}

TEST_CASE_FIXTURE(fixture, "invitations: they end, but not between the token and the account") {
  auto token = token_of(invite("example.org")), other = token_of(invite("example.org"));
  CHECK(present(token) == "done");
  clock.advance(std::chrono::hours{2});
  CHECK(become("eve") == "done");
  *stream = {};
  CHECK(present(other) == "item-not-found");
}

TEST_CASE_FIXTURE(fixture, "invitations: for a name, which is kept meanwhile") {
  auto token = token_of(invite("new@example.org")), any = token_of(invite("example.org"));
  CHECK(present(any) == "done");
  CHECK(become("new") == "conflict");
  CHECK(become("other") == "done");
  CHECK(present(token) == "done");
  CHECK(become("other2") == "not-acceptable");
  CHECK(become("new") == "done");
  values.off.clear(); // open to everybody
  *stream = {};
  start(make_register());
  (void)invite("kept@example.org");
  CHECK(become("kept") == "conflict");
  CHECK(become("free") == "done");
}

TEST_CASE_FIXTURE(fixture, "invitations: who gets an account becomes a contact") {
  people.there = {"me@example.org"};
  auto token = token_of(invite("me@example.org"));
  CHECK(present(token) == "done");
  CHECK(become("new") == "done");
  auto row = store.blocking().get(tables::roster_key(*jid("new@example.org"), *jid("me@example.org")));
  REQUIRE(row.has_value());
  REQUIRE(row->has_value());
  auto item = tables::decode_roster(**row);
  CHECK(item->item.state.approved);
  CHECK(item->item.state.pending_out);
  CHECK(item->item.is_listed);
  // the inviter's side
  CHECK(ask_to_be_contact("stranger@far.example") == "pass");
  CHECK(ask_to_be_contact("somebody@example.org") == "ask");
  CHECK(said.empty());
  CHECK(ask_to_be_contact("new@example.org") == "yes");
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("type='subscribe'") != std::string::npos);
  CHECK(said[0].find("to='new@example.org'") != std::string::npos);
  CHECK(ask_to_be_contact("new@example.org") == "ask"); // once
}

TEST_CASE_FIXTURE(fixture, "invitations: a request with a token (XEP-0379)") {
  people.there = {"me@example.org", "other@example.org"};
  auto mine = token_of(invite("me@example.org")), theirs = token_of(invite("other@example.org"));
  CHECK(ask_to_be_contact("friend@far.example", preauth + theirs + "'/>") == "ask");
  CHECK(ask_to_be_contact("friend@far.example", preauth + "0000'/>") == "ask");
  CHECK(ask_to_be_contact("friend@far.example", "<preauth xmlns='urn:xmpp:pars:0'/>") == "ask");
  CHECK(ask_to_be_contact("friend@far.example", preauth + mine + "'/>") == "yes");
  CHECK(ask_to_be_contact("second@far.example", preauth + mine + "'/>") == "ask"); // used
  *stream = {};
  CHECK(present(mine) == "item-not-found");
}

TEST_CASE_FIXTURE(fixture, "invitations: who was invited asks at its first presence") {
  contacts = {{jid("inviter@example.org"), {false, false, true, false, true}}, {jid("friend@far.example"), {false, false, true}}};
  effects out;
  session_ready ev{1, *this, out};
  (void)view.ready.run(ev);
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("to='inviter@example.org'") != std::string::npos);
}
