// The start of an account: the rows that modules preload come before anything is handled, and without them nothing is.
#include "actors/account.hpp"
#include "actors/node.hpp"
#include "storage/tables.hpp"
#include <doctest/doctest.h>

using namespace actors;
using modules::effects;

namespace {
xmpp::jid_ref jid(std::string_view s) { return *xmpp::parse_jid(s); }

/// One account of a host with one preload; reads are answered by hand.
struct one_account {
  base::manual_clock clock;
  base::seeded_random random{1};
  node around{{}, clock, random};
  std::shared_ptr<host> at = std::make_shared<host>();
  std::vector<std::string> taken; // values of the rows
  std::unique_ptr<account> machine;
  std::vector<modules::effect::load> loads;
  std::vector<std::string> log; // the rest of what was asked for
  std::vector<std::uint32_t> timers;

  one_account() {
    at->view.domain = jid("example.org");
    at->view.preloads.push_back({[](const xmpp::jid& bare) { return storage::tables::blocks_of(bare); }, 5,
                                 [this](modules::account_view& view, const std::vector<storage::row>& rows, effects&) {
                                   CHECK(view.sessions().empty());
                                   for (auto& r : rows)
                                     taken.push_back(r.value);
                                 }});
    machine = std::make_unique<account>(jid("me@example.org"), at, around);
  }
  void note(effects& out) {
    for (auto& item : out.list()) {
      if (auto* l = std::get_if<modules::effect::load>(&item))
        loads.push_back(std::move(*l));
      else if (auto* r = std::get_if<modules::effect::route>(&item))
        log.push_back("route " + xmpp::to_string(r->what));
      else if (auto* d = std::get_if<modules::effect::deliver>(&item))
        log.push_back("deliver " + std::string{d->what.what->id()});
      else if (auto* a = std::get_if<modules::effect::accept>(&item))
        log.push_back("accept " + std::to_string(a->session));
      else if (auto* no = std::get_if<modules::effect::refuse>(&item))
        log.push_back("refuse " + std::to_string(no->session) + ' ' + std::string{xmpp::name_of(no->why.condition)});
      else if (auto* t = std::get_if<modules::effect::set_timer>(&item))
        timers.push_back(t->id);
      else if (auto* s = std::get_if<modules::effect::share>(&item))
        log.push_back("share " + std::to_string(s->session));
    }
  }
  void step(modules::entity_event ev) {
    effects out;
    machine->step(ev, clock.now(), out);
    note(out);
  }
  void attach(std::uint64_t id) { step(modules::event::attach{{id, jid("me@example.org/r" + std::to_string(id)), {}, id, nullptr}}); }
  /// One that has been let in when the account was on another node.
  void come_back(std::uint64_t id) {
    auto full = jid("me@example.org/r" + std::to_string(id));
    auto before = std::make_shared<modules::session_view>(modules::session_view{id, full, 0, false, false, false, false, nullptr});
    step(modules::event::attach{{id, full, {}, id, nullptr, false, before, true}});
  }
  void message(std::string_view id, std::string_view to = "me@example.org/r1") {
    auto s = xmpp::stanza::from_xml("<message id='" + std::string{id} + "'><body>x</body></message>");
    s->from = jid("you@example.org/x");
    s->to = jid(to);
    step(modules::event::stanza{{s, {}}});
  }
  void answer(modules::rows r) {
    REQUIRE_FALSE(loads.empty());
    auto next = std::move(loads.front());
    loads.erase(loads.begin());
    effects out;
    next.then(std::move(r), out);
    note(out);
  }
  std::vector<std::string> take_log() { return std::exchange(log, {}); }
};
using lines = std::vector<std::string>;
const std::vector<storage::row> one_row{{"k", "v", 1}};
} // namespace

TEST_CASE_FIXTURE(one_account, "a session waits for the rows, and so does everything after it, in order") {
  attach(1);
  message("a");
  attach(2);
  message("b");
  CHECK(log.empty());
  CHECK_FALSE(machine->is_idle());
  REQUIRE(loads.size() == 1);
  CHECK(loads[0].range.from == storage::tables::blocks_of(*jid("me@example.org")).from);
  CHECK(loads[0].limit == 5);
  answer(one_row);
  CHECK(taken == lines{"v"});
  CHECK(take_log() == lines{"share 1", "accept 1", "deliver a", "share 2", "accept 2", "deliver b"});
  message("c");
  attach(3);
  CHECK(take_log() == lines{"deliver c", "share 3", "accept 3"}); // no further read
  CHECK(loads.empty());
}

TEST_CASE_FIXTURE(one_account, "a stanza first asks whether the account exists: who does not costs one read") {
  message("a");
  REQUIRE(loads.size() == 1);
  CHECK(loads[0].range.from == storage::tables::account_key(*jid("me@example.org")));
  answer(std::vector<storage::row>{});
  CHECK(loads.empty());
  REQUIRE(log.size() == 1);
  CHECK(log[0].find("service-unavailable") != std::string::npos);
}

TEST_CASE_FIXTURE(one_account, "a stanza for who is away waits for both reads") {
  message("a");
  message("b");
  answer(one_row);
  CHECK(log.empty());
  message("c");
  answer(one_row);
  CHECK(taken == lines{"v"});
  REQUIRE(log.size() == 3); // nobody is there, and nothing keeps messages
  for (auto n : {0, 1, 2})
    CHECK(log[static_cast<std::size_t>(n)].find(std::string{"id='"} + "abc"[n] + "'") != std::string::npos);
  CHECK(loads.empty());
  CHECK(machine->is_idle());
}

TEST_CASE_FIXTURE(one_account, "a session that comes while a stanza asks whether the account exists: no later stanza overtakes that one") {
  message("a");
  attach(1);
  message("b");
  REQUIRE(loads.size() == 2); // the account's row, then what is preloaded
  answer(one_row);
  message("c");
  answer(one_row);
  CHECK(take_log() == lines{"share 1", "accept 1", "deliver a", "deliver b", "deliver c"});
}

TEST_CASE_FIXTURE(one_account, "a crash while it starts: what waits goes back, and a session that was there before stays what it was") {
  auto before = std::make_shared<modules::session_view>();
  step(modules::event::attach{{1, jid("me@example.org/r1"), {}, 1, nullptr, false, before}});
  attach(2);
  message("a");
  CHECK(machine->recall(1) == before);
  CHECK(machine->recall(2) == nullptr);
  auto held = machine->take_held();
  REQUIRE(held.size() == 1);
  CHECK(held[0].what->id() == "a");
  CHECK(machine->take_held().empty());
}

TEST_CASE_FIXTURE(one_account, "no account is removed without the rows of its modules") {
  std::string answer_to_it;
  step(modules::event::remove{[&](base::result<void, storage::errc> r) { answer_to_it = r ? "done" : "failed"; }});
  answer(base::fail(storage::errc::unavailable));
  CHECK(answer_to_it == "failed");
  CHECK(loads.empty());
}

TEST_CASE_FIXTURE(one_account, "rows that cannot be read: stanzas come back, sessions are refused, the next one tries again") {
  attach(1);
  message("a");
  step(modules::event::detach{1});
  answer(base::fail(storage::errc::unavailable));
  auto out = take_log();
  REQUIRE(out.size() == 2);
  CHECK(out[0] == "refuse 1 resource-constraint");
  CHECK(out[1].find("<error type='wait'><resource-constraint ") != std::string::npos);
  CHECK(taken.empty());
  CHECK(machine->is_idle());
  attach(2);
  answer(one_row);
  CHECK(take_log() == lines{"share 2", "accept 2"});
}

TEST_CASE_FIXTURE(one_account, "an account that moves while the store is away keeps its sessions, and reads again in a moment") {
  come_back(1);
  come_back(2);
  attach(3);
  message("a");
  answer(base::fail(storage::errc::unavailable));
  auto out = take_log();
  REQUIRE(out.size() == 2); // nothing of 1 and 2
  CHECK(out[0] == "refuse 3 resource-constraint");
  CHECK(out[1].find("<error type='wait'><resource-constraint ") != std::string::npos);
  CHECK_FALSE(machine->is_idle());
  REQUIRE(timers.size() == 1);
  step(modules::event::detach{2}); // it goes meanwhile, and this reads, too
  answer(base::fail(storage::errc::unavailable));
  REQUIRE(timers.size() == 2);
  CHECK(loads.empty());
  step(modules::event::timer{timers.back()});
  answer(one_row);
  CHECK(take_log() == lines{"share 1"});
  CHECK(machine->recall(1));
  CHECK_FALSE(machine->recall(2));
}

TEST_CASE_FIXTURE(one_account, "a session that goes while it waits is not there afterwards") {
  attach(1);
  step(modules::event::detach{1});
  answer(std::vector<storage::row>{});
  CHECK(take_log() == lines{"share 1", "accept 1"}); // which finds nobody
  CHECK(machine->is_idle());
}

TEST_CASE_FIXTURE(one_account, "what waits is bounded") {
  attach(1);
  for (int n = 0; n < 9'999; ++n)
    message("m");
  CHECK(log.empty());
  message("one more");
  REQUIRE(log.size() == 1);
  CHECK(log[0].find("resource-constraint") != std::string::npos);
  attach(2); // control is never refused
  CHECK(log.size() == 1);
}

TEST_CASE_FIXTURE(one_account, "modules that need the roster have it, too") {
  at->view.needs_roster = true;
  attach(1);
  answer(one_row);
  CHECK(log.empty());
  answer(std::vector<storage::row>{}); // head
  answer(std::vector<storage::row>{}); // items
  CHECK(take_log() == lines{"share 1", "accept 1"});
  CHECK(loads.empty());
}

TEST_CASE_FIXTURE(one_account, "a roster that cannot be read is like rows that cannot") {
  at->view.needs_roster = true;
  attach(1);
  answer(one_row);
  answer(base::fail(storage::errc::unavailable));
  CHECK(take_log() == lines{"refuse 1 resource-constraint"});
  attach(2);
  answer(one_row);
  answer(std::vector<storage::row>{});
  answer(std::vector<storage::row>{});
  CHECK(take_log() == lines{"share 2", "accept 2"});
}
