// Rates of listeners, accounts and addresses together; the wheel for silent connections.
#include "net/coarse_wheel.hpp"
#include "net/shaper.hpp"
#include <doctest/doctest.h>
#include <map>
#include <random>
#include <thread>

using namespace std::chrono_literals;

namespace {
const base::time_point now{1h};
net::address_key address(std::uint64_t n) { return {n, false}; }
} // namespace

TEST_CASE("the slowest of listener, account and address counts, in bytes and in stanzas") {
  net::rates listener{{1'000, 1'000}, {}}, account{{}, {10, 5}}, of_address{{500, 2'000}, {}};
  net::address_rates all{of_address};
  net::shaper s{listener, all.of(address(1), now), of_address};
  CHECK(s.take(1'000, 5, now) == 0s);
  CHECK(s.take(100, 0, now) == 100ms); // the listener's
  s.set_account(account);
  CHECK(s.take(0, 5, now) == 100ms);
  CHECK(s.take(0, 5, now) == 500ms);   // the account's
  CHECK(s.take(900, 0, now) == 1s);    // the listener's again
  net::shaper other{{}, all.of(address(1), now), of_address};
  CHECK(other.take(500, 0, now) == 1s); // the address's: both together sent 2,500
  net::shaper elsewhere{{}, all.of(address(2), now), of_address};
  CHECK(elsewhere.take(500, 0, now) == 0s);
}

TEST_CASE("one read is never a burst of its own") {
  net::shaper s{{{100, 4'096}, {}}, nullptr, {}};
  CHECK(s.most_bytes(65'536) == 4'096);
  s.set_account({{100, 1}, {}});
  CHECK(s.most_bytes(65'536) == 512);
  net::shaper stanzas_only{{{}, {10, 10}}, nullptr, {}};
  CHECK(stanzas_only.most_bytes(65'536) == 65'536);
}

TEST_CASE("addresses: a new connection is no new burst; who is full again is forgotten") {
  net::rates r{{10, 10}, {}};
  net::address_rates all{r};
  all.of(address(1), now)->take(20, 0, r, now);
  CHECK(all.of(address(1), now)->take(0, 0, r, now) == 1s);
  auto held = all.of(address(2), now);
  for (std::uint64_t i = 10; i < 5'000; ++i)
    static_cast<void>(all.of(address(i), now + 1min)); // swept at 1,024: nobody holds them, and they are full
  CHECK(all.size() <= 1'024);
  CHECK(all.of(address(2), now) == held);
  net::address_rates none{{}};
  CHECK(none.of(address(1), now) == nullptr);
  none.change(r); // for connections that come from now on
  CHECK(none.of(address(1), now) != nullptr);
  all.change({});
  CHECK(all.of(address(2), now) == nullptr);
  CHECK(held->take(20, 0, r, now) > 0s); // who has one keeps it
}

TEST_CASE("addresses: buckets are shared between threads") {
  net::rates r{{}, {1'000, 1}};
  net::address_rates all{r};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 1'000; ++i)
        all.of(address(static_cast<std::uint64_t>(i % 3)), now)->take(0, 1, r, now);
    });
  for (auto& t : threads)
    t.join();
  base::duration owed{};
  for (std::uint64_t i = 0; i < 3; ++i)
    owed += all.of(address(i), now)->take(0, 0, r, now);
  CHECK(owed == 4s - 3ms); // 4,000 stanzas, but for three bursts of one
}

TEST_CASE("the coarse wheel calls each at its tick, and agrees with a map") {
  net::coarse_wheel w;
  std::multimap<std::uint32_t, std::uint64_t> model;
  std::mt19937 random{9};
  std::uint64_t id = 0;
  for (std::uint32_t now_ = 0; now_ < 3'000; ++now_) {
    for (auto n = random() % 5; n > 0 && now_ < 2'000; --n) {
      auto in = random() % 600;
      w.put(++id, static_cast<std::uint32_t>(in));
      model.emplace(now_ + std::clamp<std::uint32_t>(static_cast<std::uint32_t>(in), 1, net::coarse_wheel::longest), id);
    }
    std::vector<std::uint64_t> due, wanted;
    w.tick([&](std::uint64_t i) { due.push_back(i); });
    for (auto [at, end] = model.equal_range(now_ + 1); at != end;) {
      wanted.push_back(at->second);
      at = model.erase(at);
    }
    REQUIRE(due == wanted);
  }
  CHECK(w.is_empty());
  CHECK(model.empty());
  w.put(1, 1);
  int calls = 0;
  for (int i = 0; i < 5; ++i)
    w.tick([&](std::uint64_t same) {
      ++calls;
      w.put(same, 1); // from inside
    });
  CHECK(calls == 5);
  CHECK_FALSE(w.is_empty());
}
