// Modules without an actor: what they register, and what their handlers ask for.
#include "base/crypto.hpp"
#include "modules/all.hpp"
#include "storage/tables.hpp"
#include "modules/disco.hpp"
#include "xmpp/stamp.hpp"
#include <doctest/doctest.h>

using namespace modules;

namespace {
struct no_accounts final : accounts {
  void create(const xmpp::jid_ref& bare, std::string, on_account then, storage::batch) override {
    created.push_back(std::string{bare->bare()});
    then({});
  }
  void set_password(const xmpp::jid_ref&, std::string, on_account then) override { then(base::fail(account_errc::not_found)); }
  void remove(const xmpp::jid_ref&, on_account then) override { then({}); }
  void exists(const xmpp::jid_ref&, std::function<void(base::result<bool, account_errc>)> then) override { then(false); }
  std::vector<std::string> created;
};

struct few_settings final : settings {
  std::int64_t number(std::string_view key) const override { return key == "per_hour" ? 2 : key == "shortest_password" ? 4 : 100; }
  bool flag(std::string_view) const override { return true; }
  std::string text(std::string_view) const override { return {}; }
  std::vector<std::string> list(std::string_view) const override { return {"root"}; }
};

/// One host with all modules.
struct host {
  no_accounts people;
  base::manual_clock clock;
  base::seeded_random random{1};
  services around{people, clock, random, {1, 2}};
  few_settings values;
  std::vector<std::unique_ptr<module>> list = all();
  host_view view;
  host() {
    view.domain = *xmpp::parse_jid("example.org");
    view.admins = {"admin@example.org"};
    for (auto& m : list) {
      registrar reg{view, std::string{m->name()}, values, around};
      m->start(reg);
    }
  }
};

xmpp::stanza_ref stanza(std::string_view xml, std::string_view from, std::string_view to) {
  auto s = xmpp::stanza::from_xml(xml);
  s->from = *xmpp::parse_jid(from);
  s->to = *xmpp::parse_jid(to);
  return s;
}
} // namespace

TEST_CASE("stamps: UTC with milliseconds (XEP-0082)") {
  using namespace std::chrono;
  base::wall_time t{sys_days{year{2026} / 3 / 7} + 1h + 2min + 3s + 45ms};
  CHECK(xmpp::stamp(t) == "2026-03-07T01:02:03.045Z");
  CHECK(xmpp::delay(t, "a.example") == "<delay xmlns='urn:xmpp:delay' from='a.example' stamp='2026-03-07T01:02:03.045Z'/>");
}

TEST_CASE("modules: every one has a name of its own and declares its keys once") {
  auto list = all();
  std::vector<std::string> names;
  for (auto& m : list) {
    names.emplace_back(m->name());
    std::vector<std::string> keys;
    for (auto& k : m->keys()) {
      keys.push_back(k.name);
      CHECK_FALSE(k.doc.empty());
    }
    std::sort(keys.begin(), keys.end());
    CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
  }
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
}

TEST_CASE_FIXTURE(host, "capabilities: the hash is that of what disco says (XEP-0115 section 5.1)") {
  auto text = capability_string(view);
  CHECK(text.starts_with("server/im//covey<"));
  CHECK(view.caps.ends_with('#' + base::to_base64(base::crypto::digest(base::crypto::hash::sha1, text))));
  CHECK(view.stream_features.find("hash='sha-1'") != std::string::npos);
}

TEST_CASE_FIXTURE(host, "stanza ids: what is sent again with its origin-id has its first id, all else a fresh one") {
  auto id_of = [&](std::string_view xml, std::string_view from = "a@example.org/r") {
    auto s = stanza(xml, from, "b@example.org/x");
    auto sender = s->from;
    account_snapshot account;
    stanza_entered ev{*s, sender, view, account};
    CHECK(view.entered.run(ev).passes());
    return s->stanza_id;
  };
  constexpr auto one = "<message id='1'><origin-id xmlns='urn:xmpp:sid:0' id='o1'/></message>";
  CHECK(id_of(one) == id_of(one, "a@example.org/other"));
  CHECK(id_of(one) != id_of("<message id='1'><origin-id xmlns='urn:xmpp:sid:0' id='o2'/></message>"));
  CHECK(id_of(one) != id_of(one, "c@example.org/r"));
  CHECK(id_of("<message id='1'/>") != id_of("<message id='1'/>"));
  CHECK_FALSE(id_of("<presence/>"));
}

TEST_CASE_FIXTURE(host, "announce: an administrator's message goes to everyone, anybody else's comes back") {
  auto machine = view.entities.at("announce")();
  auto tell = [&](std::string_view xml, std::string_view from) {
    effects out;
    entity_event ev = event::stanza{{stanza(xml, from, "announce@example.org"), {}}};
    machine->step(ev, {}, out);
    return out;
  };
  auto good = tell("<message><body>hi &amp; bye</body></message>", "admin@example.org/pc");
  auto waits = tell("<message><body>once more</body></message>", "admin@example.org/pc");
  CHECK(waits.empty()); // one at a time
  REQUIRE(good.list().size() == 1);
  auto* load = std::get_if<effect::load>(&good.list()[0]);
  REQUIRE(load);
  effects kept; // which number is next
  load->then(std::vector<storage::row>{{storage::tables::announcement_key("example.org", 7), "", 1}}, kept);
  REQUIRE(kept.list().size() == 1);
  auto* commit = std::get_if<effect::commit>(&kept.list()[0]);
  REQUIRE(commit);
  CHECK(commit->what.preconditions.at(0).key == storage::tables::announcement_key("example.org", 8));
  CHECK_FALSE(machine->is_idle());
  effects told;
  commit->then(storage::outcome::done, told); // only now anybody hears of it
  REQUIRE(told.list().size() == 2);
  auto* all_of_them = std::get_if<effect::broadcast>(&told.list()[0]);
  REQUIRE(all_of_them);
  CHECK(xmpp::to_string(all_of_them->what).find("<body>hi &amp; bye</body>") != std::string::npos);
  auto* next = std::get_if<effect::commit>(&told.list()[1]);
  REQUIRE(next);
  CHECK(next->what.preconditions.at(0).key == storage::tables::announcement_key("example.org", 9));
  effects failed;
  next->then(storage::outcome::unavailable, failed);
  REQUIRE(failed.list().size() == 1);
  CHECK(xmpp::to_string(std::get<effect::route>(failed.list()[0]).what).find("<resource-constraint ") != std::string::npos);
  CHECK(machine->is_idle());
  auto refused = tell("<message><body>hi</body></message>", "user@example.org/pc");
  REQUIRE(refused.list().size() == 1);
  CHECK(xmpp::to_string(std::get<effect::route>(refused.list()[0]).what).find("<forbidden ") != std::string::npos);
  CHECK(tell("<presence/>", "admin@example.org/pc").empty());
  CHECK(tell("<message type='error'><body>x</body></message>", "user@example.org/pc").empty()); // errors are not answered
}

TEST_CASE_FIXTURE(host, "announce: what comes again is written once, and told under its first id to those who have not heard it") {
  auto machine = view.entities.at("announce")();
  auto tell = [&](base::u128 id) {
    auto s = xmpp::stanza::from_xml("<message><body>hi</body></message>");
    s->from = *xmpp::parse_jid("admin@example.org/pc");
    s->to = *xmpp::parse_jid("announce@example.org");
    s->stanza_id = id;
    effects out;
    entity_event ev = event::stanza{{s, {}}};
    machine->step(ev, {}, out);
    return out;
  };
  auto id_of = [](effects& out) { return std::get<effect::broadcast>(out.list().at(0)).what->stanza_id; };
  effects kept, told;
  auto first = tell({1, 2});
  REQUIRE(first.list().size() == 1);
  std::get<effect::load>(first.list()[0]).then(std::vector<storage::row>{}, kept);
  std::get<effect::commit>(kept.list().at(0)).then(storage::outcome::done, told);
  CHECK(id_of(told) == base::u128{1, 2});
  auto again = tell({1, 2});
  REQUIRE_FALSE(again.empty());
  CHECK(id_of(again) == base::u128{1, 2});
  CHECK(machine->is_idle());
  auto other = tell({3, 4});
  REQUIRE(other.list().size() == 1);
  CHECK(std::holds_alternative<effect::commit>(other.list()[0]));
}

TEST_CASE_FIXTURE(host, "registration: names, lengths and the rate of one address") {
  auto answer = [&](std::string_view name, std::string_view password, std::string_view address = "192.0.2.1") {
    std::string result = "none";
    auto s = xmpp::stanza::from_xml("<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>" + std::string{name} + "</username><password>"
                                    + std::string{password} + "</password></query></iq>");
    xmpp::document d;
    auto payload = d.parse(s->bytes()).first_child();
    view.stranger_iqs.at("jabber:iq:register")(s, payload, view, {address, std::make_shared<std::any>()}, [&](auto r) {
      result = r ? "made" : std::string{xmpp::name_of(r.error().condition)};
    });
    return result;
  };
  CHECK(answer("", "long enough") == "not-acceptable");
  CHECK(answer("a b", "long enough") == "jid-malformed");
  CHECK(answer("ROOT", "long enough") == "conflict");     // reserved, in any spelling
  CHECK(answer("announce", "long enough") == "conflict"); // a service has it
  CHECK(answer("one", "abc") == "not-acceptable");
  CHECK(answer("one", "long enough") == "made");
  CHECK(answer("two", "long enough") == "made");
  CHECK(answer("three", "long enough") == "resource-constraint"); // two an hour
  CHECK(answer("three", "long enough", "192.0.2.2") == "made");
  clock.advance(std::chrono::minutes{31});
  CHECK(answer("four", "long enough") == "made");
  CHECK(people.created == std::vector<std::string>{"one@example.org", "two@example.org", "three@example.org", "four@example.org"});
}

TEST_CASE("hooks: a filter that throws refuses, an observer that throws is ignored, stages order them") {
  hook<stanza_entered> h;
  std::string order;
  h.add(stage::late, "c", [&](auto&) { return order += 'c', verdict::pass(); });
  h.add(stage::access, "a", [&](auto&) { return order += 'a', verdict::pass(); });
  h.add_observer(stage::archive, "b", [&](auto&) { order += 'b'; throw std::runtime_error{"on purpose"}; });
  auto s = stanza("<message/>", "a@b/c", "d@e");
  host_view view;
  account_snapshot account;
  stanza_entered ev{*s, s->from, view, account};
  CHECK(h.run(ev).passes());
  CHECK(order == "abc");
  h.add(stage::privacy, "x", [](auto&) -> verdict { throw std::runtime_error{"on purpose"}; });
  auto v = h.run(ev);
  CHECK(v.what() == verdict::kind::refuse);
  CHECK(v.error().condition == xmpp::stanza_errc::internal_server_error);
}

TEST_CASE_FIXTURE(host, "contact addresses: a form of the host, and part of its capabilities (XEP-0115 section 5.1)") {
  host_view other;
  other.domain = view.domain;
  other.identities = {{"client", "pc", "Exodus 0.9.1"}}; // the XEP's own example, section 5.3
  other.host_features = {"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
                         "http://jabber.org/protocol/muc", "http://jabber.org/protocol/caps"};
  other.forms = {{"urn:xmpp:dataforms:softwareinfo", {{"os_version", {"10.5.1"}}, {"ip_version", {"ipv6", "ipv4"}}, {"os", {"Mac"}}}}};
  CHECK(capability_string(other) == "client/pc//Exodus 0.9.1<http://jabber.org/protocol/caps<http://jabber.org/protocol/disco#info<"
                                    "http://jabber.org/protocol/disco#items<http://jabber.org/protocol/muc<"
                                    "urn:xmpp:dataforms:softwareinfo<ip_version<ipv4<ipv6<os<Mac<os_version<10.5.1<");
  REQUIRE(view.forms.size() == 1); // of this host
  CHECK(view.forms[0].form_type == "http://jabber.org/network/serverinfo");
  CHECK(view.forms[0].fields.size() == 7);
  CHECK(view.forms[0].fields[0].var == "abuse-addresses");
  CHECK(capability_string(view).find("<http://jabber.org/network/serverinfo<abuse-addresses<root<admin-addresses<root<") != std::string::npos);
}
