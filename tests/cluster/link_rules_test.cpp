// Rules of links, as tables; which of two links stays, for every order of events.
#include "cluster/link_rules.hpp"
#include <doctest/doctest.h>
#include <functional>
#include <set>

using namespace cluster::wire;

namespace {
const hello a{"test", "a", 1, "a:1", 1, 3}, b{"test", "b", 1, "b:1", 1, 3};

hello with(hello h, const std::function<void(hello&)>& change) {
  change(h);
  return h;
}
} // namespace

TEST_CASE("hello: the version is the highest that both speak") {
  struct row { std::uint32_t own_min, own_max, peer_min, peer_max, version; };
  for (auto& r : {row{1, 1, 1, 1, 1}, row{1, 3, 2, 5, 3}, row{2, 5, 1, 3, 3}, row{1, 9, 4, 4, 4}, row{3, 4, 1, 3, 3}}) {
    auto own = with(a, [&](hello& h) { h.version_min = r.own_min, h.version_max = r.own_max; });
    auto peer = with(b, [&](hello& h) { h.version_min = r.peer_min, h.version_max = r.peer_max; });
    CHECK(check_hello(own, peer, "b") == r.version);
  }
  for (auto& r : {row{1, 1, 2, 2, 0}, row{2, 2, 1, 1, 0}, row{1, 3, 4, 9, 0}, row{1, 3, 3, 2, 0}}) {
    auto own = with(a, [&](hello& h) { h.version_min = r.own_min, h.version_max = r.own_max; });
    auto peer = with(b, [&](hello& h) { h.version_min = r.peer_min, h.version_max = r.peer_max; });
    CHECK(check_hello(own, peer, "b").error().code == refusal_code::wrong_version);
  }
}

TEST_CASE("hello: who is refused, and why") {
  auto code = [](const hello& peer, std::string_view bears) { return check_hello(a, peer, bears).error().code; };
  CHECK(code(with(b, [](auto& h) { h.cluster = "other"; }), "b") == refusal_code::wrong_cluster);
  CHECK(code(b, "c") == refusal_code::wrong_certificate);
  CHECK(code(b, "") == refusal_code::wrong_certificate);
  CHECK(code(a, "a") == refusal_code::self);
  CHECK(code(with(a, [](auto& h) { h.incarnation = 2; }), "a") == refusal_code::name_taken);
  CHECK(code(with(b, [](auto& h) { h.node = ""; }), "") == refusal_code::malformed);
  CHECK(code(with(b, [](auto& h) { h.node = "B"; }), "B") == refusal_code::malformed);
  CHECK(code(with(b, [](auto& h) { h.address = "b"; }), "b") == refusal_code::malformed);
}

TEST_CASE("names and addresses of nodes") {
  for (auto* good : {"a", "node-1", "n_1.example.org", "0"})
    CHECK(is_node_name(good));
  for (auto* bad : {"", "A", "-a", ".a", "a b", "a/b", "\xc3\xa4"})
    CHECK_FALSE(is_node_name(bad));
  CHECK(is_node_name(std::string(63, 'a')));
  CHECK_FALSE(is_node_name(std::string(64, 'a')));
  for (auto* good : {"a:1", "10.0.0.1:5269", "[2001:db8::1]:65535", "Node.example.org:80"})
    CHECK(is_node_address(good));
  for (auto* bad : {"", "a", ":1", "a:", "a:0", "a:65536", "a:1x", "[]:1", "[x]:1", "[::1:1", "a b:1", "a/b:1"})
    CHECK_FALSE(is_node_address(bad));
  CHECK(node_of({"https://x", node_uri("a")}) == "a");
  CHECK_FALSE(node_of({}));
  CHECK_FALSE(node_of({"a"}));
  CHECK_FALSE(node_of({node_uri("a"), node_uri("b")}));
  CHECK_FALSE(node_of({node_uri("A")}));
  CHECK_FALSE(node_of({std::string{"covey-node:a\0b", 14}}));
}

TEST_CASE("a second link of the same dialler is given up; one of another incarnation replaces the first") {
  link_table t;
  t.add(1, true);
  CHECK(t.on_hello(1, a, b).stays);
  t.add(2, true);
  CHECK_FALSE(t.on_hello(2, a, b).stays);
  t.remove(2);
  t.add(3, true);
  auto d = t.on_hello(3, a, with(b, [](auto& h) { h.incarnation = 2; }));
  CHECK(d.stays);
  CHECK(d.go == std::vector<link_id>{1});
}

namespace {
/// Both dial each other: link 1 by a, link 2 by b. Its events, in every order that the network allows: each node sees
/// the other's hello (as acceptor), the answer to its own, and "ready" or a refusal.
struct both_dial {
  struct side {
    link_table table;
    std::set<link_id> open, connected;
    std::vector<std::function<void()>> inbox[2]; // what is on its way here, by link
  };
  side sides[2];
  const hello hellos[2]{a, b};

  both_dial() {
    for (int s : {0, 1}) {
      sides[s].table.add(own(s), true);
      sides[s].open.insert(own(s));
      send(1 - s, own(s), [this, s] { dialled(1 - s); });
    }
  }
  static link_id own(int s) { return static_cast<link_id>(s) + 1; }
  void send(int to, link_id l, std::function<void()> what) { sides[to].inbox[l - 1].push_back(std::move(what)); }
  void dialled(int s) {
    auto l = own(1 - s);
    sides[s].table.add(l, false);
    sides[s].open.insert(l);
    sides[s].table.on_accept(l, hellos[1 - s]);
    send(1 - s, l, [this, s] { answered(1 - s); });
  }
  void answered(int s) {
    auto l = own(s);
    if (!sides[s].open.contains(l))
      return;
    auto d = sides[s].table.on_hello(l, hellos[s], hellos[1 - s]);
    if (!d.stays)
      return drop(s, l);
    for (auto id : d.go)
      drop(s, id);
    sides[s].connected.insert(l);
    send(1 - s, l, [this, s] { ready(1 - s); });
  }
  void ready(int s) {
    auto l = own(1 - s);
    if (!sides[s].open.contains(l))
      return;
    for (auto id : sides[s].table.on_ready(l))
      drop(s, id);
    sides[s].connected.insert(l);
  }
  void drop(int s, link_id l) {
    forget(s, l);
    send(1 - s, l, [this, s, l] { forget(1 - s, l); });
  }
  void forget(int s, link_id l) {
    sides[s].table.remove(l);
    sides[s].open.erase(l);
    sides[s].connected.erase(l);
  }
  /// One step by choice; false: nothing is on its way.
  bool step(unsigned choice) {
    std::vector<std::vector<std::function<void()>>*> ready_queues;
    for (auto& s : sides)
      for (auto& q : s.inbox)
        if (!q.empty())
          ready_queues.push_back(&q);
    if (ready_queues.empty())
      return false;
    auto& q = *ready_queues[choice % ready_queues.size()];
    auto what = q.front();
    q.erase(q.begin());
    what();
    CHECK(sides[0].connected.size() <= 1);
    CHECK(sides[1].connected.size() <= 1);
    return true;
  }
};
} // namespace

TEST_CASE("both dial at once: in every order one link stays, and the same one on both sides") {
  std::set<link_id> survivors;
  for (unsigned seed = 0; seed < 4 * 4 * 4 * 4 * 4 * 4 * 4 * 4; ++seed) { // the first eight choices of four, all of them
    both_dial d;
    auto choices = seed;
    while (d.step(choices & 3))
      choices >>= 2;
    CAPTURE(seed);
    REQUIRE(d.sides[0].open.size() == 1);
    REQUIRE(d.sides[0].open == d.sides[1].open);
    REQUIRE(d.sides[0].connected == d.sides[0].open);
    REQUIRE(d.sides[1].connected == d.sides[1].open);
    survivors.insert(*d.sides[0].open.begin());
  }
  CHECK(survivors.size() == 2); // whoever was clearly first wins, the lower name where nobody was
}
