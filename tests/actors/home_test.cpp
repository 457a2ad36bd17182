// The lane: order, bound per turn, crash boundary, returned stanzas, batches between reactors.
#include "actors/home.hpp"
#include "actors/connection.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include <doctest/doctest.h>
#include <thread>

using namespace actors;

namespace {
struct probe final : light {
  explicit probe(home& h) : home_(h) {}
  void take(xmpp::delivery&& d) {
    got.push_back(std::string{d.what->id()});
    if (got.back() == "boom")
      throw std::runtime_error{"on purpose"};
    if (got.back() == "again" && again-- > 0)
      home_.pass<&probe::take>(id(), std::move(d));
  }
  void on_crash(std::string_view) override {
    ++crashes;
    if (ends_on_crash)
      home_.end(*this);
  }
  void on_completed(std::uint32_t number, modules::outcome, const xmpp::error_ref&) override { completed.push_back(number); }
  home& home_;
  std::vector<std::string> got;
  std::vector<std::uint32_t> completed;
  int crashes = 0, again = 0;
  bool ends_on_crash = false;
};

struct one_home {
  base::manual_clock clock;
  base::seeded_random random{1};
  node around{{}, clock, random};
  net::loop loop{net::loop::time::manual};
  home h{around, 0, loop};
};

xmpp::delivery stanza(const std::string& id) {
  auto s = xmpp::stanza::from_xml("<message id='" + id + "'/>");
  s->from = s->to = *xmpp::parse_jid("a@b/c");
  return {s};
}
} // namespace

TEST_CASE_FIXTURE(one_home, "lane: in order, also what is passed while it runs") {
  auto& p = h.make<probe>();
  p.again = 2;
  for (auto id : {"1", "again", "2"})
    h.pass<&probe::take>(p.id(), stanza(id));
  CHECK(p.got.empty());
  h.end_of_turn();
  CHECK(p.got == std::vector<std::string>{"1", "again", "2", "again", "again"});
}

TEST_CASE_FIXTURE(one_home, "lane: at most so many items a turn; the rest keeps its place, readers wait") {
  auto& p = h.make<probe>();
  for (std::size_t n = 0; n < home::items_per_turn * 2 + 5; ++n)
    h.pass<&probe::take>(p.id(), stanza(std::to_string(n)));
  CHECK(h.is_congested());
  static int resumed = 0;
  h.when_clear(p.id(), [](light&) { ++resumed; });
  CHECK(h.end_of_turn());
  CHECK(p.got.size() == home::items_per_turn);
  CHECK(h.is_congested());
  CHECK(resumed == 0);
  CHECK(h.end_of_turn());
  CHECK_FALSE(h.is_congested());
  CHECK(resumed == 1);
  CHECK_FALSE(h.end_of_turn());
  REQUIRE(p.got.size() == home::items_per_turn * 2 + 5);
  for (std::size_t n = 0; n < p.got.size(); ++n)
    REQUIRE(p.got[n] == std::to_string(n));
}

TEST_CASE_FIXTURE(one_home, "lane: an exception ends one actor, no other is touched") {
  auto& victim = h.make<probe>();
  auto& other = h.make<probe>();
  auto id = victim.id();
  victim.ends_on_crash = true;
  h.pass<&probe::take>(victim.id(), stanza("boom"));
  h.pass<&probe::take>(victim.id(), stanza("late"));
  h.pass<&probe::take>(other.id(), stanza("fine"));
  h.end_of_turn();
  CHECK(h.find<probe>(id) == nullptr);
  CHECK(other.got == std::vector<std::string>{"fine"});
  auto& next = h.make<probe>(); // the slot is used again, the old id names nobody
  CHECK(next.id() != id);
  h.pass<&probe::take>(id, stanza("lost"));
  h.end_of_turn();
  CHECK(next.got.empty());
  h.guard(other.id(), [] { throw std::runtime_error{"in a handler"}; });
  CHECK(other.crashes == 1);
  base::log::flush(); // crashes are logged, by a thread of its own
}

TEST_CASE_FIXTURE(one_home, "lane: control keeps its order among stanzas") {
  auto& p = h.make<probe>();
  h.pass<&probe::take>(p.id(), stanza("1"));
  h.post<probe>(0, p.id(), [](probe& x) { x.got.push_back("control"); });
  h.pass<&probe::take>(p.id(), stanza("2"));
  h.end_of_turn();
  CHECK(p.got == std::vector<std::string>{"1", "control", "2"});
}

TEST_CASE_FIXTURE(one_home, "completions: told once a turn, to whoever still lives") {
  auto& p = h.make<probe>();
  h.complete({p.id(), 7, 0, 0}, modules::outcome::stored);
  h.complete({p.id(), 8, 0, 0}, modules::outcome::bounced);
  h.complete({p.id() + 1, 9, 0, 0}, modules::outcome::stored);
  h.complete({}, modules::outcome::stored); // nobody waits
  h.end_of_turn();
  CHECK(p.completed == std::vector<std::uint32_t>{7, 8});
}

TEST_CASE("two homes on two threads: order per pair, and completions, across") {
  base::system_clock clock;
  base::seeded_random random{1};
  node around{{}, clock, random};
  net::loop a_loop, b_loop;
  home a{around, 0, a_loop}, b{around, 1, b_loop};
  a_loop.at_end_of_turn([&] { return a.end_of_turn(); });
  b_loop.at_end_of_turn([&] { return b.end_of_turn(); });
  auto& from = a.make<probe>();
  auto& to = b.make<probe>();
  constexpr int n = 20'000;
  std::atomic<int> handled{0};
  std::thread b_thread{[&] { b_loop.run(); }};
  std::thread a_thread{[&] { a_loop.run(); }};
  for (int round = 0; round < 20; ++round)
    a.post_from_anywhere([&, round](home& at) {
      for (int k = round * n / 20; k < (round + 1) * n / 20; ++k)
        at.post<probe>(1, to.id(), [&, k](probe& p) {
          p.completed.push_back(static_cast<std::uint32_t>(k));
          b.complete({from.id(), static_cast<std::uint32_t>(k), 0, 0}, modules::outcome::acknowledged);
          ++handled;
        });
    });
  for (int wait = 0; wait < 10'000 && handled < n; ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  std::atomic<std::size_t> back{0};
  for (int wait = 0; wait < 5'000 && back < n; ++wait) {
    a.post_from_anywhere<probe>(from.id(), [&](probe& p) { back = p.completed.size(); });
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
  a_loop.stop();
  b_loop.stop();
  a_thread.join();
  b_thread.join();
  REQUIRE(to.completed.size() == n);
  REQUIRE(from.completed.size() == n);
  for (std::uint32_t k = 0; k < n; ++k) {
    REQUIRE(to.completed[k] == k);
    REQUIRE(from.completed[k] == k);
  }
}

TEST_CASE("congestion: a reactor that floods another one stops reading until that has caught up") {
  base::manual_clock clock;
  base::seeded_random random{1};
  node around{{}, clock, random};
  net::loop a_loop{net::loop::time::manual}, b_loop{net::loop::time::manual};
  home a{around, 0, a_loop}, b{around, 1, b_loop};
  a_loop.at_end_of_turn([&] { return a.end_of_turn(); });
  b_loop.at_end_of_turn([&] { return b.end_of_turn(); });
  auto& from = a.make<probe>();
  auto& to = b.make<probe>();
  static int resumed = 0;
  resumed = 0;
  for (std::size_t n = 0; n < home::items_per_turn * 2 + 5; ++n)
    a.pass_or_return<&probe::take>(1, to.id(), stanza(std::to_string(n)));
  CHECK_FALSE(a.is_congested()); // nothing has been handed over yet
  a_loop.step();
  CHECK(a.is_congested());
  CHECK_FALSE(b.is_congested());
  a.when_clear(from.id(), [](light&) { ++resumed; });
  b_loop.step();
  a_loop.step(10);
  CHECK(a.is_congested()); // b has handled one turn's share
  CHECK(resumed == 0);
  b_loop.step(10);
  CHECK(to.got.size() == home::items_per_turn * 2 + 5);
  a_loop.step(10); // b's mark wakes it
  CHECK_FALSE(a.is_congested());
  CHECK(resumed == 1);
  for (std::size_t n = 0; n < 100; ++n) // a little is no flood
    a.pass_or_return<&probe::take>(1, to.id(), stanza(std::to_string(n)));
  a_loop.step(10);
  CHECK_FALSE(a.is_congested());
}
