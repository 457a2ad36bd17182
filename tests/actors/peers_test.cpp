// Nodes of one cluster, each with two reactors and a thread of its own for the others: clients on them talk, accounts move,
// nodes and links go away under load. Meant for ThreadSanitizer and AddressSanitizer as much as for itself.
#include "actors/router.hpp"
#include "base/metrics.hpp"
#include "tests/support/small_cluster.hpp"
#include <algorithm>
#include <set>
#include <thread>

using namespace actors;
using namespace actors::testing;
using namespace std::chrono_literals;

namespace {
/// The next message that this client gets, whole; empty: none came.
std::string next_message(small_client& c) {
  auto got = c.read_until("</message>");
  auto at = got.rfind("<message ");
  return got.ends_with("</message>") && at != got.npos ? got.substr(at) : std::string{};
}
std::string between(const std::string& text, std::string_view left, std::string_view right) {
  auto at = text.find(left);
  if (at == text.npos)
    return {};
  at += left.size();
  return text.substr(at, text.find(right, at) - at);
}
std::string body_of(const std::string& message) { return between(message, "<body>", "</body>"); }
/// The start tag of the next presence from there.
std::string next_presence(small_client& c, const std::string& from) {
  for (;;) {
    auto got = c.read_until(">");
    if (!got.ends_with(">"))
      return {};
    auto at = got.rfind('<');
    auto tag = at == got.npos ? std::string{} : got.substr(at); // else the rest of one that was looked at
    if (tag.starts_with("<presence") && tag.find("from='" + from + "'") != tag.npos)
      return tag;
  }
}
bool is_unavailable(const std::string& presence) { return presence.find("type='unavailable'") != presence.npos; }

/// Reads 0 to `count` - 1, each once, in order where `is_ordered` or not stored meanwhile. What was wrong; empty: nothing.
std::string hear(small_client& c, int count, bool is_ordered, const std::function<void(int)>& at = {}) {
  std::vector<bool> has(static_cast<std::size_t>(count));
  int last = -1;
  for (int heard = 0; heard < count; ++heard) {
    auto m = next_message(c);
    if (m.empty())
      return "only " + std::to_string(heard) + " came; missing: " + std::to_string(std::find(has.begin(), has.end(), false) - has.begin());
    auto n = base::to_number<int>(body_of(m));
    if (!n || *n < 0 || *n >= count || m.find("type='error'") != m.npos)
      return "unexpected: " + m;
    if (has[static_cast<std::size_t>(*n)])
      return "twice: " + m;
    has[static_cast<std::size_t>(*n)] = true;
    if (m.find("urn:xmpp:delay") == m.npos) {
      if (is_ordered && *n < last)
        return std::to_string(*n) + " behind " + std::to_string(last);
      last = *n;
    }
    if (at)
      at(heard);
  }
  return {};
}

struct conversation {
  std::unique_ptr<small_client> left, right;
  std::string left_name, right_name, heard_left, heard_right;
};
/// Pairs of accounts, one on each of two nodes, on all combinations of reactors.
std::vector<conversation> begin(small_cluster& c, int pairs) {
  std::vector<conversation> all;
  for (int p = 0; p < pairs; ++p) {
    auto number = std::to_string(p);
    auto reactor = static_cast<std::size_t>(p);
    all.push_back({c.come(0, "l" + number, "x", reactor & 1), c.come(1, "r" + number, "y", reactor >> 1), "l" + number + "@b", "r" + number + "@b", {}, {}});
  }
  return all;
}
/// Both sides of each say `each`, now to the full JID and now to the bare one, with a pause after each; meanwhile `f` runs.
void talk(std::vector<conversation>& all, int each, std::chrono::milliseconds pause = {}, const std::function<void()>& f = {}) {
  std::vector<std::thread> threads;
  for (auto& one : all) {
    threads.emplace_back([&one, each, pause] {
      for (int n = 0; n < each; ++n) {
        one.left->send(message(one.right_name + (n % 2 ? "/y" : ""), n));
        std::this_thread::sleep_for(pause);
      }
    });
    threads.emplace_back([&one, each, pause] {
      for (int n = 0; n < each; ++n) {
        one.right->send(message(one.left_name + (n % 2 ? "/x" : ""), n));
        std::this_thread::sleep_for(pause);
      }
    });
    threads.emplace_back([&one, each] { one.heard_left = hear(*one.left, each, true); });
    threads.emplace_back([&one, each] { one.heard_right = hear(*one.right, each, true); });
  }
  if (f)
    f();
  for (auto& t : threads)
    t.join();
  for (auto& one : all) {
    CHECK(one.heard_left == "");
    CHECK(one.heard_right == "");
    for (auto* c : {one.left.get(), one.right.get()}) { // and no more comes
      c->send("<iq type='get' id='end' to='b'><ping xmlns='urn:xmpp:ping'/></iq>");
      CHECK(c->read_until("id='end'").find("<message ") == std::string::npos);
    }
  }
}

/// `a` has seen the presence of `b` then.
void befriend(small_client& a, const std::string& a_name, small_client& b, const std::string& b_name) {
  auto say = [](small_client& c, const std::string& to, const char* type) { c.send("<presence to='" + to + "' type='" + type + "'/>"); };
  for (auto* c : {&a, &b}) { // who has asked for the roster hears of answers (RFC 6121 section 3.1.6)
    c->send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
    REQUIRE(c->sees("id='roster'"));
  }
  say(a, b_name, "subscribe");
  REQUIRE(b.sees("type='subscribe'"));
  say(b, a_name, "subscribed");
  say(b, a_name, "subscribe");
  REQUIRE(a.sees("type='subscribe'"));
  say(a, b_name, "subscribed");
  REQUIRE(b.sees("type='subscribed'"));
}

/// Short times: who is silent is given up within seconds.
cluster::membership_options impatient() {
  cluster::membership_options o;
  o.suspected_after = 750ms;
  o.dead_after = 3s;
  o.gap = 2'500ms;
  o.redial_after = 1s;
  o.heartbeat = 250ms;
  return o;
}

/// A service that exists once: says at which node it is.
struct whereabouts final : modules::entity_machine {
  explicit whereabouts(std::string n) : name(std::move(n)) {}
  void step(modules::entity_event& ev, base::time_point, modules::effects& out) override {
    auto* in = std::get_if<modules::event::stanza>(&ev);
    if (!in || in->what.what->kind() != xmpp::stanza_kind::message)
      return;
    const auto& asked = *in->what.what;
    auto answer = xmpp::stanza::from_xml("<message type='chat' id='" + std::string{asked.id()} + "'><body>" + name + "</body></message>");
    answer->from = asked.to;
    answer->to = asked.from;
    out.route({std::move(answer), {}});
    out.complete(asked.completion, modules::outcome::acknowledged);
  }
  bool is_idle() const override { return true; }
  std::string name;
};

/// Asks until a node answers. Its name; or what was wrong.
std::string ask(small_client& c, int& questions) {
  for (int n = 0; n < 100; ++n) {
    auto id = "q" + std::to_string(++questions);
    c.send("<message to='where@b' type='chat' id='" + id + "'><body>?</body></message>");
    auto m = next_message(c);
    while (m.find("type='headline'") != m.npos) // everybody is told
      m = next_message(c);
    if (m.find("id='" + id + "'") == m.npos)
      return "no answer to " + id + ": " + m; // or two to the one before
    if (m.find("type='error'") == m.npos)
      return body_of(m);
    if (m.find("type='wait'") == m.npos)
      return "refused: " + m;
    std::this_thread::sleep_for(50ms);
  }
  return "nobody answers";
}
} // namespace

TEST_CASE("peers: messages between clients of two nodes arrive once and in order, both ways, whichever reactors they are on") {
  small_cluster nodes{2};
  auto all = begin(nodes, 4);
  talk(all, 200);
}

TEST_CASE("peers: an account whose devices are on two nodes moves when the older one leaves; nothing is lost") {
  small_cluster nodes{2};
  constexpr int accounts = 4, each = 200, parting = 50;
  struct scene { std::unique_ptr<small_client> older, newer, other; std::string heard, parted; };
  std::vector<scene> all(accounts);
  for (int n = 0; n < accounts; ++n) {
    auto& s = all[static_cast<std::size_t>(n)];
    auto number = std::to_string(n);
    auto old_node = static_cast<std::size_t>(n & 1), new_node = 1 - old_node;
    s.older = nodes.come(old_node, "a" + number, "older", 0);
    s.newer = nodes.come(new_node, "a" + number, "newer", 1, "<presence><priority>5</priority></presence>");
    CHECK(nodes.home_of("a" + number, new_node) == nodes.name_of(old_node));
    s.other = nodes.come(static_cast<std::size_t>(n >> 1), "c" + number, "w", 0);
  }
  std::vector<std::thread> threads;
  for (int n = 0; n < accounts; ++n) {
    auto& s = all[static_cast<std::size_t>(n)];
    auto name = "a" + std::to_string(n) + "@b", friend_name = "c" + std::to_string(n) + "@b";
    threads.emplace_back([&s, name] {
      for (int m = 0; m < each; ++m)
        s.other->send(message(name + (m % 2 ? "/newer" : ""), m));
    });
    threads.emplace_back([&s, friend_name] {
      s.heard = hear(*s.newer, each, false, [&](int heard) {
        if (heard != parting)
          return;
        for (int m = 0; m < parting; ++m)
          s.older->send(message(friend_name + (m % 2 ? "/w" : ""), m));
        s.older->send("</stream:stream>");
      });
    });
    threads.emplace_back([&s] { s.parted = hear(*s.other, parting, false); });
  }
  for (auto& t : threads)
    t.join();
  for (int n = 0; n < accounts; ++n) {
    auto& s = all[static_cast<std::size_t>(n)];
    CAPTURE(n);
    CHECK(s.heard == "");
    CHECK(s.parted == "");
    for (std::size_t at : {0, 1})
      CHECK(small_node::wait_until([&] { return nodes.home_of("a" + std::to_string(n), at) == nodes.name_of(1 - static_cast<std::size_t>(n & 1)); }));
    s.other->send(message("a" + std::to_string(n) + "@b", 1'000));
    CHECK(body_of(next_message(*s.newer)) == "1000"); // where it is now
    CHECK(s.newer->ping());
  }
}

TEST_CASE("peers: an account that has let a session of another node go, where nobody knows of it, asks for it") {
  small_cluster nodes{2};
  auto here = nodes.come(0, "a", "here", 0), there = nodes.come(1, "a", "there", 1);
  auto full = *xmpp::parse_jid("a@b/there");
  auto is_known = [&] {
    auto all = nodes[0].around.registry().sessions_of(*full);
    return std::ranges::any_of(all, [&](auto& row) { return *row.full == *full; });
  };
  REQUIRE(small_node::wait_until(is_known));
  nodes[0].with_entity("a@b", [session = nodes.others(0).rows().find(*full)->session](entity& e) {
    e.on_detach(session, true);
    e.check_owner();
  });
  REQUIRE(small_node::wait_until([&] { return !is_known(); }));
  CHECK(small_node::wait_until(is_known));
  here->send("<message to='a@b/there' type='chat'><body>there again</body></message>");
  CHECK(there->sees("<body>there again</body>"));
}

TEST_CASE("peers: what is told to everybody once more, by either node, is heard once") {
  small_cluster nodes{2};
  std::vector<std::unique_ptr<small_client>> all;
  for (std::size_t n = 0; n < 4; ++n)
    all.push_back(nodes.come(n & 1, "a" + std::to_string(n), "x", n >> 1));
  auto tell = [&](std::size_t node, std::uint64_t id) {
    nodes[node].around.homes()[0]->post_from_anywhere([id](home& at) {
      auto s = xmpp::stanza::from_xml("<message type='headline' id='h" + std::to_string(id) + "'><body>x</body></message>");
      s->from = s->to = *xmpp::parse_jid("b");
      s->stanza_id = {id << 1, 1};
      broadcast(at, "b", s);
    });
  };
  auto hears = [&](std::uint64_t id) {
    for (auto& c : all) {
      auto m = next_message(*c);
      if (m.find("id='h" + std::to_string(id) + "'") == m.npos)
        return m;
    }
    return std::string{};
  };
  tell(0, 1);
  REQUIRE(hears(1) == "");
  tell(0, 1);
  tell(0, 2);
  REQUIRE(hears(2) == "");
  tell(1, 1);
  tell(1, 3);
  CHECK(hears(3) == "");
}

TEST_CASE("peers: who comes is seen at the other node, and is unavailable once when its node is given up") {
  small_cluster nodes{2, impatient()};
  auto a = nodes.come(0, "a", "x", 0), c = nodes.come(1, "c", "y", 1);
  befriend(*a, "a@b", *c, "c@b");
  CHECK_FALSE(is_unavailable(next_presence(*c, "a@b/x")));
  c->send("</stream:stream>");
  CHECK(is_unavailable(next_presence(*a, "c@b/y")));
  c = nodes[1].log_in("c", "z", 0);
  c->send("<presence/>");
  CHECK_FALSE(is_unavailable(next_presence(*a, "c@b/z")));
  CHECK_FALSE(is_unavailable(next_presence(*c, "a@b/x")));
  nodes.cut(0, 1);
  CHECK(is_unavailable(next_presence(*a, "c@b/z")));
  CHECK(is_unavailable(next_presence(*c, "a@b/x")));
  CHECK(nodes.others(0).alive().empty());
  CHECK(nodes.others(1).alive().empty());
  nodes.mend(0, 1);
  CHECK_FALSE(is_unavailable(next_presence(*a, "c@b/z"))); // nothing else was said of it in between
  CHECK_FALSE(is_unavailable(next_presence(*c, "a@b/x")));
  a->send(message("c@b/z", 1));
  CHECK(body_of(next_message(*c)) == "1");
}

TEST_CASE("peers: a session that goes on at another node knows what its client was sent at the first one") {
  small_cluster nodes{2};
  auto a = nodes.come(0, "a", "x", 0), c = nodes.come(0, "c", "y", 1);
  auto named = [](const std::string& name) {
    return "<message to='c@b/y' type='chat' id='" + name + "'><origin-id xmlns='urn:xmpp:sid:0' id='" + name + "'/><body>" + name + "</body></message>";
  };
  auto id = c->enable();
  REQUIRE(!id.empty());
  a->send(named("one"));
  REQUIRE(c->sees("<body>one</body>"));
  c->send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
  REQUIRE(c->ping());
  c->shut();
  auto next = nodes[1].connect(0);
  REQUIRE(next->login_only("c"));
  next->send("<resume xmlns='urn:xmpp:sm:3' previd='" + id + "' h='2'/>"); // the message, and the answer to the ping
  REQUIRE(next->sees("<resumed "));
  a->send(named("one") + named("two")); // as if its sender had lost its stream before it was told
  auto got = next->read_until("<body>two</body>");
  CHECK(got.ends_with("<body>two</body>"));
  CHECK(got.find("<body>one</body>") == got.npos);
}

TEST_CASE("peers: what was stored on one side of a split reaches its receiver, who was there all along, when it heals") {
  small_cluster nodes{2, impatient()};
  auto a = nodes.come(0, "a", "x", 0), c = nodes.come(1, "c", "y", 1);
  nodes.cut(0, 1);
  for (std::size_t n : {0, 1})
    REQUIRE(small_node::wait_until([&] { return nodes.others(n).alive().empty(); }));
  auto addresses = nodes[0].around.registry().address_count();
  a->send(message("c@b", 1));
  std::this_thread::sleep_for(50ms); // stored
  CHECK(small_node::wait_until([&] { return nodes[0].around.registry().address_count() == addresses; })); // its receiver is out of memory there
  nodes.mend(0, 1);
  CHECK(body_of(next_message(*c)) == "1");
}

TEST_CASE("peers: the clients of a node whose process is gone are unavailable once, and the others go on") {
  small_cluster nodes{3};
  auto a = nodes.come(0, "a", "x", 0), c = nodes.come(1, "c", "y", 1), d = nodes.come(2, "d", "z", 0);
  befriend(*a, "a@b", *d, "d@b");
  befriend(*c, "c@b", *d, "d@b");
  nodes.kill(2);
  CHECK(is_unavailable(next_presence(*a, "d@b/z")));
  CHECK(is_unavailable(next_presence(*c, "d@b/z")));
  for (auto* one : {a.get(), c.get()}) {
    one->send("<iq type='get' id='end' to='b'><ping xmlns='urn:xmpp:ping'/></iq>");
    CHECK(one->read_until("id='end'").find("<presence") == std::string::npos);
  }
  a->send(message("c@b/y", 1));
  CHECK(body_of(next_message(*c)) == "1");
  c->send(message("a@b", 2));
  CHECK(body_of(next_message(*a)) == "2");
}

namespace {
/// Three nodes with two services, somebody on each who asks one of them, and an administrator who speaks to the other.
struct services_scene {
  struct side { std::unique_ptr<small_client> asks, listens; int questions = 0; std::string wrong; };
  small_cluster nodes{3, {}, [](modules::host_view& v, std::size_t n) {
    v.admins = {"a0@b", "a1@b", "a2@b"};
    v.entities["where"] = [n] { return std::make_unique<whereabouts>(small_cluster::name_of(n)); };
  }};
  std::vector<side> sides{nodes.size()};
  std::vector<std::size_t> there{0, 1, 2}; // nodes
  int announcements = 0;

  services_scene() {
    for (auto n : there) {
      sides[n].asks = nodes[n].log_in("c" + std::to_string(n), "asks", 0);
      sides[n].listens = nodes.come(n, "a" + std::to_string(n), "listens", 1);
    }
  }
  /// The number of the node that has it, when all say the same: who starts first has it until another one shall.
  std::size_t find() {
    std::set<std::string> owners;
    for (int attempts = 0; attempts < 50 && owners.size() != 1; ++attempts) {
      owners.clear();
      for (auto n : there)
        owners.insert(ask(*sides[n].asks, sides[n].questions));
      std::this_thread::sleep_for(owners.size() == 1 ? 0ms : 100ms);
    }
    REQUIRE(owners.size() == 1);
    auto known = std::ranges::find(there, *owners.begin(), small_cluster::name_of);
    REQUIRE_MESSAGE(known != there.end(), *owners.begin());
    return *known;
  }
  /// Everybody hears it once.
  void announce(std::size_t from) {
    for (int attempts = 0; attempts < 100; ++attempts) {
      auto text = "hear this " + std::to_string(++announcements);
      sides[from].listens->send("<message to='announce@b'><body>" + text + "</body></message>");
      auto m = next_message(*sides[from].listens);
      if (m.find("type='wait'") != m.npos) {
        std::this_thread::sleep_for(50ms);
        continue;
      }
      CHECK(body_of(m) == text);
      for (auto n : there)
        if (n != from)
          CHECK(body_of(next_message(*sides[n].listens)) == text);
      return;
    }
    FAIL("no node takes an announcement");
  }
  /// All who are there ask all the time, while `f` goes on.
  void during(const std::function<void()>& f) {
    std::atomic<bool> is_over{false};
    std::vector<std::thread> threads;
    for (auto n : there)
      threads.emplace_back([&, n] {
        while (!is_over && sides[n].wrong.empty())
          if (auto where = ask(*sides[n].asks, sides[n].questions); where.size() != 2)
            sides[n].wrong = where;
      });
    f();
    is_over = true;
    for (auto& t : threads)
      t.join();
    for (auto n : there)
      CHECK(sides[n].wrong == "");
  }
};
} // namespace

TEST_CASE("peers: a service exists once; when its node stops another one has it, and each question has one answer") {
  services_scene s;
  auto first = s.find();
  for (auto n : s.there)
    s.announce(n);
  std::erase(s.there, first);
  s.during([&] { s.nodes[first].stop(); });
  CHECK(s.find() != first);
  for (auto n : s.there)
    s.announce(n);
}

TEST_CASE("peers: a node that drains gives its services to another one, and its clients go on asking") {
  services_scene s;
  auto first = s.find();
  s.during([&] {
    s.nodes.others(first).drain();
    CHECK(small_node::wait_until([&] { return s.nodes.others(first).owned().count() == 0; }));
  });
  CHECK(s.find() != first);
  s.announce(first);
}

TEST_CASE("peers: nodes stop under load, one behind the other or at once, with their links whole or cut; everything ends") {
  for (int round = 0; round < 4; ++round) {
    CAPTURE(round);
    small_cluster nodes{2};
    std::vector<std::unique_ptr<small_client>> clients;
    std::vector<std::thread> threads;
    std::atomic<int> heard{0};
    for (int n = 0; n < 6; ++n) { // three accounts with a device on each node
      auto place = static_cast<std::size_t>(n);
      clients.push_back(nodes.come(place & 1, "u" + std::to_string(n >> 1), n & 1 ? "y" : "x", place >> 1));
    }
    for (int n = 0; n < 6; ++n) {
      auto* c = clients[static_cast<std::size_t>(n)].get();
      threads.emplace_back([c, n] {
        auto to = "u" + std::to_string(((n >> 1) + 1) % 3) + "@b";
        for (int m = 0; m < 20'000; ++m, std::this_thread::sleep_for(2ms))
          if (!c->send(message(to, m) + message(to + "/x", m) + message(to + "/y", m) + "<presence><priority>" + std::to_string(m % 2) + "</priority></presence>"))
            return;
      });
      threads.emplace_back([c, &heard] {
        while (!next_message(*c).empty())
          ++heard;
      });
    }
    CHECK(small_node::wait_until([&] { return heard > 1'000; }));
    if (round == 1)
      nodes.cut(0, 1);
    if (round == 2)
      nodes.kill(1);
    if (round == 3) {
      std::thread other{[&] { nodes[1].stop(); }};
      nodes[0].stop();
      other.join();
    }
    nodes[0].stop();
    nodes[1].stop();
    for (auto& t : threads)
      t.join();
  }
}

TEST_CASE("peers: links break and come back again and again; no message is lost or doubled, and what was not stored keeps its order") {
  small_cluster nodes{2};
  auto all = begin(nodes, 4);
  talk(all, 600, 3ms, [&] {
    for (int n = 0; n < 6; ++n) {
      nodes.cut(0, 1);
      std::this_thread::sleep_for(n % 2 ? 1ms : 250ms);
      nodes.mend(0, 1);
      CHECK(small_node::wait_until([&] { return nodes.others(0).alive().size() == 1 && nodes.others(1).alive().size() == 1; }));
      std::this_thread::sleep_for(100ms);
    }
  });
  CHECK(nodes.others(0).divergences() == 0);
  CHECK(nodes.others(1).divergences() == 0);
}

TEST_CASE("peers: a session whose account's node says that it lives elsewhere asks now and then, not all the time, and what it said comes in order") {
  small_cluster nodes{3};
  for (std::size_t n = 0; n < nodes.size(); ++n)
    nodes[n].add_account("a");
  auto first = nodes.come(1, "a", "first", 0), second = nodes.come(0, "a", "second", 0), third = nodes.come(2, "a", "third", 0);
  auto asked = [] { return base::metrics::make_counter("covey_sessions_turned_away_total", "").value(); };
  auto before = asked();
  nodes.cut(0, 1); // node 0 does not see that the first one goes
  first->shut();
  REQUIRE(small_node::wait_until([&] { return nodes.home_of("a", 2) == small_cluster::name_of(0); }));
  for (auto id : {"q1", "q2", "q3"})
    third->send("<iq type='get' id='" + std::string{id} + "'><query xmlns='jabber:iq:roster'/></iq>");
  REQUIRE(small_node::wait_until([&] { return asked() >= before + 3; }));
  REQUIRE(nodes.home_of("a", 0) == small_cluster::name_of(1));
  std::this_thread::sleep_for(200ms);
  CHECK(asked() <= before + 40); // one in 20 ms, and not one for each answer
  nodes.mend(0, 1);
  auto all = third->read_until("id='q3' ");
  CHECK(all.ends_with("id='q3' "));
  auto at = [&](const char* id) { return all.find(std::string{"id='"} + id + "' "); };
  CHECK(at("q1") < at("q2"));
  CHECK(at("q2") < at("q3"));
}
