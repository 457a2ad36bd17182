// Order across a move: what is for an account that lives elsewhere since a moment waits for what was sent to its old place.
#include "actors/router.hpp"
#include "base/metrics.hpp"
#include "tests/support/small_cluster.hpp"
#include "tests/support/stopped_reactor.hpp"
#include <algorithm>
#include <latch>

using namespace actors;
using namespace actors::testing;
using namespace std::chrono_literals;

namespace {
std::uint64_t held() {
  return base::metrics::make_counter("covey_stanzas_held_total", "Stanzas that waited until what was sent before them to an account's old node was through.").value();
}

/// An account without a session that this node answers for, as all see it, and did when fewer nodes were there.
std::string name_at(small_cluster& c, std::size_t node) {
  auto there = *c.others(0).find(small_cluster::name_of(node));
  for (int n = 0;; ++n) {
    auto name = "m" + std::to_string(n);
    auto bare = *xmpp::parse_jid(name + "@b");
    if (c.others(0).owner_of(*bare).node == there
        && std::ranges::all_of(c.others(0).hashed_lately(*bare), [&](auto at) { return at == there || at == cluster::self; }))
      return name;
  }
}

/// The first message is under way to the place that the account had before its session came to node 1.
struct late_message {
  small_cluster nodes{3};
  std::string name = name_at(nodes, 2), address = name + "@b";
  std::unique_ptr<small_client> sender = nodes.come(0, "s", "s", 0);
  std::unique_ptr<small_client> receiver;
  stopped_reactor stopped{(nodes[2].add_account(name), nodes[1].add_account(name), nodes[2]), address};
  late_message() {
    sender->send(message(address, 1));
    REQUIRE(sender->ping());
    receiver = nodes.log_in(1, name, "r", 0);
    sender->send(message(address, 2));
    REQUIRE(sender->ping()); // nobody else waits
  }
};
} // namespace

TEST_CASE_FIXTURE(late_message, "moves: what is sent to an account's new node does not overtake what its old one still has") {
  CHECK(receiver->hears_nothing(300ms));
  stopped.go_on();
  CHECK(next_body(*receiver) == "<body>1</body>");
  CHECK(next_body(*receiver) == "<body>2</body>");
  sender->send(message(address, 3));
  CHECK(next_body(*receiver) == "<body>3</body>");
}

TEST_CASE_FIXTURE(late_message, "moves: what the server or the account itself says does not wait, what others say does") {
  auto before = held();
  auto say = [&](const std::string& from) {
    nodes[1].around.homes()[0]->post_from_anywhere([from, to = address + "/r"](home& h) {
      auto s = xmpp::stanza::from_xml("<message id='said'><body>by " + from + "</body></message>");
      s->from = *xmpp::parse_jid(from);
      s->to = *xmpp::parse_jid(to);
      route(h, {std::move(s), {}});
    });
  };
  say("other@b/o");
  say("b");
  CHECK(next_body(*receiver) == "<body>by b</body>");
  say(address);
  CHECK(next_body(*receiver) == "<body>by " + address + "</body>");
  CHECK(held() == before + 1);
  stopped.go_on();
  CHECK(receiver->sees("<body>by other@b/o</body>")); // before or behind what another node holds
}

TEST_CASE_FIXTURE(late_message, "moves: where the old node is lost nothing waits for it any more") {
  CHECK(receiver->hears_nothing(100ms));
  nodes.kill(2); // with the first one, which nobody has acknowledged
  CHECK_FALSE(receiver->hears_nothing(10s)); // for a node that is there one waits longer
  CHECK(next_body(*receiver) == "<body>2</body>");
}

TEST_CASE("moves: for an old node that says nothing, and to which nothing is under way, one waits for a moment") {
  small_cluster nodes{3};
  auto name = name_at(nodes, 2), address = name + "@b";
  auto sender = nodes.come(0, "s", "s", 0);
  nodes[1].add_account(name);
  auto receiver = nodes.come(1, name, "r", 0);
  nodes.cut(0, 2);
  auto before = held();
  sender->send(message(address, 1));
  sender->send(message(address, 2));
  CHECK(next_body(*receiver) == "<body>1</body>");
  CHECK(next_body(*receiver) == "<body>2</body>");
  CHECK(held() == before + 2);
}

namespace {
/// An account without a session that node 2 answers for; any node lets it in.
struct nobody_there {
  small_cluster nodes{4};
  std::string name = name_at(nodes, 2), address = name + "@b";
  std::unique_ptr<small_client> sender = nodes.come(0, "s", "s", 0);
  nobody_there() {
    for (std::size_t n = 0; n < nodes.size(); ++n)
      nodes[n].add_account(name);
  }
  /// The first message is there only after the first look of a session that comes now.
  void store_slowly() {
    dynamic_cast<shared_engine&>(nodes[2].store.blocking()).write_slowly(600ms);
    sender->send(message(address, 1));
    REQUIRE(sender->ping());
  }
  void two_more_come_behind(small_client& receiver) {
    sender->send(message(address, 2));
    sender->send(message(address, 3));
    for (auto n : {1, 2, 3})
      CHECK(next_body(receiver) == "<body>" + std::to_string(n) + "</body>");
  }
};
} // namespace

TEST_CASE_FIXTURE(nobody_there, "moves: where an account without a session lives elsewhere as nodes come and go, what is sent there waits, too") {
  auto before = held();
  {
    stopped_reactor stopped{nodes[2], address};
    sender->send(message(address, 1));
    REQUIRE(sender->ping());
    nodes.others(2).drain(); // it owns nothing from now on
    for (std::size_t n = 0; n < nodes.size(); ++n)
      REQUIRE(small_node::wait_until([&] { return nodes.owner_of(name, n) != small_cluster::name_of(2); }));
    sender->send(message(address, 2));
    REQUIRE(sender->ping());
    CHECK(held() == before + 1);
  }
  REQUIRE(small_node::wait_until([&] { return nodes.stored_for(name) == 2; }));
  auto receiver = nodes.log_in(1, name, "r", 0);
  CHECK(next_body(*receiver) == "<body>1</body>");
  CHECK(next_body(*receiver) == "<body>2</body>");
}

TEST_CASE_FIXTURE(nobody_there, "moves: what a node that drains gives away does not go there again, as who gets it knows that it drains") {
  REQUIRE(nodes.owner_of(name, 2) == small_cluster::name_of(2));
  nodes.others(2).drain();
  REQUIRE(small_node::wait_until([&] { return nodes.owner_of(name, 2) != small_cluster::name_of(2); }));
  sender->send(message(address, 1)); // its node may not know it yet
  CHECK(small_node::wait_until([&] { return nodes.stored_for(name) == 1; }));
  CHECK(sender->hears_nothing(100ms)); // no error
}

TEST_CASE_FIXTURE(nobody_there, "moves: what is stored comes before what is said to a session that has just logged in") {
  sender->send(message(address, 1));
  REQUIRE(small_node::wait_until([&] { return nodes.stored_for(name) == 1; }));
  auto receiver = nodes.log_in(1, name, "r", 0);
  two_more_come_behind(*receiver);
}

TEST_CASE_FIXTURE(nobody_there, "moves: what is being stored as the session comes is there before what is said then") {
  store_slowly();
  auto receiver = nodes.log_in(1, name, "r", 0);
  two_more_come_behind(*receiver);
}

TEST_CASE_FIXTURE(nobody_there, "moves: what was stored by a node that does not know of the session yet comes before what is said by one that does") {
  nodes.cut(1, 2);
  store_slowly();
  auto receiver = nodes[1].log_in(name, "r", 0);
  receiver->send("<presence/>");
  REQUIRE(receiver->ping());
  REQUIRE(small_node::wait_until([&] { return nodes.home_of(name, 0).has_value() && nodes.stored_for(name) == 1; }));
  SUBCASE("and still has its address in memory, perhaps") {}
  SUBCASE("and remembers no more than that it has") { std::this_thread::sleep_for(100ms); }
  CHECK(receiver->hears_nothing(1ms));
  sender->send(message(address, 2));
  for (auto n : {1, 2})
    CHECK(next_body(*receiver) == "<body>" + std::to_string(n) + "</body>");
}

TEST_CASE_FIXTURE(nobody_there, "moves: a mark that was passed on to a node that is lost is answered by who passed it on") {
  auto receiver = nodes.come(1, name, "r", 0);
  stopped_reactor stopped{nodes[1], address};
  auto before = held();
  sender->send(message(address, 1));
  REQUIRE(sender->ping());
  REQUIRE(held() == before + 1);
  CHECK(receiver->hears_nothing(300ms)); // the mark has come there by way of node 2
  nodes.kill(1);
  auto other = nodes[3].log_in(name, "o", 0);
  other->send("<presence/>");
  CHECK_FALSE(other->hears_nothing(10s)); // for a node that is there one waits longer
  CHECK(next_body(*other) == "<body>1</body>");
}

namespace {
/// A client at node 1, whose account is known to be at `first` until it comes.
struct passed_on {
  explicit passed_on(std::size_t first = 2) : name(name_at(nodes, first)) {
    nodes[1].add_account(name);
    receiver = nodes.come(1, name, "r", 0);
  }
  /// Node `by` has just passed something for the account on to node 3, which it does not reach any more.
  void pass_on_from(std::size_t by) {
    nodes.cut(by, 3);
    auto& homes = nodes[by].around.homes();
    std::latch done{static_cast<std::ptrdiff_t>(homes.size())};
    for (auto* h : homes)
      h->post_from_anywhere([&, there = *nodes.others(by).find(small_cluster::name_of(3))](home& at) {
        at.moves.note_relayed(**xmpp::parse_jid(address), there);
        done.count_down();
      });
    done.wait();
  }
  /// One client sends both.
  void both_wait_for(std::size_t by) {
    pass_on_from(by);
    sender->send(message(address, 1));
    sender->send(message(address, 2));
    REQUIRE(sender->ping());
    both_come_when_mended(by);
  }
  void both_come_when_mended(std::size_t by) {
    CHECK(receiver->hears_nothing(300ms));
    nodes.mend(by, 3);
    CHECK(next_body(*receiver) == "<body>1</body>");
    CHECK(next_body(*receiver) == "<body>2</body>");
  }

  small_cluster nodes{4};
  std::string name, address = name + "@b";
  std::unique_ptr<small_client> sender = nodes.come(0, "s", "s", 0), receiver;
};
} // namespace

TEST_CASE_FIXTURE(passed_on, "moves: a mark goes behind what its node passed on elsewhere before it knew better") { both_wait_for(2); }

TEST_CASE_FIXTURE(passed_on, "moves: what comes from another node waits for what was passed on to a third one, and may come back") { both_wait_for(1); }

TEST_CASE("moves: what is sent from a node does not overtake what waits there as it came from another one") {
  passed_on there{1}; // so that nobody waits for an old place
  auto other = there.nodes.come(1, "o", "o", 0);
  there.pass_on_from(1);
  auto before = held();
  there.sender->send(message(there.address, 1));
  REQUIRE(small_node::wait_until([&] { return held() == before + 1; }));
  other->send(message(there.address, 2));
  REQUIRE(other->ping());
  there.both_come_when_mended(1);
}
