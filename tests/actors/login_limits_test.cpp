// Failed logins: an allowance that refills, a lockout that ends.
#include "actors/login_limits.hpp"
#include <doctest/doctest.h>

using namespace std::chrono_literals;
using actors::login_limits;

namespace {
constexpr login_limits::settings four_in_a_minute{4, 60s, 1'024};
const base::time_point start{1h};
} // namespace

TEST_CASE("login limits: so many failures in a window, then one for each part of it") {
  login_limits l{four_in_a_minute};
  for (int n = 0; n < 4; ++n) {
    CHECK(l.may_try("a", start));
    l.on_failure("a", start);
  }
  CHECK_FALSE(l.may_try("a", start));
  CHECK_FALSE(l.may_try("a", start + 14s));
  CHECK(l.may_try("b", start)); // somebody else
  CHECK(l.may_try("a", start + 15s));
  l.on_failure("a", start + 15s);
  CHECK_FALSE(l.may_try("a", start + 16s));
  CHECK(l.may_try("a", start + 30s));
}

TEST_CASE("login limits: however many fail, a lockout lasts no longer than the window") {
  login_limits l{four_in_a_minute};
  for (int n = 0; n < 10'000; ++n) // attempts that were under way when it began
    l.on_failure("a", start);
  CHECK_FALSE(l.may_try("a", start + 14s));
  CHECK(l.may_try("a", start + 15s));
  for (int n = 0; n < 4; ++n) { // a window after the last one the whole allowance is there
    CHECK(l.may_try("a", start + 60s));
    l.on_failure("a", start + 60s);
  }
  CHECK_FALSE(l.may_try("a", start + 60s));
}

TEST_CASE("login limits: a success clears the account; one failure in a window is a limit, too") {
  login_limits l{four_in_a_minute};
  for (int n = 0; n < 4; ++n)
    l.on_failure("a", start);
  l.on_success("a");
  CHECK(l.may_try("a", start));
  login_limits strict{{1, 60s, 1'024}};
  strict.on_failure("a", start);
  CHECK_FALSE(strict.may_try("a", start + 59s));
  CHECK(strict.may_try("a", start + 60s));
}

TEST_CASE("login limits: a flood of names is bounded, and those that are limited stay so") {
  login_limits l{{1, 60s, 16 * 4}};
  l.on_failure("first", start);
  for (int n = 0; n < 10'000; ++n)
    l.on_failure("n" + std::to_string(n), start);
  CHECK_FALSE(l.may_try("first", start));
  int limited = 0;
  for (int n = 0; n < 10'000; ++n)
    limited += !l.may_try("n" + std::to_string(n), start);
  CHECK(limited < 16 * 4);
  l.on_failure("late", start + 61s); // there is room again
  CHECK_FALSE(l.may_try("late", start + 61s));
}
