// Pinned actors on two real reactors, with traffic from foreign threads, from CAF's own workers and
// across reactors. Every handler asserts its home thread. Meant for TSan as much as for itself.
#include "tests/support/two_reactors.hpp"
#include <future>

namespace {
// Class-based and dynamically typed. int: echo; string: forward to `peer`; atoms: misbehave.
using fail_atom = caf::atom_constant<caf::atom("fail")>;
using quit_atom = caf::atom_constant<caf::atom("quit")>;
using hang_atom = caf::atom_constant<caf::atom("hang")>;
class echo : public pinned_actor {
public:
  explicit echo(caf::actor_config& cfg, caf::actor peer = {}) : pinned_actor(cfg), peer_(peer) {}
  static inline std::atomic<int> exits_at_home{0};
  caf::behavior make_behavior() override {
    at_home(this);
    set_exception_handler([](caf::scheduled_actor*, std::exception_ptr&) -> caf::error {
      return caf::sec::runtime_error;
    });
    return {
        [this](int n) { at_home(this); return n; },
        [this](const std::string& s) {
          at_home(this);
          auto promise = make_response_promise();
          request(peer_, caf::infinite, static_cast<int>(s.size())).then([=, this](int n) mutable {
            at_home(this);
            promise.deliver(n);
          });
          return promise;
        },
        [this](fail_atom) { at_home(this); throw std::runtime_error("on purpose"); },
        [this](quit_atom) { at_home(this); quit(caf::exit_reason::remote_link_unreachable); },
        [this](hang_atom) { at_home(this); return make_response_promise(); },
    };
  }
  void on_exit() override {
    at_home(this);
    ++exits_at_home;
    peer_ = nullptr;
  }

private:
  caf::actor peer_;
};

// Function-based, typed, with state.
using counter = caf::typed_actor<caf::replies_to<int>::with<int>>;
struct counter_state {
  int sum = 0;
  net::timer never;
};
using counter_self = caf::stateful_actor<counter_state, pinned<counter::base>>;
counter::behavior_type run_counter(counter_self* self, int start) {
  at_home(self);
  self->state.sum = start;
  self->state.never = self->send_after(1h, 1);
  return {[self](int n) { at_home(self); return self->state.sum += n; }};
}

// Watches `target` by monitor or link and tells the outcome.
struct outcome { std::promise<caf::error> value; };
struct watcher_state { std::shared_ptr<outcome> result; };
using watcher_self = caf::stateful_actor<watcher_state, pinned_actor>;
caf::behavior run_watcher(watcher_self* self, std::shared_ptr<outcome> result, caf::actor target,
                          bool linked) {
  self->state.result = result;
  self->set_down_handler([self](caf::down_msg& m) {
    at_home(self);
    self->state.result->value.set_value(m.reason);
  });
  self->set_exit_handler([self](caf::exit_msg& m) {
    at_home(self);
    if (m.reason != caf::exit_reason::user_shutdown)
      self->state.result->value.set_value(m.reason);
    self->quit();
  });
  linked ? self->link_to(target) : self->monitor(target);
  return {[](int) {}};
}
} // namespace

TEST_CASE_FIXTURE(two_reactors, "typed, stateful, class-based; from foreign threads, lazily or not") {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      auto& r = t % 2 ? r1 : r2;
      for (int i = 0; i < 50; ++i) {
        auto a = r.spawn<echo>();
        auto b = r.spawn<echo, caf::lazy_init>();
        auto c = r.spawn(run_counter, 40);
        good += ask<int>(a, i) == i;
        good += ask<int>(b, i) == i;
        good += ask<int>(c, 2) == 42;
        for (auto& h : {a, b})
          caf::anon_send_exit(h, caf::exit_reason::user_shutdown);
        if (i % 2) // the others are ended by end_all
          caf::anon_send_exit(c, caf::exit_reason::user_shutdown);
      }
    });
  for (auto& t : threads)
    t.join();
  CHECK(good == 3 * 50 * 3);
}

TEST_CASE_FIXTURE(two_reactors, "request and response: same reactor, across, through a CAF worker") {
  auto near = r1.spawn<echo>(r1.spawn<echo>());
  auto far = r1.spawn<echo>(r2.spawn<echo>());
  auto unpinned = sys.spawn([](caf::event_based_actor*, caf::actor peer) -> caf::behavior {
    return {[peer](int n) { return caf::delegated<int>{}, n; },
            [](const std::string& s) { return static_cast<int>(s.size()); }};
  }, near);
  auto by_worker = r2.spawn<echo>(unpinned);
  for (int i = 0; i < 200; ++i) {
    CHECK(ask<int>(near, std::string(i, 'x')) == i);
    CHECK(ask<int>(far, std::string(i, 'x')) == i);
    CHECK(ask<int>(by_worker, std::string(i, 'x')) == i);
  }
  caf::anon_send_exit(unpinned, caf::exit_reason::user_shutdown);
}

TEST_CASE_FIXTURE(two_reactors, "request time-out") {
  auto asker = r1.spawn([](pinned_actor* self, caf::actor silent) -> caf::behavior {
    return {[=](int) {
      auto promise = self->make_response_promise();
      self->request(silent, 30ms, hang_atom::value)
          .then([](int) {}, [=](caf::error& e) mutable {
            at_home(self);
            promise.deliver(std::move(e));
          });
      return promise;
    }};
  }, r2.spawn<echo>());
  CHECK(ask<int>(asker, 1) == caf::error{caf::sec::request_timeout});
}

TEST_CASE_FIXTURE(two_reactors, "monitor, link, exception, request to the dead") {
  for (bool linked : {false, true})
    for (auto* home : {&r1, &r2}) {
      auto result = std::make_shared<outcome>();
      auto target = home->spawn<echo>();
      auto watcher = r1.spawn(run_watcher, result, target, linked);
      CHECK_FALSE(ask<int>(watcher, 1) == 1); // a round trip: it watches now (no result: unit)
      if (linked)
        caf::anon_send(target, quit_atom::value);
      else
        caf::anon_send(target, fail_atom::value);
      auto why = result->value.get_future().get();
      CHECK(why == (linked ? caf::error{caf::exit_reason::remote_link_unreachable}
                           : caf::error{caf::sec::runtime_error}));
      CHECK_FALSE(ask<int>(target, 1));
    }
}

TEST_CASE_FIXTURE(two_reactors, "exit of a lazy actor that never ran; a linked child") {
  auto before = echo::exits_at_home.load();
  auto lazy = r1.spawn<echo, caf::lazy_init>();
  caf::anon_send_exit(lazy, caf::exit_reason::user_shutdown);
  { caf::scoped_actor self{sys}; self->wait_for(lazy); }
  auto parent = r1.spawn([](pinned_actor* self) -> caf::behavior {
    auto child = self->home().spawn<echo>();
    self->link_to(child);
    auto inherited = self->spawn<echo, caf::linked>(); // its host is the parent's: same reactor
    return {[=](int n) { at_home(self); return self->delegate(child, n); },
            [=](float) { at_home(self); return self->delegate(inherited, 7); }};
  });
  CHECK(ask<int>(parent, 5) == 5);
  CHECK(ask<int>(parent, 1.0f) == 7);
  caf::anon_send_exit(parent, caf::exit_reason::kill);
  while (echo::exits_at_home < before + 3) // lazy one: on_exit runs too, at home
    std::this_thread::yield();
}

TEST_CASE_FIXTURE(two_reactors, "dropping the last handle does not end an actor on a foreign thread") {
  auto before = echo::exits_at_home.load();
  for (int i = 0; i < 200; ++i) {
    r1.spawn<echo>();
    r2.spawn<echo, caf::lazy_init>();
  }
  r1.end_all();
  r2.end_all();
  sys.await_all_actors_done();
  CHECK(echo::exits_at_home == before + 400);
}

TEST_CASE_FIXTURE(two_reactors, "order holds per sender, unbatched, batched and delivered to many") {
  struct sink_state { int next = 0, disorder = 0; };
  using sink_self = caf::stateful_actor<sink_state, pinned_actor>;
  auto run_sink = [](sink_self* self) -> caf::behavior {
    return {[=](int n) { at_home(self); self->state.disorder += n != self->state.next++; },
            [=](float) { return std::vector<int>{self->state.next, self->state.disorder}; }};
  };
  for (auto* home : {&r1, &r2}) {
    std::vector<caf::actor> sinks;
    for (int i = 0; i < 20; ++i)
      sinks.push_back(home->spawn(run_sink));
    auto all = reactor::make_targets(sinks);
    auto source = r1.spawn([&](pinned_actor* self) -> caf::behavior {
      return {[=](int n) {
        for (int i = 0; i < n; ++i)
          if (i % 3 == 0)
            home->deliver(all, i);
          else
            for (auto& s : sinks)
              self->send(s, i);
        return n;
      }};
    });
    CHECK(ask<int>(source, 1000) == 1000);
    for (auto& s : sinks) { // asked from another thread, so wait until all came
      while (ask<std::vector<int>>(s, 1.f)->at(0) < 1000) {}
      CHECK(ask<std::vector<int>>(s, 1.f)->at(1) == 0);
    }
  }
}

TEST_CASE("handles outlive a stopped reactor: messages are refused, requests answered") {
  one_worker_config cfg;
  caf::actor_system sys{cfg};
  reactor r{sys};
  r.start();
  auto a = r.spawn<echo>();
  r.end_all();
  sys.await_all_actors_done();
  r.stop();
  caf::scoped_actor self{sys};
  caf::anon_send(a, 1);
  self->request(a, 5s, 1).receive([](int) { FAIL("dead"); }, [](caf::error& e) { CHECK(e); });
}
