// What becomes of an account's rows when the storage fails: nothing is overwritten, everybody is told.
#include "tests/actors/account_fixture.hpp"

using namespace actors;
using namespace actors::testing;

namespace {
constexpr xmpp::im::subscription_state both{true, true, false, false, false};
constexpr auto new_name = "<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='c@b' name='New'/></query></iq>";
constexpr auto roster_get = "<iq type='get' id='g'><query xmlns='jabber:iq:roster'/></iq>";

/// One session, the roster read, a contact with everything.
struct with_contact : account_fixture {
  with_contact() {
    write_contact("c@b", both, "Carol", {"friends"});
    attach(1, "r1");
    REQUIRE(has(say(1, roster_get), "name='Carol'"));
  }
  /// Somebody else replaces the head, as a second owner would.
  void write_head() { put(storage::tables::head_key(*bare), storage::tables::encode(storage::tables::head{9})); }
};
} // namespace

TEST_CASE_FIXTURE(with_contact, "roster: a failed read of an item refuses and keeps name, groups and subscription") {
  for (auto& [what, to] : {std::pair{new_name, "a@b"}, {"<presence type='unsubscribe'/>", "c@b"}}) {
    CAPTURE(what);
    is_prompt = false;
    say(1, what, to);
    REQUIRE(waiting() == 1); // the row is about to be read
    engine.set_available(false);
    auto got = run_storage();
    CHECK(has(got, "type='error'", "<resource-constraint ", "type='wait'"));
    CHECK_FALSE(has(got, "-> <presence", "type='unsubscribe'"));
    engine.set_available(true);
    CHECK(row_of("c@b") == "Carol [friends] both");
    is_prompt = true;
  }
  is_prompt = false;
  receive("<presence type='unsubscribe'/>", "c@b");
  engine.set_available(false);
  CHECK(has(run_storage(), "type='error'", "<resource-constraint "));
  engine.set_available(true);
  CHECK(row_of("c@b") == "Carol [friends] both");
  is_prompt = true;
  CHECK(has(say(1, new_name), "1: <iq", "type='result'")); // and it goes on
  CHECK(row_of("c@b") == "New [] both");
}

TEST_CASE_FIXTURE(account_fixture, "roster: a damaged row is never skipped, and never overwritten") {
  write_contact("c@b", both, "Carol");
  put(storage::tables::roster_key(*bare, *jid("d@b")), "\xff\xff damaged");
  attach(1, "r1");
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto got = say(1, roster_get);
    CHECK(has(got, "type='error'", "<internal-server-error "));
    CHECK_FALSE(has(got, "Carol"));
    CHECK(has(say(1, new_name), "<internal-server-error "));
    CHECK(has(receive("<presence type='subscribe'/>", "e@b"), "<internal-server-error "));
  }
  CHECK(row_of("c@b") == "Carol [] both");
  CHECK(row_of("e@b") == "none");
}

TEST_CASE_FIXTURE(with_contact, "roster: a damaged item that was read whole before refuses what changes it") {
  put(storage::tables::roster_key(*bare, *jid("c@b")), "\xff\xff damaged");
  CHECK(has(say(1, new_name), "<internal-server-error "));
  auto stored = engine.get(storage::tables::roster_key(*bare, *jid("c@b")));
  CHECK((*stored)->value == "\xff\xff damaged");
}

TEST_CASE_FIXTURE(with_contact, "roster: where somebody else wrote, it is read and decided again") {
  write_head();
  write_contact("c@b", {true, false, false, false, false}, "Changed", {"work"});
  CHECK(has(say(1, new_name), "type='result'"));
  CHECK(row_of("c@b") == "New [] to"); // the other's subscription, the own name
  write_head();
  auto got = say(1, "<presence type='unsubscribe'/>", "c@b");
  CHECK(has(got, "-> <presence", "type='unsubscribe'"));
  CHECK(row_of("c@b") == "New [] none");
}

TEST_CASE_FIXTURE(with_contact, "roster: at most five attempts, then it is refused") {
  auto before = engine.commit_calls();
  engine.fail_next(100, storage::outcome::conflict);
  CHECK(has(say(1, new_name), "<resource-constraint "));
  CHECK(engine.commit_calls() - before == 5);
  engine.fail_next(4, storage::outcome::conflict);
  CHECK(has(say(1, new_name), "type='result'"));
}

TEST_CASE_FIXTURE(with_contact, "roster: a commit of unknown outcome is read again before the next change") {
  for (bool is_done : {true, false}) {
    CAPTURE(is_done);
    engine.lose_next(1, is_done);
    CHECK(has(say(1, new_name), "<resource-constraint "));
    CHECK(has(say(1, "<iq type='set' id='t'><query xmlns='jabber:iq:roster'><item jid='d@b'/></query></iq>"), "id='t'", "type='result'"));
    CHECK(row_of("d@b") == " [] none");
  }
  CHECK(row_of("c@b") == "New [] both");
}

TEST_CASE_FIXTURE(with_contact, "roster: a contact that somebody else removed is a new one") {
  storage::batch b;
  b.changes.emplace_back(storage::erase{storage::tables::roster_key(*bare, *jid("c@b"))});
  REQUIRE(engine.commit({&b, 1}).front() == storage::outcome::done);
  write_head();
  CHECK(has(say(1, new_name), "type='result'"));
  CHECK(row_of("c@b") == "New [] none");
}

namespace {
node_settings narrow() {
  node_settings s;
  s.entity_limits = {8, 64u << 10, 16, 128u << 10};
  return s;
}
struct narrow_fixture : account_fixture {
  narrow_fixture() : account_fixture(narrow()) {
    attach(1, "r1");
    is_prompt = false;
  }
};
} // namespace

TEST_CASE_FIXTURE(narrow_fixture, "operations: those that have no room are refused, none is left without an answer") {
  lines got;
  for (int n = 0; n < 20; ++n)
    for (auto& l : say(1, "<iq type='set' id='i" + std::to_string(n) + "'><query xmlns='jabber:iq:roster'><item jid='c" + std::to_string(n) + "@b'/></query></iq>"))
      got.push_back(l);
  CHECK(count(got, "type='error'", "<resource-constraint ", "type='wait'") == 20 - 9); // one runs, eight wait
  for (auto& l : run_storage())
    got.push_back(l);
  CHECK(count(got, "type='result'") == 9);
  for (int n = 0; n < 20; ++n)
    CHECK(count(got, " id='i" + std::to_string(n) + "'") == 1);
  say(1, roster_get);
  CHECK(has(run_storage(), "id='g'", "c8@b"));
}

TEST_CASE_FIXTURE(narrow_fixture, "operations: what they hold is bounded in bytes, too") {
  std::string long_name(30'000, 'n');
  say(1, roster_get);
  for (int n = 0; n < 2; ++n)
    CHECK(say(1, "<iq type='get' id='l' x='" + long_name + "'><query xmlns='jabber:iq:roster'/></iq>").empty());
  CHECK(has(say(1, "<iq type='get' id='over' x='" + long_name + "'><query xmlns='jabber:iq:roster'/></iq>"), "id='over'", "<resource-constraint "));
  CHECK(count(run_storage(), "type='result'") == 3);
}

TEST_CASE_FIXTURE(narrow_fixture, "operations: a refused subscription holds back nothing of its sender") {
  for (int n = 0; n < 9; ++n)
    say(1, roster_get);
  CHECK(has(receive("<presence type='subscribe' id='p'/>", "c@b"), "type='error'", "<resource-constraint "));
  run_storage();
  CHECK(has(receive("<message type='chat' id='m'><body>x</body></message>", "c@b/x", "a@b/r1"), "1: <message"));
  receive("<presence type='subscribe' id='q'/>", "c@b"); // waits for the disk
  CHECK(receive("<message type='chat' id='n'><body>x</body></message>", "c@b/x", "a@b/r1").empty());
  CHECK(has(run_storage(), "1: <message", "id='n'"));
}

TEST_CASE_FIXTURE(account_fixture, "operations: thousands that need no disk do not pile up on the stack") {
  attach(1, "r1");
  is_prompt = false;
  say(1, roster_get);
  for (int n = 0; n < 16'000; ++n)
    receive("<presence type='unsubscribed'/>", "c" + std::to_string(n) + "@b");
  CHECK(has(run_storage(), "id='g'", "type='result'"));
}
