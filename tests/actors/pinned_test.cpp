// A pinned actor on a reactor that the test steps: virtual time, timers of the reactor, requests and their time-outs.
#include "tests/support/manual_reactor.hpp"
#include <doctest/doctest.h>

using namespace std::chrono_literals;

namespace {
struct take { std::uint32_t seen = 0; };
struct left { std::vector<std::string> items; };
struct alone {};
struct window_closed {};
} // namespace
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(take)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(left)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(alone)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(window_closed)

namespace {
/// Holds a few items and ends when it has been alone for `window`.
using holder = caf::typed_actor<caf::replies_to<take>::with<left>, caf::reacts_to<alone>, caf::reacts_to<window_closed>>;
struct holder_state {
  static inline const char* name = "holder";
  std::vector<std::string> items;
  net::timer window;
  ~holder_state() { ++ended; }
  static inline int ended = 0;
};
using holder_self = caf::stateful_actor<holder_state, actors::pinned<holder::base>>;

holder::behavior_type run_holder(holder_self* self, std::vector<std::string> items, std::chrono::seconds window) {
  self->state.items = std::move(items);
  return {
      [self](const take& m) -> left {
        auto& items = self->state.items;
        items.erase(items.begin(), items.begin() + m.seen);
        self->state.window.cancel();
        return {items};
      },
      [self, window](alone) { self->state.window = self->send_after(window, window_closed{}); },
      [self](window_closed) { self->quit(); },
  };
}
} // namespace

TEST_CASE_FIXTURE(manual_reactor, "a timer ends an actor") {
  auto romeo = home.spawn(run_holder, std::vector<std::string>{"m1", "m2"}, 600s);
  tell(romeo, alone{});
  advance(599s);
  CHECK(ask<left>(romeo, take{0})); // in time: answered, and the window is closed
  tell(romeo, alone{});
  advance(601s);
  CHECK_FALSE(ask<left>(romeo, take{0}));
}

TEST_CASE_FIXTURE(manual_reactor, "a cancelled timer does not") {
  auto romeo = home.spawn(run_holder, std::vector<std::string>{"m1", "m2"}, 600s);
  tell(romeo, alone{});
  auto rest = ask<left>(romeo, take{1});
  REQUIRE(rest);
  CHECK(rest->items == std::vector<std::string>{"m2"});
  advance(24h);
  CHECK(ask<left>(romeo, take{0}));
}

TEST_CASE("state ends with the actor, armed timers included, and nothing outlives the fixture") {
  holder_state::ended = 0;
  {
    manual_reactor m;
    auto romeo = m.home.spawn(run_holder, std::vector<std::string>{}, 600s);
    m.tell(romeo, alone{});
    caf::anon_send_exit(romeo, caf::exit_reason::user_shutdown);
    m.settle();
    CHECK(holder_state::ended == 1);
    m.advance(601s); // the window died with the state
    m.home.spawn(run_holder, std::vector<std::string>{}, 600s);
  }
  CHECK(holder_state::ended == 2);
}

TEST_CASE_FIXTURE(manual_reactor, "two reactors on one thread take turns") {
  actors::reactor other{sys, net::loop::time::manual};
  auto romeo = other.spawn(run_holder, std::vector<std::string>{"m1"}, 1s);
  auto juliet = home.spawn([romeo](actors::pinned<caf::event_based_actor>* self) -> caf::behavior {
    return {[self, romeo](int) {
      auto promise = self->make_response_promise();
      self->request(romeo, caf::infinite, take{0}).then([promise](left& b) mutable {
        promise.deliver(static_cast<int>(b.items.size()));
      });
      return promise;
    }};
  });
  caf::scoped_actor me{sys};
  auto answer = me->request(juliet, caf::infinite, 1);
  while (home.step() + other.step() > 0) {}
  answer.receive([](int n) { CHECK(n == 1); }, [](caf::error&) { FAIL("no answer"); });
  other.end_all();
  other.step(10);
}

TEST_CASE_FIXTURE(manual_reactor, "a request time-out follows virtual time") {
  auto silent = home.spawn([](actors::pinned<caf::event_based_actor>* self) -> caf::behavior {
    return {[self](int) { return self->make_response_promise(); }};
  });
  auto failed = std::make_shared<caf::error>();
  home.spawn([=](actors::pinned<caf::event_based_actor>* self) -> caf::behavior {
    self->request(silent, 5s, 1).then([](int) {}, [=](caf::error& e) { *failed = e; });
    return {[](float) {}};
  });
  advance(4s);
  CHECK_FALSE(*failed);
  advance(2s);
  CHECK(*failed == caf::sec::request_timeout);
}
