// What an account does with what comes for it and from its sessions: RFC 6121 sections 4 and 8 as tables.
#include "tests/actors/account_fixture.hpp"

using namespace actors;
using namespace actors::testing;

namespace {
constexpr xmpp::im::subscription_state both{true, true, false, false, false}, to{true, false, false, false, false},
    from{false, true, false, false, false};

std::string presence(int priority) { return "<presence><priority>" + std::to_string(priority) + "</priority></presence>"; }
/// "12": which sessions got something with this word, in order of the sessions; "-": somebody else did.
std::string who_got(const account_fixture::lines& all, std::string_view word) {
  std::string out;
  for (auto& line : all)
    if (line.find(word) != line.npos)
      out += line[0];
  std::sort(out.begin(), out.end());
  return out;
}
} // namespace

TEST_CASE("account: where a message goes (RFC 6121 section 8.5, table 1)") {
  struct row {
    const char* type;
    const char* to;
    const char* nobody;   // no session at all
    const char* ready;    // 1 and 2 with priority 0 or more, 3 negative, 4 without presence
    const char* unready;  // 3 and 4 only
  };
  // "-": an error came back; "": nothing at all
  for (auto& r : {row{"normal", "a@b", "-", "12", "-"}, {"chat", "a@b", "-", "12", "-"}, {"groupchat", "a@b", "-", "-", "-"},
                  {"headline", "a@b", "", "12", ""}, {"error", "a@b", "", "", ""},
                  {"chat", "a@b/r1", "-", "1", "-"}, {"chat", "a@b/r3", "-", "3", "3"}, {"chat", "a@b/r4", "-", "4", "4"},
                  {"headline", "a@b/r4", "", "4", "4"}, {"error", "a@b/r4", "", "4", "4"}, {"groupchat", "a@b/r3", "-", "3", "3"},
                  {"normal", "a@b/none", "-", "-", "-"}, {"chat", "a@b/none", "-", "12", "-"}, {"groupchat", "a@b/none", "-", "-", "-"},
                  {"headline", "a@b/none", "", "", ""}, {"error", "a@b/none", "", "", ""}}) {
    auto text = std::string{"<message type='"} + r.type + "' id='here'><body>x</body></message>";
    CAPTURE(text);
    CAPTURE(r.to);
    account_fixture f;
    CHECK(who_got(f.receive(text, "c@d/e", r.to), "id='here'") == r.nobody);
    f.attach(3, "r3");
    f.attach(4, "r4");
    f.say(3, presence(-1));
    CHECK(who_got(f.receive(text, "c@d/e", r.to), "id='here'") == r.unready);
    f.attach(1, "r1");
    f.attach(2, "r2");
    f.say(1, presence(0));
    f.say(2, presence(5));
    CHECK(who_got(f.receive(text, "c@d/e", r.to), "id='here'") == r.ready);
  }
}

TEST_CASE_FIXTURE(account_fixture, "account: IQs go to the named resource, or are answered in the account's name") {
  attach(1, "r1");
  CHECK(who_got(receive("<iq type='get' id='q'><q xmlns='u'/></iq>", "c@d/e", "a@b/r1"), "id='q'") == "1");
  CHECK(has(receive("<iq type='get' id='q'><q xmlns='u'/></iq>", "c@d/e", "a@b/none"), "-> ", "<service-unavailable "));
  CHECK(has(receive("<iq type='get' id='q'><q xmlns='u'/></iq>", "c@d/e"), "-> ", "<service-unavailable "));
  CHECK(receive("<iq type='result' id='q'/>", "c@d/e").empty());
  CHECK(receive("<iq type='result' id='q'/>", "c@d/e", "a@b/none").empty()); // never an error about an answer
  CHECK(who_got(receive("<iq type='result' id='q'/>", "c@d/e", "a@b/r1"), "id='q'") == "1");
}

TEST_CASE_FIXTURE(account_fixture, "account: names that do not exist are asked for once; presence to them is ignored") {
  storage::batch b;
  b.changes.emplace_back(storage::erase{storage::tables::account_key(*bare)});
  REQUIRE(engine.commit({&b, 1}).front() == storage::outcome::done);
  CHECK_FALSE(machine().is_void());
  CHECK(has(receive("<message id='m'><body>x</body></message>", "c@d/e"), "<service-unavailable "));
  CHECK(machine().is_void()); // not worth keeping
  CHECK(receive("<presence type='subscribe'/>", "c@d").empty());
  engine.set_available(false); // remembered
  CHECK(has(receive("<message id='m'><body>x</body></message>", "c@d/e"), "<service-unavailable "));
  engine.set_available(true);
  write_account();
  around.absent().erase(*bare); // it has been created
  CHECK(has(receive("<iq type='get' id='q'><q xmlns='u'/></iq>", "c@d/e", "a@b"), "<service-unavailable "));
  CHECK_FALSE(machine().is_void());
}

TEST_CASE_FIXTURE(account_fixture, "account: while the storage is away nobody is told that there is no such account") {
  engine.set_available(false);
  CHECK(has(receive("<message id='m'><body>x</body></message>", "c@d/e"), "<resource-constraint ", "type='wait'"));
  engine.set_available(true);
  CHECK(has(receive("<message id='m'><body>x</body></message>", "c@d/e"), "<service-unavailable ")); // exists, keeps nothing
  CHECK_FALSE(machine().is_void());
}

TEST_CASE_FIXTURE(account_fixture, "presence: initial presence is told to subscribers, asked of contacts, shared between resources") {
  write_contact("to@d", to);
  write_contact("from@d", from);
  write_contact("both@d", both);
  attach(1, "r1");
  auto first = say(1, "<presence><status>one</status></presence>");
  CHECK(count(first, "-> ", "<status>one</status>") == 2);
  for (auto who : {"from@d", "both@d"})
    CHECK(has(first, "-> ", "to='" + std::string{who} + "'", "from='a@b/r1'", "<status>one</status>"));
  for (auto who : {"to@d", "both@d"})
    CHECK(has(first, "-> ", "type='probe'", "to='" + std::string{who} + "'", "from='a@b/r1'"));
  CHECK(count(first, "type='probe'") == 2);
  attach(2, "r2");
  auto second = say(2, "<presence><status>two</status></presence>");
  CHECK(who_got(second, "<status>two</status>") == "--12");
  CHECK(who_got(second, "<status>one</status>") == "2");
  auto update = say(1, "<presence><status>changed</status></presence>");
  CHECK(who_got(update, "<status>changed</status>") == "--12");
  CHECK(count(update, "type='probe'") == 0); // once
  auto bye = say(1, "<presence type='unavailable'><status>bye</status></presence>");
  CHECK(who_got(bye, "<status>bye</status>") == "--12");
  auto gone = detach(2);
  CHECK(count(gone, "-> ", "type='unavailable'", "from='a@b/r2'") == 2);
  CHECK(detach(2).empty()); // once
}

TEST_CASE_FIXTURE(account_fixture, "presence: a probe is answered to those who may see it, and only to those (section 4.3.2)") {
  write_contact("from@d", from);
  write_contact("to@d", to);
  attach(1, "r1");
  say(1, "<presence><status>here</status></presence>");
  CHECK(has(receive("<presence type='probe'/>", "from@d"), "-> ", "to='from@d'", "<status>here</status>"));
  CHECK(has(receive("<presence type='probe'/>", "a@b/r9"), "-> ", "to='a@b/r9'", "<status>here</status>")); // its own
  for (auto who : {"to@d", "stranger@d"}) {
    auto got = receive("<presence type='probe'/>", who);
    CHECK(has(got, "-> ", "type='unsubscribed'", "to='" + std::string{who} + "'"));
    CHECK_FALSE(has(got, "here"));
  }
  say(1, "<presence type='unavailable'/>");
  CHECK(receive("<presence type='probe'/>", "from@d").empty());
}

TEST_CASE_FIXTURE(account_fixture, "presence: what contacts say goes to all available resources, directed presence to one") {
  attach(1, "r1");
  attach(2, "r2");
  attach(3, "r3");
  say(1, presence(0));
  say(2, presence(-1));
  CHECK(who_got(receive("<presence><status>x</status></presence>", "c@d/e"), "<status>x</status>") == "12");
  CHECK(who_got(receive("<presence><status>x</status></presence>", "c@d/e", "a@b/r3"), "<status>x</status>") == "3");
  CHECK(receive("<presence><status>x</status></presence>", "c@d/e", "a@b/none").empty());
  CHECK(receive("<presence type='error'><status>x</status></presence>", "c@d/e").empty());
}

TEST_CASE_FIXTURE(account_fixture, "subscriptions: a request waits for its answer, and the answer tells everybody") {
  attach(1, "r1");
  say(1, "<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
  CHECK(receive("<presence type='subscribe'><status>please</status></presence>", "c@d").size() == 0); // not available: kept
  auto came = say(1, "<presence/>");
  CHECK(has(came, "1: ", "type='subscribe'", "please", "from='c@d'"));
  auto yes = say(1, "<presence type='subscribed'/>", "c@d", "a@b");
  CHECK(has(yes, "1: ", "jid='c@d'", "subscription='from'"));
  CHECK(has(yes, "-> ", "type='subscribed'", "to='c@d'"));
  CHECK(has(yes, "-> ", "<presence", "to='c@d'", "from='a@b/r1'"));
  CHECK(row_of("c@d") == " [] from");
  auto back = receive("<presence type='unsubscribe'/>", "c@d");
  CHECK(has(back, "1: ", "subscription='none'"));
  CHECK(has(back, "-> ", "type='unavailable'", "to='c@d'"));
}

TEST_CASE_FIXTURE(account_fixture, "account: of a lost node's sessions each account tells its own, once") {
  write_contact("x@b", xmpp::im::subscription_state{true, true, false, false, false});
  write_contact("stranger@b", {});
  attach(1, "r1");
  say(1, "<presence/>");
  auto names = [](std::initializer_list<std::string_view> all) {
    auto v = std::make_shared<std::vector<xmpp::jid_ref>>();
    for (auto n : all)
      v->push_back(jid(n));
    std::sort(v->begin(), v->end(), [](auto& a, auto& b) { return a->hash() < b->hash(); });
    return v;
  };
  auto told = step(modules::event::lost{names({"x@b/one", "stranger@b/r", "nobody@b/r"})});
  CHECK(count(told, "1: ", "x@b/one", "unavailable") == 1);
  CHECK(told.size() == 1);
  auto asked = step(modules::event::found_again{names({"x@b/one", "x@b/two", "stranger@b/r"})});
  CHECK(count(asked, "-> ", "type='probe'", "to='x@b'") == 1);
  CHECK(count(asked, "-> ", "<presence", "to='x@b'") == 2); // that side may have given this one up, too: it is told
  CHECK(asked.size() == 2);
  CHECK(step(modules::event::detach{1, true}).empty()); // its node is lost: nobody is told by this account
}

TEST_CASE_FIXTURE(account_fixture, "account: a session that comes from another owner of the account is known there already") {
  write_contact("x@b", xmpp::im::subscription_state{true, true, false, false, false});
  auto view = std::make_shared<modules::session_view>();
  view->id = 1;
  view->full = jid("a@b/r1");
  view->is_available = view->is_introduced = true;
  view->presence = stanza("<presence/>", "a@b/r1", "a@b");
  CHECK_FALSE(has(step(modules::event::attach{{1, jid("a@b/r1"), {}, 1, {}, false, view, true}}), "-> ")); // nobody hears of it
  CHECK(has(receive("<message type='chat'><body>hi</body></message>", "x@b/r"), "1: ", "hi"));
  CHECK(has(step(modules::event::lost{std::make_shared<const std::vector<xmpp::jid_ref>>(std::vector{jid("x@b/r")})}), "1: ", "unavailable")); // it has read its contacts
  view = std::make_shared<modules::session_view>(*view);
  view->id = 2;
  view->full = jid("a@b/r2");
  view->is_introduced = false; // the owner of before had not come to that
  CHECK(count(step(modules::event::attach{{2, jid("a@b/r2"), {}, 2, {}, false, view, true}}), "-> ", "to='x@b'") == 2); // presence and probe
}

TEST_CASE_FIXTURE(account_fixture, "account: after a crash the rows are what counts") {
  write_contact("from@d", from, "Name");
  attach(1, "r1");
  say(1, "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='new@d'/></query></iq>");
  start_again();
  attach(1, "r1");
  auto got = say(1, "<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>");
  CHECK(has(got, "name='Name'", "new@d"));
  CHECK(has(say(1, "<iq type='set' id='t'><query xmlns='jabber:iq:roster'><item jid='new@d' name='N'/></query></iq>"), "id='t'", "type='result'"));
  CHECK(has(say(1, "<presence/>"), "-> ", "to='from@d'"));
}

TEST_CASE_FIXTURE(account_fixture, "account: of two sessions with one name that a healed split brings together the later one stays") {
  auto come = [&](std::uint64_t session) {
    modules::attach_request who{session, jid("a@b/r"), {}, session, {}};
    who.before = std::make_shared<const modules::session_view>(modules::session_view{session, who.full, 0, false, false, false, false, nullptr});
    who.has_moved = true;
    return step(modules::event::attach{who});
  };
  attach(5, "r");
  CHECK(has(come(3), "end 3 conflict"));
  CHECK_FALSE(has(say(5, "<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>", "a@b", "a@b/r"), "end 5"));
  CHECK(has(come(7), "end 5 conflict"));
}

TEST_CASE_FIXTURE(account_fixture, "account: where it has just come to, what is said waits for what is stored, if there is any") {
  constexpr std::uint32_t settle_timer = 2;
  bool is_any = true;
  int looks = 0;
  at->view.expects.add_observer(modules::stage::delivery, "test", [&](modules::session_expects& ev) {
    if (!is_any)
      ev.account.expect_nothing(ev.session, ev.out);
  });
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready&) { ++looks; });
  auto come = [&] {
    modules::attach_request who{1, jid("a@b/r"), {}, 1, {}};
    who.before = std::make_shared<const modules::session_view>(modules::session_view{1, who.full, 0, true, true, false, false, stanza("<presence/>", "a@b/r", "a@b")});
    who.has_moved = true;
    step(modules::event::attach{who});
  };
  auto say_something = [&] { return receive("<message id='m1'><body>x</body></message>", "c@d/e"); };
  SUBCASE("there is") {
    come();
    CHECK(who_got(say_something(), "id='m1'") == "");
    SUBCASE("and the node of before has finished") {
      step(modules::event::look_again{});
      CHECK(who_got(step(modules::event::timer{settle_timer}), "id='m1'") == "1");
    }
    SUBCASE("and the node of before says nothing") {
      std::string got;
      for (int n = 0; n < 10 && got.empty(); ++n)
        got = who_got(step(modules::event::timer{settle_timer}), "id='m1'");
      CHECK(got == "1");
    }
    CHECK(looks == 1);
  }
  SUBCASE("there is not") {
    is_any = false;
    come();
    CHECK(who_got(say_something(), "id='m1'") == "1");
    is_any = true;
    step(modules::event::look_again{}); // the node of before has written something meanwhile
    CHECK(who_got(say_something(), "id='m1'") == "");
    CHECK(who_got(step(modules::event::timer{settle_timer}), "id='m1'") == "1");
  }
}

TEST_CASE_FIXTURE(account_fixture, "account: what is stored while its messages are being given comes before what waits for those") {
  is_prompt = false;
  int begun = 0, ended = 0;
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready& ev) {
    ++begun;
    ev.account.hold_messages(ev.session);
    ev.out.load(storage::key_range{"x", "y"}, 1, [&, &account = ev.account, session = ev.session](modules::rows, modules::effects& out) {
      ++ended;
      account.release_messages(session, out);
    });
  });
  attach(1, "r1");
  say(1, presence(0));
  while (begun == 0 && run_one()) {
  }
  REQUIRE(begun == 1);
  CHECK(who_got(receive("<message id='m1'><body>x</body></message>", "c@d/e"), "id='m1'") == "");
  step(modules::event::look_again{}); // somebody has stored something
  std::string got;
  while (got.empty() && run_one())
    got = who_got(take(), "id='m1'");
  CHECK(got == "1");
  CHECK(ended == 2);
}

TEST_CASE_FIXTURE(account_fixture, "account: what is held for several sessions goes its way anew once, whoever of them leaves") {
  std::uint64_t reading = 0; // what is stored for it
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready& ev) {
    if (ev.session <= reading)
      ev.account.hold_messages(ev.session);
  });
  auto message = [](int n) { return "<message id='m" + std::to_string(n) + "'><body>x</body></message>"; };
  auto come = [&](std::uint64_t s) {
    attach(s, "r" + std::to_string(s));
    say(s, presence(0));
  };
  reading = 2;
  for (std::uint64_t s : {1, 2, 3})
    come(s);
  CHECK(who_got(receive(message(1), "c@d/e"), "id='m1'") == "3"); // the others hold it
  CHECK_FALSE(has(detach(1), "id='m1'")); // 2 does
  detach(3);
  receive(message(2), "c@d/e"); // 2 alone
  auto left = detach(2);
  CHECK(count(left, "-> ", "id='m1'") == 0); // 3 has it, or has sent it on
  CHECK(count(left, "-> ", "id='m2'") == 1);
}

TEST_CASE_FIXTURE(account_fixture, "account: what is held for several sessions goes with the account once, and is known as what some may have") {
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready& ev) {
    if (ev.session != 3)
      ev.account.hold_messages(ev.session);
  });
  for (std::uint64_t s : {1, 2, 3}) {
    attach(s, "r" + std::to_string(s));
    say(s, presence(0));
  }
  receive("<message id='m1'><body>x</body></message>", "c@d/e");
  SUBCASE("each session leaves with it") {
    std::ptrdiff_t n = 0;
    for (std::uint64_t s : {1, 2, 3})
      n += count(step(modules::event::detach{s, true, true}), "-> ", "id='m1'");
    CHECK(n == 1);
  }
  SUBCASE("all at once") {
    auto held = machine().take_held();
    REQUIRE(held.size() == 1);
    CHECK(held[0].is_again);
  }
}

TEST_CASE_FIXTURE(account_fixture, "account: resources in conflict, by each policy (RFC 6120 section 7.7.2.2)") {
  attach(1, "r");
  auto replaced = attach(2, "r");
  CHECK(replaced == lines{"end 1 conflict", "accept 2 a@b/r"});
  at->on_conflict = conflict_policy::refuse;
  CHECK(attach(3, "r") == lines{"refuse 3 conflict"});
  at->on_conflict = conflict_policy::rename;
  auto renamed = attach(4, "r");
  REQUIRE(renamed.size() == 1);
  CHECK(renamed[0].starts_with("accept 4 a@b/r-"));
  at->max_sessions = 2;
  CHECK(attach(5, "other") == lines{"refuse 5 resource-constraint"});
}

TEST_CASE_FIXTURE(account_fixture, "account: who replaces a session on another node is given what is stored once that one's last acks may be here") {
  int asked = 0;
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready&) { ++asked; });
  step(modules::event::attach{{1, *xmpp::with_resource(*bare, "r"), {2, 0, 1}, 1, {}}});
  say(1, "<presence/>");
  CHECK(asked == 1);
  attach(2, "r");
  say(2, "<presence/>");
  CHECK(asked == 1);
  step(modules::event::timer{2}); // account::settle
  CHECK(asked == 2);
}

TEST_CASE_FIXTURE(account_fixture, "account: what is said while it is yet to be looked for what is stored comes behind that") {
  bool is_read = true, is_empty = false;
  std::vector<std::uint64_t> asked;
  at->view.expects.add_observer(modules::stage::delivery, "test", [&](modules::session_expects& ev) {
    if (is_empty)
      ev.account.expect_nothing(ev.session, ev.out);
  });
  at->view.ready.add_observer(modules::stage::delivery, "test", [&](modules::session_ready& ev) {
    asked.push_back(ev.session);
    if (is_read)
      ev.account.hold_messages(ev.session);
    ev.out.deliver(ev.session, {stanza("<message id='stored'/>", "c@d/e", "a@b"), {}});
  });
  step(modules::event::attach{{1, *xmpp::with_resource(*bare, "r"), {2, 0, 1}, 1, {}}});
  attach(2, "r"); // replaces a session on another node
  SUBCASE("there is nothing") { is_empty = true; }
  say(2, "<presence/>");
  auto say_one = [&](std::string id) { return receive("<message id='" + id + "'><body>x</body></message>", "c@d/e"); };
  if (is_empty) {
    CHECK(has(say_one("m1"), "2: ", "id='m1'"));
    return;
  }
  CHECK(say_one("m1").empty());
  CHECK_FALSE(has(receive("<iq type='get' id='q'/>", "c@d/e", "a@b/r"), "m1")); // which does not wait
  SUBCASE("somebody reads it") {
    auto looked = step(modules::event::timer{2}); // account::settle
    CHECK(asked == std::vector<std::uint64_t>{2});
    CHECK(count(looked, "2: ") == 1);
    CHECK(has(looked, "id='stored'"));
    CHECK(say_one("m2").empty()); // until the reader is done
  }
  SUBCASE("nobody does") {
    is_read = false;
    auto looked = step(modules::event::timer{2});
    REQUIRE(count(looked, "2: ") == 2);
    CHECK(has({looked[0]}, "id='stored'"));
    CHECK(has({looked[1]}, "id='m1'"));
    CHECK(has(say_one("m2"), "2: ", "id='m2'"));
  }
  SUBCASE("it has gone away meanwhile") {
    say(2, "<presence type='unavailable'/>");
    CHECK(has(step(modules::event::timer{2}), "2: ", "id='m1'"));
    CHECK(asked.empty());
  }
}

// --- removal

TEST_CASE_FIXTURE(account_fixture, "removal: contacts are told as if every subscription had been cancelled, then the rows go") {
  for (auto& [who, state] : {std::pair{"to@d", to}, {"from@d", from}, {"both@d", both},
                             {"asked@d", xmpp::im::subscription_state{false, false, true, false, false}},
                             {"asks@d", xmpp::im::subscription_state{false, false, false, true, false}}})
    write_contact(who, state);
  attach(1, "r1");
  say(1, "<presence/>");
  std::optional<base::result<void, storage::errc>> told;
  auto got = step(modules::event::remove{[&](auto r) { told = r; }});
  REQUIRE(told.has_value());
  CHECK(told->has_value());
  auto sent = [&](const char* type) {
    std::string all;
    for (auto who : {"to@d", "from@d", "both@d", "asked@d", "asks@d"})
      if (has(got, "-> ", std::string{"type='"} + type + "'", "to='" + std::string{who} + "'"))
        all += std::string{who} + ' ';
    return all;
  };
  CHECK(sent("unsubscribe") == "to@d both@d asked@d ");
  CHECK(sent("unsubscribed") == "from@d both@d asks@d ");
  CHECK(sent("unavailable") == "from@d both@d ");
  CHECK(engine.rows() == 0);
  CHECK_FALSE(machine().is_void()); // a session is still leaving
  // what comes meanwhile finds no account, and leaves no row
  CHECK(has(receive("<message id='m'><body>x</body></message>", "c@d/e"), "<service-unavailable "));
  CHECK(receive("<presence type='subscribe'/>", "c@d").empty());
  CHECK(has(say(1, "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='n@d'/></query></iq>"), "<not-authorized "));
  CHECK(has(receive("<iq type='result' id='answer'/>", "b", "a@b/r1"), "1: ", "id='answer'"));
  CHECK(attach(2, "r2") == lines{"refuse 2 resource-constraint"});
  CHECK(engine.rows() == 0);
  detach(1);
  CHECK(machine().is_void());
}

TEST_CASE_FIXTURE(account_fixture, "removal: what waits in line behind it is refused; a failure leaves the account") {
  write_contact("both@d", both, "Name");
  std::optional<base::result<void, storage::errc>> told;
  auto remove = [&] {
    told.reset();
    return step(modules::event::remove{[&](auto r) { told = r; }});
  };
  engine.set_available(false);
  CHECK(remove().empty());
  CHECK(told->error() == storage::errc::unavailable);
  engine.set_available(true);
  engine.fail_next(1, storage::outcome::unavailable);
  remove();
  CHECK(told->error() == storage::errc::unavailable);
  CHECK(row_of("both@d") == "Name [] both");
  engine.fail_next(2, storage::outcome::conflict); // somebody else wrote: again
  is_prompt = false;
  remove();
  receive("<presence type='subscribe'/>", "late@d");
  auto got = run_storage();
  CHECK(told->has_value());
  CHECK(has(got, "-> ", "type='unsubscribed'", "to='both@d'"));
  CHECK(engine.rows() == 0);
}

TEST_CASE_FIXTURE(account_fixture, "what a client has acknowledged is not given again, whoever had not heard of that and sends it again") {
  attach(1, "r");
  auto again = stanza("<message id='m'><body>x</body></message>", "c@b/z", "a@b/r");
  again->stanza_id = {1, 2};
  again->completion = {9, 1, 0, 0};
  auto come = [&](bool is_again) { return step(modules::event::stanza{{again, {}, {}, false, false, false, is_again}}); };
  CHECK(who_got(come(true), "<body>x") == "1");
  step(modules::event::settled{1, {{1, 2}}});
  CHECK(come(true) == lines{"complete 0"});
  CHECK(who_got(come(false), "<body>x") == "1"); // another message
}

TEST_CASE_FIXTURE(account_fixture, "what a client has acknowledged need not be stored, though the word for that comes later by another way") {
  attach(1, "r");
  auto late = stanza("<message id='m'><body>x</body></message>", "c@b/z", "a@b/r");
  late->stanza_id = {1, 2};
  late->completion = {9, 1, 0, 0};
  CHECK(step(modules::event::spool{1, {{late, {}}}}) == lines{"complete 3"}); // nobody keeps messages here
  step(modules::event::settled{1, {{1, 2}}});
  CHECK(step(modules::event::spool{1, {{late, {}}}}) == lines{"complete 0"});
  std::vector<base::u128> others;
  for (std::uint64_t n = 0; n < 128; ++n)
    others.push_back({2, n});
  step(modules::event::settled{1, others}); // so many are remembered
  CHECK(step(modules::event::spool{1, {{late, {}}}}) == lines{"complete 3"});
  machine().know_arrived({{1, 2}}); // as it was said at another node
  CHECK(machine().arrived_lately().back() == base::u128{1, 2});
  CHECK(step(modules::event::spool{1, {{late, {}}}}) == lines{"complete 0"});
}
