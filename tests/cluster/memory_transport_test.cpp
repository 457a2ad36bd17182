// The transport without a network keeps the same promises as the one over gRPC.
#include "cluster/memory_transport.hpp"
#include <deque>
#include <doctest/doctest.h>

using namespace cluster::wire;

namespace {
struct jobs {
  std::deque<std::function<void()>> queue;
  post_function post() {
    return [this](std::function<void()> j) { queue.push_back(std::move(j)); };
  }
  void run() {
    while (!queue.empty()) {
      auto j = std::move(queue.front());
      queue.pop_front();
      j();
    }
  }
};

struct peer final : transport_events {
  peer(memory_network& net, jobs& j, const std::string& name, const transport_limits& limits = {}, const std::string& bears = {},
       const std::string& cluster = "test")
    : over(net, {cluster, name, 1, name + ":1", 1, 1}, j.post(), *this, limits, bears) {}
  base::result<void, refusal> accept(const hello& h) override {
    return h.node == unwanted ? base::result<void, refusal>{base::fail(refusal{refusal_code::unwelcome, "no"})} : base::result<void, refusal>{};
  }
  void connected(link_id l, const hello& h, std::uint32_t) override {
    CHECK_FALSE(links.contains(h.node));
    links[h.node] = l;
  }
  void received(link_id, std::vector<std::string> some) override {
    for (auto& s : some)
      frames.push_back(std::move(s));
  }
  void closed(link_id l, const closing& how) override {
    std::erase_if(links, [&](auto& x) { return x.second == l; });
    ends[l] = how;
  }
  std::string unwanted;
  std::map<std::string, link_id> links;
  std::map<link_id, closing> ends;
  std::vector<std::string> frames;
  memory_transport over;
};

struct two {
  memory_network net;
  jobs j;
  peer a{net, j, "a"}, b{net, j, "b"};
};
} // namespace

TEST_CASE_FIXTURE(two, "frames in order, both ways; both dial, one link stays") {
  a.over.dial("b:1", "b");
  b.over.dial("a:1", "a");
  j.run();
  REQUIRE(a.links.contains("b"));
  REQUIRE(b.links.contains("a"));
  for (auto* f : {"1", "2", "3"}) {
    CHECK(a.over.send(a.links["b"], f) == sent::ok);
    CHECK(b.over.send(b.links["a"], f) == sent::ok);
  }
  j.run();
  CHECK(a.frames == std::vector<std::string>{"1", "2", "3"});
  CHECK(b.frames == a.frames);
  CHECK(a.over.send(a.links["b"], "last") == sent::ok);
  a.over.close(a.links["b"], {refusal_code::leaving, "bye"});
  j.run();
  CHECK(b.frames.back() == "last");
  CHECK(b.links.empty());
  CHECK(b.ends.rbegin()->second.why == refusal{refusal_code::leaving, "bye"});
}

TEST_CASE_FIXTURE(two, "bounds") {
  peer c{net, j, "c", {.packet = 10, .queue = 25}};
  c.over.dial("a:1", "");
  j.run();
  auto link = c.links["a"];
  CHECK(c.over.send(link, std::string(11, 'x')) == sent::too_large);
  CHECK(c.over.send(link, std::string(10, 'x')) == sent::ok);
  CHECK(c.over.send(link, std::string(10, 'x')) == sent::ok);
  CHECK(c.over.send(link, std::string(10, 'x')) == sent::full);
  j.run();
  CHECK(c.over.send(link, std::string(10, 'x')) == sent::ok);
  CHECK(c.over.send(99, "x") == sent::gone);
}

TEST_CASE_FIXTURE(two, "who is refused") {
  auto ends_with = [&](peer& p, const std::string& to, const std::string& who = {}) {
    auto l = p.over.dial(to, who);
    j.run();
    REQUIRE(p.ends.contains(l));
    return p.ends[l];
  };
  CHECK(ends_with(a, "nobody:1").cause == close_cause::connection_refused);
  CHECK(ends_with(a, "b:1", "z").cause == close_cause::bad_certificate);
  CHECK(ends_with(a, "a:1").why.code == refusal_code::self);
  b.unwanted = "a";
  CHECK(ends_with(a, "b:1").why == refusal{refusal_code::unwelcome, "no"});
  b.unwanted.clear();
  a.unwanted = "b";
  CHECK(ends_with(a, "b:1").cause == close_cause::refused_here);
  CHECK(b.links.empty());
  peer liar{net, j, "c", {}, "d"};
  CHECK(ends_with(liar, "b:1").why.code == refusal_code::wrong_certificate);
  peer other{net, j, "e", {}, {}, "elsewhere"};
  CHECK(ends_with(other, "b:1").why.code == refusal_code::wrong_cluster);
}

TEST_CASE_FIXTURE(two, "a cut, a kill and a stop are seen at the other end") {
  auto link = [&] {
    a.over.dial("b:1", "b");
    j.run();
    REQUIRE(a.links.contains("b"));
  };
  link();
  net.cut("a:1", "b:1");
  j.run();
  CHECK(a.links.empty());
  CHECK(b.links.empty());
  CHECK(b.ends.rbegin()->second.cause == close_cause::reset);
  auto l = a.over.dial("b:1", "b");
  j.run();
  CHECK(a.ends[l].cause == close_cause::unreachable);
  net.mend("a:1", "b:1");
  link();
  auto last = a.links["b"];
  SUBCASE("kill") {
    b.over.kill();
    CHECK(a.over.send(last, "into the void") == sent::ok);
    j.run();
    CHECK(a.ends[last].cause == close_cause::reset);
  }
  SUBCASE("stop") {
    b.over.stop();
    j.run();
    CHECK(a.ends[last].why.code == refusal_code::leaving);
  }
}
