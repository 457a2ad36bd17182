// Token buckets on virtual time.
#include "base/token_bucket.hpp"
#include <doctest/doctest.h>
#include <random>

using namespace std::chrono_literals;

TEST_CASE("a token bucket: a burst, then the rate; what was not used fills up to the burst") {
  base::token_bucket b;
  base::rate r{100, 50};
  base::time_point now{1h};
  CHECK(b.is_full(r, now));
  CHECK(b.take(50, r, now) == 0s);
  CHECK_FALSE(b.is_full(r, now));
  CHECK(b.take(1, r, now) == 10ms);
  CHECK(b.take(1, r, now) == 20ms);
  CHECK(b.take(1, r, now + 30ms) == 0ms);
  CHECK(b.take(1'000, r, now + 40ms) == 9'990ms); // a debt, paid at the rate
  CHECK(b.take(0, r, now + 10s) == 30ms);
  CHECK(b.is_full(r, now + 11s));
  CHECK(b.take(51, r, now + 1h) == 10ms); // an hour of silence is one burst, not more
}

TEST_CASE("a token bucket without a rate never waits") {
  base::token_bucket b;
  CHECK(b.take(UINT32_MAX, {}, {}) == 0s);
  CHECK(b.is_full({}, {}));
}

TEST_CASE("a token bucket: whoever obeys it gets the rate, whatever the pieces") {
  std::mt19937 random{3};
  for (base::rate r : {base::rate{7, 3}, {1'000, 10}, {1'000'000, 65'536}}) {
    base::token_bucket b;
    base::time_point start{1h}, now = start;
    std::uint64_t taken = 0;
    while (now - start < 100s) {
      auto n = random() % (r.burst + 1);
      taken += n;
      now += b.take(n, r, now) + std::chrono::microseconds{1};
    }
    auto expected = std::chrono::duration<double>(now - start).count() * r.per_second;
    CHECK(static_cast<double>(taken) <= expected + r.burst + 1);
    CHECK(static_cast<double>(taken) >= expected * 0.95);
  }
}
