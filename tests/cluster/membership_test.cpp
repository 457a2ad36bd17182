// Who is alive, and by which number, as one node judges it.
#include "tests/cluster/made.hpp"
#include <deque>
#include <set>

using namespace cluster;
using namespace cluster_tests;

namespace {
/// One node that hears what the test says; its peers have the numbers 1 and what follows.
struct one_member {
  base::seeded_random luck{1};
  std::set<peer_number> in_use; // something is left of these
  membership m{{1, 1 << 20, "one", "a", 1}, 1, {}, luck, [this](peer_number n) { return !in_use.contains(n); }};
  membership::effects out;
  base::time_point now{100s};
  one_member() { m.start(now, out); }
  /// Why it is turned away, and which life is dead.
  std::pair<refusal, life> greet(connection c, node_id who, life of, std::string address = {}) {
    greeting g;
    g.cluster = "covey";
    g.self = {who, of, "node" + std::to_string(who), std::move(address), 1};
    g.process = 5;
    g.to = 1;
    g.profile = xmpp::jid_profile_version;
    m.accepted(c, now, out);
    out.clear();
    m.on_greeting(c, g, now, out);
    for (const auto& e : out)
      if (const auto* p = std::get_if<membership::part>(&e))
        return {p->what.reason, p->what.dead_life};
    return {refusal::none, life{0}};
  }
  void step(base::duration d = 250ms) {
    now += d;
    m.look_at_clock(now, out);
    m.tick(now, out);
  }
};
} // namespace

TEST_CASE_FIXTURE(one_member, "membership: what waits in the own queue is no silence of its sender") {
  REQUIRE(greet(1, 2, 7).first == refusal::none);
  REQUIRE(greet(2, 3, 7).first == refusal::none);
  std::deque<base::time_point> queue; // heartbeats of the first; the second says nothing
  for (int n = 1; n <= 48; ++n) {     // 12 s: this node is busy with what came before
    if (n % 4 == 0)
      queue.push_back(now);
    m.behind(queue.empty() ? base::duration{} : now - queue.front());
    step();
    CHECK(m.at(1).state == peer_state::alive);
    CHECK(m.at(2).state == peer_state::alive); // for all that is known of it
  }
  for (auto came : queue) {
    m.behind(now - came);
    CHECK(m.heard(1, now, out));
    step(50ms);
    CHECK(m.at(1).state == peer_state::alive);
  }
  CHECK(m.at(2).state == peer_state::dead); // its silence is known by now
  m.behind({});
  for (int n = 0; n < 13; ++n)
    step();
  CHECK(m.at(1).state == peer_state::suspected);
}

TEST_CASE_FIXTURE(one_member, "membership: while this process stood still nobody was silent") {
  REQUIRE(greet(1, 2, 7).first == refusal::none);
  for (int n = 0; n < 4; ++n)
    step();
  step(7s);
  CHECK(m.at(1).state == peer_state::alive);
  step(1s);
  CHECK(m.at(1).state == peer_state::alive); // 1.5 s are counted
  for (int n = 0; n < 7; ++n)
    step();
  CHECK(m.at(1).state == peer_state::suspected);
  CHECK(m.own().life == 1 << 20);
}

TEST_CASE_FIXTURE(one_member, "membership: when all numbers are taken, that of who is long gone and of whom nothing is left is another's") {
  connection c = 0;
  node_id last = 1;
  for (std::size_t n = 1; n < most_peers; ++n)
    REQUIRE(greet(++c, ++last, 7).first == refusal::none);
  auto keep = [&] { // the first two stay
    for (connection of = 1; of <= 2; ++of)
      CHECK(m.heard(of, now, out));
  };
  auto pass = [&](base::duration d) {
    for (auto end = now + d; now < end;) {
      step();
      keep();
    }
  };
  CHECK(greet(++c, 9'999, 7).first == refusal::full);
  pass(11s);
  REQUIRE(m.at(3).state == peer_state::dead);
  CHECK(greet(++c, 9'999, 7).first == refusal::full); // what was for them may still be on its way
  pass(10min);
  in_use = {3, 4};
  CHECK(m.number_of(8'888) == 5);
  CHECK(m.at(5).dead_life == 0);
  CHECK(greet(++c, 9'999, 7).first == refusal::none);
  CHECK(m.at(6).who.node == 9'999);
  CHECK(m.at(6).state == peer_state::alive);
  CHECK(greet(++c, 7, 7).first == refusal::none); // who was there before is a stranger now
  CHECK(m.at(7).who.node == 7);
  CHECK(m.at(1).who.node == 2);
  CHECK(m.at(3).who.node == 4); // it is known that its life is over
  CHECK(greet(++c, 4, 7).first == refusal::declared_dead);
  CHECK(m.peers().size() == most_peers);
}

TEST_CASE_FIXTURE(one_member, "membership: a life that was declared dead is turned away, the next one is not") {
  CHECK(greet(1, 2, 7).first == refusal::none);
  for (int n = 0; n < 44; ++n)
    step();
  REQUIRE(m.at(1).state == peer_state::dead);
  CHECK(greet(2, 2, 7) == std::pair{refusal::declared_dead, life{7}});
  CHECK(greet(3, 2, 6) == std::pair{refusal::declared_dead, life{7}});
  CHECK(m.at(1).state == peer_state::dead);
  CHECK(greet(4, 2, 8).first == refusal::none);
  CHECK(m.at(1).state == peer_state::alive);
}

namespace {
/// One of several whose machines answer a dial, or do not.
struct one_of_many : one_member {
  std::set<std::string> heard, refusing; // addresses: who speaks; whose machine says that nobody listens
  std::size_t count = 0;
  void meet(std::size_t others) {
    for (count = 0; count < others;) {
      auto name = std::to_string(++count);
      REQUIRE(greet(count, count + 1, 7, name).first == refusal::none);
      heard.insert(name);
    }
  }
  /// kill -9: the connection is reset, and the machine is there.
  void kill(const std::string& name) {
    heard.erase(name);
    refusing.insert(name);
    m.broken(m.at(static_cast<peer_number>(std::stoi(name))).established, now, out);
  }
  void pass(base::duration d) {
    for (auto end = now + d; now < end;) {
      out.clear();
      step();
      auto todo = std::exchange(out, {});
      for (auto& e : todo)
        if (const auto* dialled = std::get_if<membership::dial>(&e))
          m.dial_failed(dialled->c, refusing.contains(dialled->address), now, out);
      for (std::size_t n = 1; n <= count; ++n)
        if (const auto& p = m.at(static_cast<peer_number>(n)); p.established && heard.contains(p.who.address))
          (void)m.heard(p.established, now, out);
    }
  }
  std::pair<std::size_t, std::size_t> reach() const { return {m.reachable().reached, m.reachable().missing}; }
  using counts = std::pair<std::size_t, std::size_t>;
};
} // namespace

TEST_CASE_FIXTURE(one_of_many, "minority: more are silent than answer, from the moment that they are suspected until they are heard") {
  CHECK(reach() == counts{1, 0});
  meet(2);
  CHECK(reach() == counts{3, 0});
  heard = {"2"};
  pass(4s);
  CHECK(reach() == counts{2, 1});
  CHECK_FALSE(m.reachable().is_minority());
  heard = {};
  pass(2s);
  CHECK(reach() == counts{2, 1}); // its silence is no suspicion yet
  pass(2s);
  CHECK(reach() == counts{1, 2});
  CHECK(m.reachable().is_minority());
  pass(11s);
  REQUIRE(m.at(1).state == peer_state::dead);
  REQUIRE(m.at(2).state == peer_state::dead);
  CHECK(m.reachable().is_minority());
  CHECK(greet(20, 2, 8, "1").first == refusal::none);
  CHECK(reach() == counts{2, 1});
  CHECK_FALSE(m.reachable().is_minority());
}

TEST_CASE_FIXTURE(one_of_many, "minority: of two equal parts neither is one") {
  std::size_t half = 0;
  SUBCASE("two nodes") { half = 1; }
  SUBCASE("four") { half = 2; }
  meet(2 * half - 1);
  heard = half == 1 ? std::set<std::string>{} : std::set<std::string>{"1"};
  pass(12s);
  CHECK(reach() == counts{half, half});
  CHECK_FALSE(m.reachable().is_minority());
}

TEST_CASE_FIXTURE(one_of_many, "minority: who was killed is not missing, at no moment") {
  meet(4);
  for (auto* name : {"1", "2", "3", "4"})
    kill(name);
  for (int n = 0; n < 80; ++n) {
    pass(250ms);
    CHECK_FALSE(m.reachable().is_minority());
  }
  CHECK(m.at(1).state == peer_state::dead);
  CHECK(reach() == counts{1, 0});
  CHECK(greet(20, 2, 8, "1").first == refusal::none); // started again, and then lost without a word
  refusing.erase("1");
  pass(12s);
  CHECK(reach() == counts{1, 1});
}

TEST_CASE_FIXTURE(one_of_many, "minority: a silent one whose machine says that its process is gone is not missing any more") {
  meet(2);
  heard = {};
  pass(12s);
  REQUIRE(reach() == counts{1, 2});
  refusing = {"2"};
  pass(15s); // dials are rarer by now
  CHECK(reach() == counts{1, 1});
  refusing = {};
  pass(10s);
  CHECK(reach() == counts{1, 1}); // that it has been started since nobody has said
}

TEST_CASE_FIXTURE(one_of_many, "minority: who said goodbye or was only named is not missing") {
  meet(3);
  for (connection c : {1, 2})
    m.on_farewell(c, {refusal::leaving, 7, c + 1}, now, out);
  m.on_members({{50, 1, "node50", "50", 1}, {51, 1, "node51", "51", 1}, {52, 1, "node52", "52", 1}}, now);
  heard = {};
  pass(12s);
  REQUIRE(m.at(1).state == peer_state::left);
  CHECK(reach() == counts{1, 1});
}
