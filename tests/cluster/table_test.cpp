// The replicated table: who is found, who wins, who owns an account, what a row costs.
#include "tests/cluster/made.hpp"
#include <malloc.h>
#include <set>

using namespace cluster;
using namespace cluster_tests;

namespace {
std::set<std::string> names_of(const table& t, std::string_view bare) {
  std::set<std::string> all;
  t.sessions_of(*jid(bare), [&](std::string_view full, const entry& e) { all.insert(std::string{full} + "@" + std::to_string(e.node)); });
  return all;
}
struct three_nodes {
  table t;
  three_nodes() {
    for (peer_number n = 0; n < 3; ++n) {
      t.set_node(n, 100u - n); // number 0 has the highest identity
      t.set_present(n, true);
    }
  }
};
} // namespace

TEST_CASE_FIXTURE(three_nodes, "table: rows are found while their node is present") {
  CHECK(t.put(1, session_row("a@b/x", 1, 10)));
  CHECK_FALSE(t.put(1, session_row("a@b/x", 1, 10))); // nothing new
  CHECK(t.put(2, session_row("a@b/y", 2, 20)));
  CHECK(t.put(0, session_row("other@b/y", 3, 20)));
  CHECK(t.size() == 3);
  CHECK(t.find(*jid("a@b/x"))->node == 1);
  CHECK(t.find(*jid("a@b/x"))->ref == 10);
  CHECK_FALSE(t.find(*jid("a@b/z")));
  CHECK_FALSE(t.find(*jid("a@c/x")));
  CHECK(names_of(t, "a@b") == std::set<std::string>{"a@b/x@1", "a@b/y@2"});
  t.set_present(1, false);
  CHECK_FALSE(t.find(*jid("a@b/x")));
  CHECK(names_of(t, "a@b") == std::set<std::string>{"a@b/y@2"});
  std::vector<std::string> gone;
  CHECK(t.purge(1, 10, [&](const row& r) { gone.emplace_back(r.name->full()); }));
  CHECK(gone == std::vector<std::string>{"a@b/x"});
  CHECK(t.size() == 2);
  CHECK(t.remove(2, session_row("a@b/y", 2, 0)));
  CHECK_FALSE(t.remove(2, session_row("a@b/y", 2, 0)));
  CHECK(names_of(t, "a@b").empty());
}

TEST_CASE_FIXTURE(three_nodes, "table: of two sessions with one full JID the higher clock wins, then the higher node") {
  struct one { peer_number node; std::uint64_t session, clock; };
  struct line { one a, b; std::uint64_t winner; };
  for (const auto& l : std::initializer_list<line>{{{1, 1, 10}, {2, 2, 20}, 2}, {{1, 1, 20}, {2, 2, 10}, 1}, {{1, 1, 10}, {2, 2, 10}, 1},
                                                   {{2, 1, 10}, {1, 2, 10}, 2}, {{0, 1, 10}, {1, 2, 10}, 1}, {{1, 1, 10}, {1, 2, 11}, 2}}) {
    CAPTURE(l.winner);
    for (bool turned : {false, true}) {
      table fresh;
      for (peer_number n = 0; n < 3; ++n) {
        fresh.set_node(n, 100u - n);
        fresh.set_present(n, true);
      }
      const auto& loser = l.winner == l.a.session ? l.b : l.a;
      const auto& first = turned ? l.b : l.a;
      const auto& second = turned ? l.a : l.b;
      auto alone = fresh.put(first.node, session_row("a@b/x", first.session, first.clock));
      CHECK(alone.is_new);
      CHECK_FALSE(alone.is_beaten);
      CHECK(alone.beaten.empty());
      auto met = fresh.put(second.node, session_row("a@b/x", second.session, second.clock));
      CHECK(met.is_new);
      CHECK(met.is_beaten == (second.session == loser.session && first.node != second.node)); // by another node's
      CHECK(met.beaten.size() == (first.session == loser.session && first.node == self));     // of this node
      auto again = fresh.put(second.node, session_row("a@b/x", second.session, second.clock));
      CHECK_FALSE(again);
      auto changed = session_row("a@b/x", second.session, second.clock);
      changed.what.priority = 7;
      auto replaced = fresh.put(second.node, changed);
      CHECK(replaced);
      CHECK_FALSE(replaced.is_new);
      CHECK(replaced.is_beaten == met.is_beaten);
      CHECK(replaced.beaten.size() == met.beaten.size());
      CHECK(fresh.find(*jid("a@b/x"))->session == l.winner);
      CHECK(names_of(fresh, "a@b").size() == 1);
    }
  }
}

TEST_CASE_FIXTURE(three_nodes, "table: a session that is handed over has one name and is no conflict; the higher epoch is it") {
  t.put(1, session_row("a@b/x", 7, 10, 1));
  auto there = t.put(2, session_row("a@b/x", 7, 10, 2));
  CHECK(there.is_new);
  CHECK_FALSE(there.is_beaten);
  CHECK(there.beaten.empty());
  CHECK(t.find(*jid("a@b/x"))->node == 2);
  CHECK(names_of(t, "a@b") == std::set<std::string>{"a@b/x@2"});
  CHECK_FALSE(t.put(2, session_row("a@b/x", 7, 99, 1)));    // of before
  CHECK_FALSE(t.remove(2, session_row("a@b/x", 7, 0, 1))); // a removal names the epoch that it removes
  CHECK(t.remove(2, session_row("a@b/x", 7, 0, 2)));
  CHECK(t.find(*jid("a@b/x"))->node == 1);
}

TEST_CASE_FIXTURE(three_nodes, "table: an account lives with its oldest session, without one where all nodes say") {
  std::vector<candidate> alive{{98, 2, 4}, {99, 1, 4}, {100, 0, 4}};
  t.put(1, session_row("a@b/x", 5, 20));
  t.put(2, session_row("a@b/y", 6, 10));
  CHECK(t.owner_of(*jid("a@b"), alive) == owner{2, 2});
  CHECK(t.home_of(*jid("a@b")) == owner{2, 2});
  CHECK_FALSE(t.home_of(*jid("nobody@b")));
  t.set_present(2, false);
  CHECK(t.owner_of(*jid("a@b"), alive) == owner{1, 1});
  std::array<int, 3> owned{};
  int moved = 0;
  for (int n = 0; n < 3'000; ++n) {
    auto name = jid("u" + std::to_string(n) + "@b");
    auto all = t.owner_of(*name, alive), fewer = t.owner_of(*name, std::span{alive}.first(2));
    ++owned[all.node];
    CHECK(all.reactor < 4);
    moved += all != fewer;
    if (all.node != 0) // only what the missing one had moves
      CHECK(all == fewer);
  }
  for (auto n : owned)
    CHECK((n > 800 && n < 1'200));
  CHECK(moved == owned[0]);
}

TEST_CASE_FIXTURE(three_nodes, "table: digests tell rows apart, not their order") {
  table other;
  other.set_present(1, true);
  std::vector<row> rows;
  for (std::uint64_t n = 1; n <= 500; ++n)
    rows.push_back(session_row("u" + std::to_string(n) + "@b/x", n, n));
  for (const auto& r : rows)
    t.put(1, r);
  for (auto i = rows.rbegin(); i != rows.rend(); ++i)
    other.put(1, *i);
  auto same = [&] {
    bool is = t.digest(1) == other.digest(1);
    for (std::uint32_t b = 0; b < table::bucket_count; ++b)
      is = is && t.digest(1, b) == other.digest(1, b);
    return is;
  };
  CHECK(same());
  auto changed = rows[7];
  for (auto change : std::initializer_list<void (*)(row&)>{[](row& r) { ++r.clock; }, [](row& r) { ++r.ref; }, [](row& r) { ++r.epoch; }, [](row& r) { ++r.reactor; },
                                                           [](row& r) { ++r.what.priority; }, [](row& r) { r.what.flags ^= 2; }, [](row& r) { ++r.what.capabilities.b; }}) {
    change(changed);
    CHECK(other.put(1, changed));
    CHECK_FALSE(same());
    t.put(1, changed);
    CHECK(same());
  }
  for (const auto& r : rows) {
    auto last = r;
    last.epoch = 9;
    other.remove(1, last);
  }
  CHECK(other.digest(1) == 0);
  CHECK(other.size() == 0);
}

TEST_CASE_FIXTURE(three_nodes, "table: a purge goes slice by slice and tells of each row once") {
  for (std::uint64_t n = 1; n <= 100; ++n)
    t.put(1, session_row("u" + std::to_string(n) + "@b/x", n, n));
  std::multiset<std::uint64_t> gone;
  int slices = 1;
  while (!t.purge(1, 30, [&](const row& r) { gone.insert(r.session); }))
    ++slices;
  CHECK(slices == 4);
  CHECK(gone.size() == 100);
  CHECK(std::set<std::uint64_t>{gone.begin(), gone.end()}.size() == 100);
}

TEST_CASE("table: a remote row takes less than 250 bytes") {
  table t;
  t.set_present(1, true);
  constexpr std::uint64_t count = 100'000;
  auto used = [] { return mallinfo2().uordblks; };
  auto before = used();
  for (std::uint64_t n = 1; n <= count; ++n) // 41 characters
    t.put(1, session_row("user" + std::to_string(1'000'000 + n) + "@example.org/Conversations.a1b2", n, n));
  auto each = static_cast<double>(used() - before) / static_cast<double>(count);
  MESSAGE("bytes for each remote row, index and all: " << each);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // their heaps do not say
  CHECK(each > 100); // it was measured
#endif
  CHECK(each < most_row_bytes);
}

TEST_CASE("table: routes are rows, and no sessions") {
  cluster::table t;
  t.set_node(1, 10);
  t.set_present(1, true);
  auto session = session_row("a@b/c", 5, 1);
  cluster::row route;
  route.name = jid("announce@b");
  route.kind = row_kind::route;
  CHECK(t.put(1, session));
  CHECK(t.put(1, route));
  CHECK(t.size(1) == 2);
  CHECK(t.session_count(1) == 1);
  CHECK(t.remove(1, route));
  CHECK(t.remove(1, session));
  CHECK(t.size(1) == 0);
  CHECK(t.session_count(1) == 0);
}

TEST_CASE_FIXTURE(three_nodes, "table: an account's move is known for a while, with the places that it had") {
  auto a = jid("a@b");
  CHECK_FALSE(t.moved(*a));
  t.put(1, session_row("a@b/x", 1, 10));
  auto first = t.moved(*a);
  REQUIRE(first);
  CHECK(first->was_hashed);
  CHECK(first->count == 0);
  t.put(2, session_row("a@b/y", 2, 20)); // the oldest session counts
  CHECK(t.moved(*a)->number == first->number);
  t.remove(1, session_row("a@b/x", 1, 10));
  auto second = t.moved(*a);
  CHECK(second->number > first->number);
  REQUIRE(second->count == 1);
  CHECK(second->from[0] == 1);
  for (std::uint32_t n = 1; n < table::move_age; ++n)
    t.age_moves();
  CHECK(t.moved(*a));
  t.put(0, session_row("a@b/z", 3, 5));
  REQUIRE(t.moved(*a)->count == 2);
  CHECK(t.moved(*a)->from[0] == 2);
  CHECK(t.moved(*a)->from[1] == 1);
  t.age_moves(); // the first two are old, the last one is not
  CHECK(t.moved(*a));
  for (std::uint32_t n = 1; n < table::move_age; ++n)
    t.age_moves();
  CHECK_FALSE(t.moved(*a));
  t.set_present(0, false); // a node that is lost moves nobody: what was on its way there comes back
  t.purge(0, 10, [](const row&) {});
  CHECK_FALSE(t.moved(*a));
}
