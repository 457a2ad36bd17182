// Links between nodes of one process, over real sockets.
#include "tests/cluster_rpc/nodes.hpp"
#include <atomic>
#include <string>

using namespace rpc_tests;
using wire::close_cause;
using wire::refusal_code;

namespace {
struct pair_of_nodes {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a"}, b{h, files, authority, "b"};
  void link() {
    a.dial(b, "b");
    REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
  }
};
} // namespace

TEST_CASE_FIXTURE(pair_of_nodes, "two nodes exchange frames, and know of each other") {
  link();
  CHECK(a.version == 3);
  CHECK(b.version == 3);
  CHECK(a.service->send(a.link_to("b"), "to b") == wire::sent::ok);
  CHECK(b.service->send(b.link_to("a"), "to a") == wire::sent::ok);
  REQUIRE(h.until([&] { return a.count() == 1 && b.count() == 1; }));
  CHECK(a.frames[0] == "to a");
  CHECK(b.frames[0] == "to b");
  a.service->close(a.link_to("b"), {refusal_code::unwelcome, "enough"});
  REQUIRE(h.until([&] { return !b.link_to("a"); }));
  CHECK(a.last.cause == close_cause::refused_here);
  CHECK(b.last.cause == close_cause::refused);
  CHECK(b.last.why == wire::refusal{refusal_code::unwelcome, "enough"});
}

TEST_CASE_FIXTURE(pair_of_nodes, "that all is written is said once to whoever asked, and to nobody else") {
  link();
  auto to_b = a.link_to("b");
  for (std::size_t n = 1; n <= 20; ++n) {
    REQUIRE(a.service->send(to_b, "one") == wire::sent::ok);
    REQUIRE(h.until([&] { return b.count() == n; }));
  }
  CHECK(a.writes == 0);
  unsigned waited = 0;
  for (std::size_t round = 1; round <= 50 && waited < 3; ++round) {
    for (int n = 0; n < 7; ++n)
      REQUIRE(a.service->send(to_b, std::string(1'000'000, 'x')) == wire::sent::ok);
    if (!a.service->is_written(to_b)) { // else it was faster
      ++waited;
      REQUIRE(h.until([&] { return a.writes == waited; }));
      CHECK(a.service->is_written(to_b));
    }
    REQUIRE(h.until([&] { return b.count() == 20 + 7 * round; }));
  }
  CHECK(waited == 3);
  CHECK(a.writes == waited);
  CHECK_FALSE(a.service->is_written(to_b + 100)); // there is none
}

TEST_CASE_FIXTURE(pair_of_nodes, "the acceptor ends a link, with its reason") {
  link();
  b.service->close(b.link_to("a"), {refusal_code::leaving, "good bye"});
  REQUIRE(h.until([&] { return !a.link_to("b"); }));
  CHECK(a.last.cause == close_cause::refused);
  CHECK(a.last.why == wire::refusal{refusal_code::leaving, "good bye"});
}

TEST_CASE_FIXTURE(pair_of_nodes, "order is kept through big batches, both ways") {
  link();
  constexpr int n = 20'000;
  for (int i = 0; i < n; ++i) {
    REQUIRE(a.service->send(a.link_to("b"), std::to_string(i) + std::string(200, 'x')) == wire::sent::ok);
    REQUIRE(b.service->send(b.link_to("a"), std::to_string(i)) == wire::sent::ok);
  }
  REQUIRE(h.until([&] { return a.count() == n && b.count() == n; }));
  bool is_in_order = true;
  for (int i = 0; i < n; ++i)
    is_in_order &= a.frames[static_cast<std::size_t>(i)] == std::to_string(i) && b.frames[static_cast<std::size_t>(i)] == std::to_string(i) + std::string(200, 'x');
  CHECK(is_in_order);
  CHECK(a.batches < n / 4); // one post for what gathered
  CHECK(b.batches < n / 4);
}

TEST_CASE_FIXTURE(pair_of_nodes, "frames up to the size of a packet, none above; empty ones, too") {
  link();
  std::string largest(1u << 20, 'x');
  CHECK(a.service->send(a.link_to("b"), largest) == wire::sent::ok);
  CHECK(a.service->send(a.link_to("b"), "") == wire::sent::ok);
  CHECK(a.service->send(a.link_to("b"), largest) == wire::sent::ok);
  CHECK(a.service->send(a.link_to("b"), largest + "x") == wire::sent::too_large);
  REQUIRE(h.until([&] { return b.count() == 3; }));
  CHECK(b.frames[0] == largest);
  CHECK(b.frames[1].empty());
  CHECK(b.frames[2] == largest);
  CHECK(a.service->send(77, "x") == wire::sent::gone);
}

TEST_CASE_FIXTURE(pair_of_nodes, "both dial at once: one link, and the same on both sides") {
  for (int round = 0; round < 30; ++round) {
    CAPTURE(round);
    a.connects = b.connects = 0;
    auto from_a = a.dial(b), from_b = b.dial(a);
    auto is_settled = [&] { return a.closings.contains(from_a) + b.closings.contains(from_b) == 1 && a.link_to("b") && b.link_to("a"); };
    REQUIRE(h.until(is_settled));
    h.run_for(5ms);
    REQUIRE(is_settled());
    // they are the two ends of one link
    a.frames.clear();
    b.frames.clear();
    REQUIRE(a.service->send(a.link_to("b"), "x") == wire::sent::ok);
    REQUIRE(b.service->send(b.link_to("a"), "y") == wire::sent::ok);
    REQUIRE(h.until([&] { return a.count() == 1 && b.count() == 1; }));
    b.service->close(b.link_to("a"), {refusal_code::leaving, ""});
    REQUIRE(h.until([&] { return !a.link_to("b"); }));
  }
}

TEST_CASE_FIXTURE(pair_of_nodes, "a second dial is a duplicate; the link stays") {
  link();
  auto first = a.link_to("b");
  auto again = a.dial(b);
  REQUIRE(h.until([&] { return a.closings.contains(again); }));
  CHECK(a.closings[again].cause == close_cause::duplicate);
  CHECK(a.link_to("b") == first);
  auto back = b.dial(a);
  REQUIRE(h.until([&] { return b.closings.contains(back); }));
  CHECK(b.closings[back].cause == close_cause::duplicate);
  CHECK(a.service->send(first, "still here") == wire::sent::ok);
  REQUIRE(h.until([&] { return b.count() == 1; }));
}

TEST_CASE("three nodes, each linked with each") {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a"}, b{h, files, authority, "b"}, c{h, files, authority, "c"};
  a.dial(b), a.dial(c), b.dial(c), c.dial(b);
  auto is_meshed = [&] { return a.links.size() == 2 && b.links.size() == 2 && c.links.size() == 2; };
  REQUIRE(h.until(is_meshed));
  h.run_for(50ms);
  REQUIRE(is_meshed());
  for (auto* from : {&a, &b, &c})
    for (auto& [name, link] : from->links)
      REQUIRE(from->service->send(link, "hello " + name) == wire::sent::ok);
  CHECK(h.until([&] { return a.count() == 2 && b.count() == 2 && c.count() == 2; }));
}

TEST_CASE("a node that was killed comes back with another incarnation") {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a"};
  std::string at;
  {
    node b{h, files, authority, "b"};
    at = b.address();
    a.dial(b);
    REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
    b.service->stop();
    REQUIRE(h.until([&] { return !a.link_to("b"); }));
    CHECK(a.last.cause == close_cause::refused);
    CHECK(a.last.why.code == refusal_code::leaving);
  }
  auto nobody = a.service->dial(at, "b");
  REQUIRE(h.until([&] { return a.closings.contains(nobody); }));
  CHECK(a.closings[nobody].cause == close_cause::connection_refused);
  node b{h, files, authority, "b", [&](rpc::settings& s) {
           s.listen = at;
           s.own.incarnation = 2;
         }};
  a.service->dial(at, "b");
  REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
  CHECK(b.service->send(b.link_to("a"), "again") == wire::sent::ok);
  CHECK(h.until([&] { return a.count() == 1; }));
}

TEST_CASE("a new incarnation replaces the link of the old one, which nobody saw end") {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a"}, old{h, files, authority, "b"};
  old.dial(a);
  REQUIRE(h.until([&] { return a.link_to("b") && old.link_to("a"); }));
  auto before = a.link_to("b");
  node fresh{h, files, authority, "b", [](rpc::settings& s) { s.own.incarnation = 2; }};
  fresh.dial(a);
  REQUIRE(h.until([&] { return fresh.link_to("a") && !old.link_to("a"); }));
  CHECK(a.closings[before].cause == close_cause::duplicate);
  CHECK(a.link_to("b") != 0);
  CHECK(a.link_to("b") != before);
}

TEST_CASE("a slow reader costs its sender a bounded queue, and itself nothing") {
  home slow, quick;
  folder files;
  ca authority;
  constexpr std::size_t bound = 1u << 20;
  node a{quick, files, authority, "a", [](rpc::settings& s) { s.limits.queue = bound; }};
  node b{slow, files, authority, "b", [](rpc::settings& s) { s.limits.inbox = 4u << 20; }};
  a.dial(b);
  for (int i = 0; i < 500 && !(a.link_to("b") && b.link_to("a")); ++i)
    quick.run_for(5ms), slow.run_for(5ms);
  REQUIRE(a.link_to("b"));
  REQUIRE(b.link_to("a"));
  auto link = a.link_to("b");
  // b's home stands still, so its inbox fills and the link is closed: what it may take in is bounded
  std::string frame(10'000, 'x');
  std::uint64_t taken = 0, full = 0;
  auto end = std::chrono::steady_clock::now() + 10s;
  while (a.link_to("b") && std::chrono::steady_clock::now() < end) {
    auto how = a.service->send(link, frame);
    taken += how == wire::sent::ok ? 1 : 0;
    full += how == wire::sent::full ? 1 : 0;
    if (how != wire::sent::ok)
      quick.run_for(1ms);
  }
  CHECK_FALSE(a.link_to("b"));
  CHECK(a.last.cause == close_cause::refused);
  CHECK(a.last.why.code == refusal_code::malformed);
  CHECK(full > 0);
  CHECK(taken * frame.size() < 32u << 20); // inbox, queue, and what TCP and gRPC hold
  REQUIRE(slow.until([&] { return !b.link_to("a"); }));
  CHECK(b.last.cause == close_cause::overrun);
}

TEST_CASE("stop while traffic flows: it ends in time, and nothing comes after it") {
  home h;
  folder files;
  ca authority;
  for (int round = 0; round < 5; ++round) {
    node a{h, files, authority, "a"}, b{h, files, authority, "b"};
    a.dial(b);
    REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
    b.on_frames = [&](wire::link_id link, std::vector<std::string>& some) { // back, for ever
      for (auto& s : some)
        (void)b.service->send(link, std::move(s));
    };
    a.on_frames = [&](wire::link_id link, std::vector<std::string>& some) {
      for (auto& s : some)
        (void)a.service->send(link, std::move(s));
    };
    for (int i = 0; i < 1'000; ++i)
      REQUIRE(a.service->send(a.link_to("b"), std::string(500, 'x')) == wire::sent::ok);
    h.run_for(20ms);
    auto& stopped = round % 2 ? a : b;
    auto began = std::chrono::steady_clock::now();
    stopped.service->stop();
    CHECK(std::chrono::steady_clock::now() - began < 2s);
    auto batches = stopped.batches;
    auto& other = round % 2 ? b : a;
    REQUIRE(h.until([&] { return other.links.empty(); }));
    CHECK(stopped.batches == batches);
    CHECK(stopped.service->send(1, "x") == wire::sent::gone);
  }
}

TEST_CASE("a link that is silent for too long ends") {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a", [](rpc::settings& s) { s.limits.idle = 300ms; }}, b{h, files, authority, "b"};
  a.dial(b);
  REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
  REQUIRE(h.until([&] { return !a.link_to("b") && !b.link_to("a"); }, 3s));
  CHECK(a.last.cause == close_cause::idle);
}

TEST_CASE_FIXTURE(pair_of_nodes, "work on the thread of a node's links: when it is woken, when its time has come, and not after its end") {
  auto& thread = *a.service->thread();
  std::atomic<int> rounds{0};
  std::atomic<std::chrono::nanoseconds> wait{1h};
  std::atomic<std::thread::id> where;
  thread.start([&] {
    where = std::this_thread::get_id();
    ++rounds;
    return wait.load();
  });
  CHECK(h.until([&] { return rounds > 0; })); // once soon
  CHECK(where.load() != std::this_thread::get_id());
  for (int i = 0; i < 100; ++i) {
    int before = rounds;
    thread.wake();
    REQUIRE(h.until([&] { return rounds > before; }));
  }
  wait = 1ms;
  thread.wake();
  int before = rounds;
  CHECK(h.until([&] { return rounds > before + 20; })); // by itself
  link();                                              // and the links go on beside it
  thread.stop();
  before = rounds;
  thread.wake();
  CHECK(a.service->send(a.link_to("b"), "still") == wire::sent::ok);
  CHECK(h.until([&] { return b.count() == 1; }));
  CHECK(rounds == before);
}
