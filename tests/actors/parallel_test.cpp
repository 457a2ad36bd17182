// Connections, streams, sessions, entities and the router on two reactors at once: messages keep their order, resources
// are replaced, accounts come and go under load, a crash ends one entity alone. Meant for ThreadSanitizer as much as for
// itself.
#include "tests/support/small_node.hpp"

using namespace actors;
using namespace actors::testing;

namespace {
/// Throws at each message, after it has kept another entity busy.
struct bomb final : modules::entity_machine {
  void step(modules::entity_event& ev, base::time_point, modules::effects&) override {
    if (std::holds_alternative<modules::event::stanza>(ev))
      throw std::runtime_error{"on purpose"};
  }
  bool is_idle() const override { return true; }
};
} // namespace

TEST_CASE("two reactors: messages of each pair arrive once and in order, whichever reactors they are on") {
  small_node node;
  constexpr int pairs = 4, each = 400;
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int p = 0; p < pairs; ++p) {
    for (auto side : {"s", "r"})
      node.add_account(side + std::to_string(p));
    threads.emplace_back([&, p] {
      auto number = std::to_string(p);
      auto from = node.connect(p & 1), to = node.connect(p >> 1); // all four combinations
      if (!from->login("s" + number, "x") || !to->login("r" + number, "y"))
        return;
      to->send("<presence/>");
      if (!to->ping())
        return;
      std::thread sender{[&] {
        for (int n = 0; n < each; ++n)
          from->send(message("r" + number + (n % 2 ? "@b/y" : "@b"), n));
      }};
      int n = 0;
      while (n < each && to->sees("<body>" + std::to_string(n) + "</body>"))
        ++n;
      sender.join();
      good += n;
    });
  }
  for (auto& t : threads)
    t.join();
  CHECK(good == pairs * each);
}

TEST_CASE("two reactors: one resource bound again and again while others write to it; nothing is left") {
  small_node node;
  for (auto name : {"a", "c", "d"})
    node.add_account(name);
  std::atomic<bool> stops{false};
  std::atomic<int> binds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) // each throws the others out
    threads.emplace_back([&, t] {
      for (int n = 0; n < 40; ++n) {
        auto c = node.connect(static_cast<std::size_t>(t + n));
        if (!c->login("a", "same"))
          continue;
        ++binds;
        c->send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq><presence/><message to='c@b/w' type='chat'><body>x</body></message>");
        if (n % 3 == 0)
          c->ping();
        else if (n % 3 == 1)
          c->send("</stream:stream>");
      }
    });
  for (auto name : {"c", "d"})
    threads.emplace_back([&, name] {
      auto c = node.connect(name[0] & 1);
      if (!c->login(name, "w"))
        return;
      c->send("<presence/>");
      for (int n = 0; !stops; ++n) {
        c->send(message("a@b/same", n) + message("a@b", n) + "<presence to='a@b/same'/><presence type='probe' to='a@b'/>"
                "<presence type='subscribe' to='a@b'/><message to='nobody" + std::to_string(n % 100) + "@b'><body>x</body></message>");
        if (!c->ping())
          return;
      }
    });
  for (int t = 0; t < 3; ++t)
    threads[static_cast<std::size_t>(t)].join();
  stops = true;
  threads[3].join();
  threads[4].join();
  CHECK(binds > 60);
  CHECK(node.wait_until([&] { return node.around.registry().session_count() == 0 && node.around.registry().address_count() == 0; }));
}

TEST_CASE("two reactors: an entity that crashes touches no other, and its sessions stay") {
  small_node node{2, small_node::quick(), [](modules::host_view& view) { view.entities["bomb"] = [] { return std::make_unique<bomb>(); }; }};
  auto a = node.log_in("a", "x", 0), c = node.log_in("c", "y", 1);
  c->send("<presence/>");
  REQUIRE(c->ping());
  for (int n = 0; n < 50; ++n) {
    a->send(message("bomb@b", n) + message("c@b/y", n));
    node.with_entity("c@b", [](entity& e) { e.on_crash("on purpose"); });
    REQUIRE(c->sees("<body>" + std::to_string(n) + "</body>"));
  }
  CHECK(a->ping());
  CHECK(c->ping());
  c->send(message("a@b/x", 77));
  CHECK(a->sees("<body>77</body>"));
}

TEST_CASE("two reactors: names that do not exist leave nothing behind, and there is a bound on them") {
  auto settings = small_node::quick();
  settings.entity_idle = std::chrono::minutes{10}; // what is void ends all the same
  settings.idle_entities = 64;
  small_node node{2, settings};
  auto a = node.log_in("a", "x", 0);
  std::string burst;
  constexpr int names = 3'000;
  for (int n = 0; n < names; ++n)
    burst += "<message to='n" + std::to_string(n) + "@b' id='i" + std::to_string(n) + "'><body>x</body></message>";
  std::thread sender{[&] { a->send(burst); }};
  int unknown = 0, refused = 0;
  for (int n = 0; n < names; ++n) {
    auto got = a->read_until("</message>");
    unknown += got.find("<service-unavailable ") != got.npos;
    refused += got.find("<resource-constraint ") != got.npos;
    CHECK(node.around.registry().idle_count(0) <= 64);
    CHECK(node.around.registry().idle_count(1) <= 64);
  }
  sender.join();
  CHECK(unknown + refused == names);
  CHECK(unknown > 0);
  CHECK(node.wait_until([&] { return node.around.registry().address_count() == 1; })); // a's own
}

TEST_CASE("a storage that does not answer in time: who needs it is told, late answers are dropped, then it goes on") {
  auto settings = small_node::quick();
  settings.storage_timeout = std::chrono::milliseconds{100};
  small_node node{2, settings};
  auto& engine = dynamic_cast<storage::memory_engine&>(node.store.blocking());
  auto a = node.log_in("a", "x", 0);
  auto roster = [&](const char* type, const char* payload) {
    a->send(std::string{"<iq type='"} + type + "' id='r'><query xmlns='jabber:iq:roster'>" + payload + "</query></iq>");
    auto got = a->read_until("id='r'");
    got += a->read_until(">");
    if (got.find("type='error'") != got.npos)
      got += a->read_until("</iq>");
    return got;
  };
  engine.set_delay(std::chrono::milliseconds{600});
  CHECK(roster("get", "").find("<resource-constraint ") != std::string::npos); // the read
  engine.set_delay({});
  CHECK(node.wait_until([&] { return node.around.operations.load() == 0; }));
  CHECK(roster("get", "").find("type='result'") != std::string::npos);
  engine.set_delay(std::chrono::milliseconds{600});
  CHECK(roster("set", "<item jid='c@b' name='one'/>").find("<resource-constraint ") != std::string::npos); // the commit
  engine.set_delay({});
  CHECK(node.wait_until([&] { return node.around.operations.load() == 0; }));
  auto late = roster("set", "<item jid='c@b' name='two'/>"); // the one before is no obstacle
  CAPTURE(late);
  CHECK(late.find("type='result'") != std::string::npos);
  CHECK(a->ping());
}
