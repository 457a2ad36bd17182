// Back-pressure of links: whose stanzas go to a node for which too much waits is not read until that has room again or is gone, and
// nobody else; what is beyond all bounds has an outcome.
#include "tests/support/small_cluster.hpp"

using namespace actors;
using namespace actors::testing;
using namespace std::chrono_literals;

namespace {
constexpr int enough = 100; // over the soft limit
const cluster::link_options small_links{.queue = {50, 1u << 20, 1'000, 8u << 20}};

/// Silence is noticed soon, and given up after so long.
cluster::membership_options patient(base::duration dead_after) {
  cluster::membership_options o;
  o.suspected_after = 750ms;
  o.dead_after = dead_after;
  o.gap = dead_after - 500ms;
  o.redial_after = 100ms;
  o.heartbeat = 250ms;
  return o;
}

/// To the sender's own account, which answers somehow.
std::string question(int n) { return "<iq type='get' id='m" + std::to_string(n) + "'><ping xmlns='urn:xmpp:ping'/></iq>"; }

std::uint64_t pauses() {
  return base::metrics::make_counter("covey_reads_waiting_total", "Times that a connection was not read for a while because too much waited for the node that it sends to.").value();
}

/// `say(n)` makes stanza n, up to and with `enough`: too much waits for the other node, and then this client is not read.
template <class Say>
void feed(small_cluster& c, small_client& who, Say say) {
  auto before = pauses();
  for (int n = 0; n < enough; ++n)
    who.send(say(n));
  REQUIRE(small_node::wait_until([&] { return c[0].around.has_crowded_links(); }));
  who.send(say(enough)); // what came together with the first ones was read before anybody knew
  REQUIRE(small_node::wait_until([&] { return pauses() > before; }));
}
/// 0 to `enough` come, in order, each once, as such or in copies. What came instead; empty: nothing.
std::string hear(small_client& c) {
  for (int n = 0; n <= enough; ++n) {
    auto got = c.read_until("</body>"), body = "<body>" + std::to_string(n) + "</body>";
    if (got.find("<body>") != got.size() - body.size() || !got.ends_with(body) || got.find("type='error'") != got.npos)
      return "instead of " + std::to_string(n) + ": " + got;
  }
  return {};
}
/// The answers to all questions, in order, and meanwhile or behind them the one to `late`.
std::string hear_answers(small_client& c) {
  auto got = c.read_until("id='m" + std::to_string(enough) + "'");
  std::size_t at = 0;
  for (int n = 0; n <= enough; ++n, ++at)
    if (at = got.find("id='m" + std::to_string(n) + "'", at); at == got.npos)
      return "no answer to " + std::to_string(n) + ": " + got;
  return got.find("id='late'") != got.npos || c.sees("id='late'") ? std::string{} : "no answer to the last one";
}
bool ask(small_client& c, const std::string& id) { return c.send("<iq type='get' id='" + id + "' to='b'><ping xmlns='urn:xmpp:ping'/></iq>"); }
bool hears_answer(small_client& c, const std::string& id) { return c.sees("id='" + id + "' type='result'/>"); }
/// Two who talk with each other on node 0, one on each reactor.
struct bystanders {
  explicit bystanders(small_cluster& c) : one(c.come(0, "one", "o", 0)), other(c.come(0, "other", "o", 1)) {}
  bool talk() {
    one->send(message("other@b", 1));
    other->send(message("one@b/o", 2));
    return other->sees("<body>1</body>") && one->sees("<body>2</body>") && one->ping() && other->ping();
  }
  std::unique_ptr<small_client> one, other;
};
} // namespace

TEST_CASE("full links: who sends there is not read until there is room again; who talks to others is") {
  struct way { std::string name; const char *device_here, *to, *after_login; };
  for (auto w : {way{"to an account there", nullptr, "m@b", ""},
                 way{"to an account here, whose session is there", "0", "m@b/y", ""},
                 way{"to a session here, of which a device there has copies", "0", "m@b/x", "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>"},
                 way{"to the own account, which is there", nullptr, nullptr, ""}})
    for (std::size_t reactor : {0u, 1u}) { // the accounts are on any
      CAPTURE(w.name);
      CAPTURE(reactor);
      small_cluster nodes{2, patient(20s), {}, small_links};
      bystanders others{nodes};
      std::unique_ptr<small_client> here;
      if (w.device_here)
        here = nodes.come(0, "m", "x", 0);
      auto there = nodes.come(1, "m", "y", 0);
      if (*w.after_login) {
        there->send(w.after_login);
        REQUIRE(there->sees("id='carbons'"));
      }
      auto sender = nodes.come(0, w.to ? "s" : "m", "s", reactor);
      REQUIRE(sender->ping());
      if (!w.to)
        REQUIRE(nodes.home_of("m", 0) == "n1");
      nodes.cut(0, 1);
      feed(nodes, *sender, [&](int n) { return w.to ? message(w.to, n) : question(n); });
      ask(*sender, "late");
      CHECK(sender->hears_nothing(200ms));
      CHECK(others.talk());
      CHECK(sender->hears_nothing(0ms));
      CHECK_FALSE(nodes[0].around.are_links_full());
      nodes.mend(0, 1);
      if (!w.to) {
        CHECK(hear_answers(*sender) == "");
        continue;
      }
      CHECK(hears_answer(*sender, "late"));
      CHECK(hear(*there) == "");
      if (here && *w.after_login)
        CHECK(hear(*here) == "");
      CHECK(small_node::wait_until([&] { return !nodes[0].around.has_crowded_links(); }));
    }
}

TEST_CASE("full links: who sent there is read again when that node is declared dead; what was for it is stored") {
  small_cluster nodes{2, patient(3s), {}, small_links};
  auto there = nodes.come(1, "m", "y", 0), sender = nodes.come(0, "s", "s", 1);
  nodes.cut(0, 1);
  feed(nodes, *sender, [](int n) { return message("m@b", n); });
  ask(*sender, "late");
  CHECK(sender->hears_nothing(200ms));
  auto got = sender->read_until("id='late' type='result'/>");
  CHECK(got.ends_with("id='late' type='result'/>"));
  CHECK(got.find("type='error'") == got.npos);
  CHECK(nodes.others(0).alive().empty());
  CHECK_FALSE(nodes[0].around.has_crowded_links());
  nodes.mend(0, 1);
  CHECK(hear(*there) == "");
}

TEST_CASE("full links: a client that is not read does not count as silent") {
  auto settings = small_node::quick();
  settings.ack_timeout = 500ms;
  small_cluster nodes{2, patient(20s), {}, small_links, settings};
  bystanders others{nodes};
  auto there = nodes.come(1, "m", "y", 0), sender = nodes.come(0, "s", "s", 0);
  sender->send("<enable xmlns='urn:xmpp:sm:3'/>");
  REQUIRE(sender->sees("<enabled"));
  nodes.cut(0, 1);
  feed(nodes, *sender, [](int n) { return message("m@b", n); });
  others.one->send(message("s@b/s", 7));
  REQUIRE(sender->sees("<body>7</body>"));
  REQUIRE(sender->sees("<r xmlns='urn:xmpp:sm:3'/>"));
  sender->send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
  std::this_thread::sleep_for(1s);
  nodes.mend(0, 1);
  CHECK(sender->ping());
  CHECK(hear(*there) == "");
}

TEST_CASE("full links: what no link holds any more is bounded for all together; then nobody is read, and all of it comes") {
  small_cluster nodes{2, patient(20s), {}, {.queue = {20, 1u << 20, 60, 8u << 20}}};
  bystanders others{nodes};
  auto there = nodes.come(1, "m", "y", 0), sender = nodes.come(0, "s", "s", 0);
  nodes.cut(0, 1);
  std::string all;
  for (int n = 0; n <= enough; ++n)
    all += message("m@b", n);
  sender->send(all);
  REQUIRE(small_node::wait_until([&] { return nodes[0].around.are_links_full(); }));
  for (auto* c : {others.one.get(), others.other.get()})
    ask(*c, "late");
  CHECK(others.one->hears_nothing(200ms));
  CHECK(others.other->hears_nothing(0ms));
  nodes.mend(0, 1);
  for (auto* c : {others.one.get(), others.other.get()})
    CHECK(hears_answer(*c, "late"));
  CHECK(hear(*there) == "");
  CHECK_FALSE(nodes[0].around.are_links_full());
}

TEST_CASE("full links: what waits for the own account in vain is refused with 'wait' after three tries") {
  constexpr int fit = 60;
  small_cluster nodes{2, patient(20s), {}, {.queue = {20, 1u << 20, fit, 8u << 20}}};
  auto there = nodes.come(1, "m", "y", 0), sender = nodes.come(0, "m", "s", 0);
  REQUIRE(sender->ping());
  nodes.cut(0, 1);
  std::string all;
  for (int n = 0; n <= enough; ++n)
    all += question(n);
  sender->send(all);
  int refused = 0;
  for (auto got = sender->read_until("</iq>"); !got.empty(); got = sender->read_until("</iq>")) {
    CHECK(got.find("type='error'") != got.npos);
    CHECK(got.find("type='wait'") != got.npos);
    CHECK(got.find("<resource-constraint ") != got.npos);
    ++refused;
    if (got.find("id='m" + std::to_string(enough) + "'") != got.npos)
      break;
  }
  CHECK(nodes.others(0).alive().size() == 1); // it is not given up yet
  CHECK(refused > enough - fit - 10); // but for what else was in the link
  CHECK(refused <= enough + 1 - 20);
  nodes.mend(0, 1);
  for (int n = 0; n <= enough - refused; ++n)
    CHECK(sender->read_until("id='m").ends_with("id='m"));
}
