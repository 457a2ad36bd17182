// Order where a session goes on at another node while its account lives at a third one.
#include "tests/support/small_cluster.hpp"
#include "tests/support/stopped_reactor.hpp"

using namespace actors;
using namespace actors::testing;
using namespace std::chrono_literals;

namespace {
/// c's client loses its connection, and resumes there.
void go_on(small_node& there, std::unique_ptr<small_client>& client, const std::string& id) {
  client->shut();
  client = there.connect(0);
  REQUIRE(client->login_only("c"));
  client->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='1'/>");
  REQUIRE(client->sees("/>"));
}

/// c's account lives with its older session at node 2. Another one has gone on from node 0 to node 1, while the first message is
/// still on its way from node 2 to node 0.
struct late_message {
  small_cluster nodes{3};
  std::unique_ptr<small_client> older = nodes.come(2, "c", "y", 0), sender = nodes.come(2, "s", "s", 1), receiver = nodes.come(0, "c", "x", 0);
  late_message() {
    auto id = receiver->enable();
    REQUIRE(receiver->ping());
    nodes.cut(2, 0);
    sender->send(message("c@b/x", 1));
    REQUIRE(sender->ping());
    go_on(nodes[1], receiver, id);
    sender->send(message("c@b/x", 2));
    REQUIRE(sender->ping());
  }
};
} // namespace

TEST_CASE_FIXTURE(late_message, "passages: what is sent to a session's new place does not overtake what was sent to its old one") {
  CHECK(receiver->hears_nothing(300ms));
  nodes.mend(2, 0);
  CHECK(next_body(*receiver) == "<body>1</body>");
  CHECK(next_body(*receiver) == "<body>2</body>");
  sender->send(message("c@b/x", 3));
  CHECK(next_body(*receiver) == "<body>3</body>");
}

TEST_CASE_FIXTURE(late_message, "passages: where the old place is not reached it is waited for no longer than a moment") {
  CHECK(next_body(*receiver) == "<body>2</body>");
  nodes.mend(2, 0);
  CHECK(next_body(*receiver) == "<body>1</body>"); // late, and not lost
}

TEST_CASE("passages: what an account sends from its new place does not overtake what it sent from its old one") {
  small_cluster nodes{3};
  auto oldest = nodes.come(2, "c", "y", 0), sender = nodes.come(1, "s", "s", 1), receiver = nodes.come(0, "c", "x", 0);
  auto id = oldest->enable();
  REQUIRE(oldest->ping());
  nodes.cut(2, 0);
  sender->send(message("c@b/x", 1));
  REQUIRE(sender->ping());
  go_on(nodes[1], oldest, id);
  REQUIRE(small_node::wait_until([&] { return nodes.home_of("c", 0) == "n1" && nodes.home_of("c", 1) == "n1"; }));
  sender->send(message("c@b/x", 2));
  REQUIRE(sender->ping());
  CHECK(receiver->hears_nothing(300ms));
  nodes.mend(2, 0);
  CHECK(next_body(*receiver) == "<body>1</body>");
  CHECK(next_body(*receiver) == "<body>2</body>");
}

TEST_CASE("passages: a client that asks twice at one node for its session, which is on its way there, gets it by the connection that it has") {
  small_cluster nodes{2};
  auto receiver = nodes.come(0, "c", "x", 0), sender = nodes.come(0, "s", "s", 1);
  auto id = receiver->enable();
  REQUIRE(receiver->ping());
  receiver->shut();
  sender->send(message("c@b/x", 1));
  REQUIRE(sender->ping());
  stopped_reactor stopped{nodes[0], 0}; // where the session is
  std::unique_ptr<small_client> client;
  for (std::size_t n : {0, 1}) {
    client = nodes[1].connect(n);
    REQUIRE(client->login_only("c"));
    client->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='1'/>");
    CHECK(client->hears_nothing(250ms)); // the second waits for the first, whose connection is lost
  }
  stopped.go_on();
  REQUIRE(client->sees("<resumed"));
  CHECK(next_body(*client) == "<body>1</body>");
  sender->send(message("c@b/x", 2));
  CHECK(next_body(*client) == "<body>2</body>");
}
