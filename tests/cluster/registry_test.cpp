// The registry: charges keep rows alive, rows come and go once, many threads at a time.
#include "cluster/registry.hpp"
#include <doctest/doctest.h>
#include <thread>

using namespace cluster;

namespace {
xmpp::jid_ref j(std::string_view text) { return *xmpp::parse_jid(text); }
constexpr base::budget_limits limits{4, 1'000, 8, 2'000};
} // namespace

TEST_CASE("registry: a charge finds, bounds and keeps the row") {
  registry r{limits};
  CHECK(r.charge(*j("a@b/x"), 10).at == nullptr);
  auto made = r.charge_or_create(j("a@b"), 3, 10);
  REQUIRE(made.at);
  CHECK(made.room == base::room::ok);
  CHECK(made.at->reactor == 3);
  CHECK(r.charge_or_create(j("a@b"), 5, 10).at == made.at); // it stays where it is
  CHECK(made.at->limit.messages() == 2);
  CHECK_FALSE(r.remove_if_idle(*made.at));
  CHECK(r.charge(*j("a@b/other"), 10).room == base::room::ok);
  CHECK(r.charge(*j("a@b"), 10).room == base::room::ok);
  CHECK(r.charge(*j("a@b"), 10).room == base::room::over); // five messages
  CHECK(r.charge(*j("a@b"), 3'000).room == base::room::full);
  CHECK(made.at->limit.messages() == 5); // a refused charge is not taken
  CHECK_FALSE(r.is_quiet());
  for (int n = 0; n < 5; ++n)
    made.at->limit.release(10);
  CHECK(r.is_quiet());
  CHECK(r.charge_online(*j("a@b"), 10).at == nullptr); // nobody is there
  CHECK(r.remove_if_idle(*made.at));
  CHECK(r.address_count() == 0);
}

TEST_CASE("registry: rows of sessions, by their own id") {
  registry r{limits};
  auto& a = r.charge_always(j("a@b"), 0, 1);
  a.limit.release(1);
  r.publish(a, {j("a@b/x"), {0, 0, 7}, 1, 1, 0, false});
  r.publish(a, {j("a@b/x"), {0, 0, 7}, 1, 1, 5, true});
  CHECK(r.session_count() == 1);
  CHECK(r.sessions_of(*j("a@b")).front().priority == 5);
  CHECK_FALSE(r.remove_if_idle(a)); // a session is there
  r.publish(a, {j("a@b/x"), {0, 0, 8}, 2, 2, 0, false}); // a successor with the same name
  r.withdraw(a, 1);
  r.withdraw(a, 1); // twice is once
  REQUIRE(r.session_count() == 1);
  CHECK(r.sessions_of(*j("a@b")).front().id == 2);
  auto online = r.charge_online(*j("a@b/x"), 10);
  CHECK(online.at == &a);
  online.at->limit.release(10);
  r.withdraw(a, 2);
  CHECK(r.remove_if_idle(a));
}

TEST_CASE("registry: rows are made and charged by many threads") {
  registry r{{1'000'000, 1u << 30, 2'000'000, 2'000'000'000}};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int n = 0; n < 20'000; ++n) {
        auto name = j("u" + std::to_string(n % 50) + "@b");
        auto f = r.charge_or_create(name, static_cast<std::uint16_t>(t), 10);
        if (f.at->bare->bare() != name->bare())
          std::abort();
        f.at->limit.release(10);
      }
    });
  for (auto& t : threads)
    t.join();
  CHECK(r.address_count() == 50);
  CHECK(r.is_quiet());
}

TEST_CASE("absent names: remembered for a while, bounded") {
  absent_names names{std::chrono::seconds{30}};
  base::time_point now{};
  names.insert(*j("nobody@b"), now);
  CHECK(names.contains(*j("nobody@b"), now));
  CHECK_FALSE(names.contains(*j("nobody@b"), now + std::chrono::seconds{31}));
  names.erase(*j("nobody@b"));
  CHECK_FALSE(names.contains(*j("nobody@b"), now));
  for (int n = 0; n < 100'000; ++n)
    names.insert(*j("n" + std::to_string(n) + "@b"), now); // a flood of names ends in forgetting
}

TEST_CASE("registry: rows without a session are bounded, for each reactor") {
  registry r{limits, 2};
  auto one = r.charge_or_create(j("a1@b"), 0, 1), two = r.charge_or_create(j("a2@b"), 0, 1);
  REQUIRE(one.at);
  REQUIRE(two.at);
  auto refused = r.charge_or_create(j("a3@b"), 0, 1);
  CHECK(refused.at == nullptr);
  CHECK(refused.room == base::room::full);
  CHECK(r.charge_or_create(j("a1@b"), 0, 1).at == one.at); // what is there can be found
  one.at->limit.release(1);
  CHECK(r.charge_or_create(j("a4@b"), 1, 1).at != nullptr); // another reactor
  auto& own = r.charge_always(j("a5@b"), 0, 1); // a login gets through
  CHECK(r.idle_count(0) == 3);
  r.publish(own, {j("a5@b/x"), {0, 0, 7}, 1, 1, 0, false});
  r.publish(own, {j("a5@b/y"), {0, 0, 8}, 2, 2, 0, false});
  CHECK(r.idle_count(0) == 2); // a session is no idle row
  r.withdraw(own, 1);
  r.withdraw(own, 1);
  CHECK(r.idle_count(0) == 2);
  r.withdraw(own, 2);
  CHECK(r.idle_count(0) == 3);
  for (auto* a : {&own, one.at, two.at})
    a->limit.release(1);
  CHECK(r.remove_if_idle(own));
  CHECK(r.remove_if_idle(*one.at));
  CHECK(r.idle_count(0) == 1);
  CHECK(r.charge_or_create(j("a3@b"), 0, 1).at != nullptr);
}
