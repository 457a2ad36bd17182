// What the small modules answer: disco, ping, version, time, registration after login.
#include "modules/all.hpp"
#include "modules/disco.hpp"
#include <algorithm>
#include <doctest/doctest.h>

using namespace modules;

namespace {
struct refusing_accounts final : accounts {
  void create(const xmpp::jid_ref&, std::string, on_account then, storage::batch) override { then(base::fail(account_errc::exists)); }
  void set_password(const xmpp::jid_ref& bare, std::string password, on_account then) override {
    changed.push_back(std::string{bare->bare()} + ' ' + password);
    then({});
  }
  void remove(const xmpp::jid_ref& bare, on_account then) override {
    removed.emplace_back(bare->bare());
    then({});
  }
  void exists(const xmpp::jid_ref&, std::function<void(base::result<bool, account_errc>)> then) override { then(false); }
  std::vector<std::string> changed, removed;
};

struct chosen_settings final : settings {
  std::int64_t number(std::string_view key) const override { return key == "shortest_password" ? 4 : key == "changes_per_hour" ? 2 : 0; }
  bool flag(std::string_view key) const override { return key != "show_system"; }
  std::string text(std::string_view) const override { return {}; }
  std::vector<std::string> list(std::string_view key) const override {
    return key == "allow_from" ? std::vector<std::string>{"192.0.2.0/24", "2001:db8::7"} : std::vector<std::string>{};
  }
};

/// An account of which some are contacts.
struct known_account final : account_view {
  explicit known_account(const host_view& h) : host_(h) {
    session_view s;
    s.full = *xmpp::parse_jid("a@b/phone");
    s.is_available = true;
    sessions_.push_back(s);
    s.full = *xmpp::parse_jid("a@b/silent");
    s.is_available = false;
    sessions_.push_back(s);
  }
  const xmpp::jid_ref& bare() const override { return bare_; }
  const host_view& host() const override { return host_; }
  std::span<const session_view> sessions() const override { return sessions_; }
  bool may_see_presence(const xmpp::jid& j) const override { return j.bare() == "friend@d"; }
  bool knows(const xmpp::jid& j) const override { return may_see_presence(j); }
  std::any& state(const void*) override { return state_; }
  const snapshot_ref& snapshot() const override { return snapshot_; }
  void share(snapshot_ref, effects&) override {}
  void want_copies(std::uint64_t, bool, effects&) override {}
  void for_each_contact(const on_contact&) const override {}
  void with_roster(effects& out, std::function<void(bool, effects&)> then) override { then(true, out); }
  void say(std::uint64_t, xmpp::stanza_ref, effects&) override {}
  void subscribe(const xmpp::stanza_ref&, effects&) override {}
  void answer_request(const xmpp::stanza_ref&, bool, effects&) override {}
  bool enqueue(std::function<void(effects&)>, effects&, std::uint32_t) override { return false; }
  void finish(effects&) override {}
  bool has_arrived(base::u128) const override { return false; }
  void hold_messages(std::uint64_t) override {}
  void release_messages(std::uint64_t, effects&) override {}
  void expect_nothing(std::uint64_t, effects&) override {}

private:
  const host_view& host_;
  xmpp::jid_ref bare_ = *xmpp::parse_jid("a@b");
  std::vector<session_view> sessions_;
  std::any state_;
  snapshot_ref snapshot_{new account_snapshot};
};

struct one_host {
  refusing_accounts people;
  base::manual_clock clock;
  base::seeded_random random{1};
  services around{people, clock, random, {1, 2}};
  chosen_settings values;
  std::vector<std::unique_ptr<module>> list = all();
  host_view view;
  one_host() {
    view.domain = *xmpp::parse_jid("b");
    for (auto& m : list) {
      registrar reg{view, std::string{m->name()}, values, around};
      m->start(reg);
    }
  }
  /// The payload of the answer, or the condition of the error.
  std::string ask(at where, std::string_view type, std::string_view payload, std::string_view from = "a@b/phone", std::string_view to = {}) {
    auto s = xmpp::stanza::from_xml("<iq type='" + std::string{type} + "' id='1'>" + std::string{payload} + "</iq>");
    s->from = *xmpp::parse_jid(from);
    s->to = *xmpp::parse_jid(to.empty() ? (where == at::host ? "b" : "a@b") : to);
    xmpp::document d;
    auto inside = d.parse(s->bytes()).first_child();
    auto& table = where == at::host ? view.host_iqs : view.account_iqs;
    auto i = table.find(host_view::handler_key{inside.ns(), type == "set"});
    if (i == table.end())
      return "no handler";
    known_account account{view};
    effects out;
    std::string later = "nothing";
    iq_request r{s, inside, view, type == "set", where == at::account ? &account : nullptr, &out, [&]() -> responder {
                   return [&](auto result) { later = result ? "result" + *result : std::string{xmpp::name_of(result.error().condition)}; };
                 }};
    auto reply = i->second(r);
    if (auto* xml = std::get_if<std::string>(&reply.get()))
      return *xml;
    if (auto* e = std::get_if<xmpp::stanza_error>(&reply.get()))
      return std::string{xmpp::name_of(e->condition)};
    return later;
  }
};

constexpr auto info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
constexpr auto items = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
bool has(const std::string& text, std::string_view word) { return text.find(word) != text.npos; }
} // namespace

TEST_CASE_FIXTURE(one_host, "disco: the host says what it is and can do, also under the node of its capabilities (XEP-0030, XEP-0115)") {
  auto plain = ask(at::host, "get", info);
  CHECK(has(plain, "<identity category='server' type='im' name='covey'/>"));
  for (auto f : {"http://jabber.org/protocol/disco#info", "urn:xmpp:ping", "jabber:iq:version", "urn:xmpp:time", "jabber:iq:register", "msgoffline"})
    CHECK(has(plain, "<feature var='" + std::string{f} + "'/>"));
  auto by_node = ask(at::host, "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='" + view.caps + "'/>");
  CHECK(has(by_node, "node='" + view.caps + "'"));
  CHECK(has(by_node, "urn:xmpp:ping"));
  CHECK(ask(at::host, "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='other'/>") == "item-not-found");
  auto listed = ask(at::host, "get", items);
  CHECK(has(listed, "jid='announce@b'"));
  CHECK(ask(at::host, "get", "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>") == "item-not-found");
  CHECK(ask(at::host, "set", info) == "no handler");
}

TEST_CASE_FIXTURE(one_host, "disco: an account answers its owner and who may see its presence, nobody else (XEP-0030 section 8)") {
  for (auto who : {"a@b/phone", "a@b", "friend@d/x"}) {
    CAPTURE(who);
    CHECK(has(ask(at::account, "get", info, who), "<identity category='account' type='registered'/>"));
    auto listed = ask(at::account, "get", items, who);
    CHECK(has(listed, "jid='a@b/phone'"));
    CHECK_FALSE(has(listed, "silent"));
    CHECK(ask(at::account, "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x'/>", who) == "item-not-found");
  }
  for (auto query : {info, items})
    CHECK(ask(at::account, "get", query, "stranger@d/x") == "service-unavailable");
}

TEST_CASE_FIXTURE(one_host, "disco: the helper of entities answers what disco asks and nothing else") {
  auto answer = [](std::string_view type, std::string_view payload) {
    auto s = xmpp::stanza::from_xml("<iq type='" + std::string{type} + "' id='1'>" + std::string{payload} + "</iq>");
    s->from = *xmpp::parse_jid("a@b/phone");
    s->to = *xmpp::parse_jid("room@b");
    auto reply = answer_disco(*s, {"conference", "text", "Room"}, {"urn:x"});
    return reply ? xmpp::to_string(reply) : std::string{"null"};
  };
  auto got = answer("get", info);
  CHECK(has(got, "to='a@b/phone'"));
  CHECK(has(got, "<identity category='conference' type='text' name='Room'/>"));
  CHECK(has(got, "<feature var='urn:x'/>"));
  CHECK(has(got, "<feature var='http://jabber.org/protocol/disco#items'/>"));
  CHECK(has(answer("get", items), "type='result'"));
  CHECK(has(answer("set", info), "<not-allowed "));
  CHECK(has(answer("get", "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>"), "<item-not-found "));
  CHECK(answer("get", "<query xmlns='jabber:iq:version'/>") == "null");
  CHECK(answer("result", info) == "null");
}

TEST_CASE_FIXTURE(one_host, "ping, version, time") {
  CHECK(ask(at::host, "get", "<ping xmlns='urn:xmpp:ping'/>").empty());
  CHECK(ask(at::host, "get", "<pong xmlns='urn:xmpp:ping'/>") == "bad-request");
  auto version = ask(at::host, "get", "<query xmlns='jabber:iq:version'/>");
  CHECK(has(version, "<name>covey</name>"));
  CHECK(has(version, "<version>"));
  CHECK_FALSE(has(version, "<os>"));
  CHECK(ask(at::host, "get", "<time xmlns='urn:xmpp:time'/>") == "<time xmlns='urn:xmpp:time'><tzo>+00:00</tzo><utc>2026-01-01T00:00:00.000Z</utc></time>");
}

TEST_CASE_FIXTURE(one_host, "registration: password changes are the owner's own, and so many an hour") {
  auto change = [&](std::string_view name, std::string_view password, std::string_view from = "a@b/phone") {
    return ask(at::host, "set", "<query xmlns='jabber:iq:register'><username>" + std::string{name} + "</username><password>" + std::string{password} + "</password></query>", from);
  };
  CHECK(change("c", "long enough") == "not-allowed");
  CHECK(change("a", "abc") == "not-acceptable");
  CHECK(change("a", "") == "bad-request");
  CHECK(change("a", "long enough", "a@elsewhere/x") == "forbidden");
  CHECK(change("a", "first") == "result");
  CHECK(change("A", "second") == "result"); // the same name
  CHECK(change("a", "third") == "resource-constraint");
  CHECK(change("c", "another's", "c@b/x") == "result");
  clock.advance(std::chrono::minutes{31});
  CHECK(change("a", "fourth") == "result");
  CHECK(people.changed == std::vector<std::string>{"a@b first", "a@b second", "c@b another's", "a@b fourth"});
  CHECK(ask(at::account, "set", "<query xmlns='jabber:iq:register'><remove/></query>", "c@b/x") == "forbidden");
  CHECK(ask(at::account, "set", "<query xmlns='jabber:iq:register'><remove/></query>") == "result");
  CHECK(people.removed == std::vector<std::string>{"a@b"});
}

TEST_CASE_FIXTURE(one_host, "registration: from the networks that may") {
  auto answer = [&](std::string_view type, std::string_view address) {
    std::string result;
    auto s = xmpp::stanza::from_xml("<iq type='" + std::string{type} + "' id='1'><query xmlns='jabber:iq:register'><username>n</username><password>long enough</password></query></iq>");
    xmpp::document d;
    auto payload = d.parse(s->bytes()).first_child();
    view.stranger_iqs.at("jabber:iq:register")(s, payload, view, {address, std::make_shared<std::any>()}, [&](auto r) {
      result = r ? "form" : std::string{xmpp::name_of(r.error().condition)};
    });
    return result;
  };
  for (auto address : {"192.0.2.9", "2001:db8::/64"}) { // of an IPv6 peer its /64 is known
    CHECK(answer("set", address) == "conflict"); // it came as far as the accounts
    CHECK(answer("get", address) == "form");
  }
  for (auto address : {"203.0.113.9", "2001:db9::/64", "unknown", ""}) {
    CHECK(answer("set", address) == "forbidden");
    CHECK(answer("get", address) == "forbidden");
  }
  auto* keys = std::find_if(list.begin(), list.end(), [](auto& m) { return m->name() == "register"; })->get();
  for (auto& k : keys->keys())
    if (k.name == "allow_from") {
      REQUIRE(static_cast<bool>(k.accepts));
      CHECK(k.accepts("192.0.2.0/24"));
      CHECK_FALSE(k.accepts("192.0.2.1/24"));
      CHECK_FALSE(k.accepts("localhost"));
    }
}
