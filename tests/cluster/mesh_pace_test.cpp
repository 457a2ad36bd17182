// When a mesh writes its frames, and how much goes into one.
#include "tests/cluster/wired_nodes.hpp"

using namespace cluster_tests;

TEST_CASE_FIXTURE(wired_nodes, "mesh: a lone change goes at once; of many, what is for one peer gathers until its turn") {
  mesh_options o;
  o.pace = {.frames = 100, .of_peer = 10, .burst = 20, .turn = 10ms};
  auto& a = add(1, 1 << 20, "one", "a", "b", o);
  std::vector<node*> others;
  for (node_id n = 2; n <= 5; ++n)
    others.push_back(&add(n, 1 << 20, "n" + std::to_string(n), "a" + std::to_string(n), "a"));
  advance(8s);
  auto all_have = [&](std::uint64_t session) {
    return std::ranges::all_of(others, [&](auto* n) { return n->rows.find(*jid("u" + std::to_string(session) + "@h/x")).has_value(); });
  };
  publish(a, "u1@h/x", 1);
  CHECK(all_have(1));
  auto before = a.mesh.count().frames_out;
  std::uint64_t last = 1;
  std::map<std::uint64_t, base::time_point> published, seen;
  for (auto began = now; now - began < 4s;) { // 200 changes a second, which were 800 frames and as many acknowledgements
    now += 5ms;
    ++last;
    published[last] = now;
    publish(a, "u" + std::to_string(last) + "@h/x", last);
    if (a.mesh.wanted_at() <= now)
      a.mesh.go_on(now, a.out);
    if ((now - began) % 250ms == 0ms)
      for (auto& n : nodes)
        n->mesh.tick(now, n->out);
    settle();
    for (auto i = published.begin(); i != published.end() && all_have(i->first); i = published.erase(i))
      seen[i->first] = now - (i->second - base::time_point{});
  }
  CHECK(a.mesh.count().frames_out - before <= 20 + 4 * 100 + 4);
  CHECK(a.mesh.count().frames_out - before > 300);
  CHECK(seen.size() > 790);
  for (auto& [session, took] : seen)
    CHECK(took.time_since_epoch() <= 60ms); // four peers, 10 ms each, and the turn
  now += 1s; // a rest, and it goes at once again
  for (auto& n : nodes)
    n->mesh.tick(now, n->out);
  settle();
  publish(a, "u9999@h/x", 9'999);
  CHECK(all_have(9'999));
  CHECK(a.mesh.wanted_at() == base::time_point::max());
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: outcomes and credit wait a little for company, a stanza takes them along, and a bad outcome does not wait") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(8s);
  auto to_b = number_of(a, b), to_a = number_of(b, a);
  std::uint32_t last = 0;
  auto cross = [&](ending how) {
    CHECK(a.mesh.send(to_b, make_parcel(++last), now, a.out) == base::room::ok);
    settle();
    REQUIRE(b.out.arrived.size() == 1);
    b.mesh.handled(to_a, 1, 100, now, b.out);
    b.mesh.complete(to_a, b.out.arrived[0].what.what.what->completion, how, now, b.out);
    b.out.arrived.clear();
    settle();
  };
  auto frames = [&] { return std::pair{a.mesh.count().frames_out, b.mesh.count().frames_out}; };
  auto before = frames();
  auto wait = pace_options{}.answers;
  auto began = now;
  for (int n = 0; n < 4; ++n) {
    cross(ending::acknowledged);
    now += wait / 8;
  }
  CHECK(frames() == std::pair{before.first + 4, before.second});
  CHECK(a.out.ended.empty());
  CHECK(b.mesh.wanted_at() == began + wait); // since the first began to wait
  now = began + wait - 1us;
  settle();
  CHECK(a.out.ended.empty());
  now = began + wait;
  settle();
  CHECK(a.out.ended.size() == 4);
  CHECK(frames() == std::pair{before.first + 4, before.second + 1});
  CHECK(b.mesh.wanted_at() == base::time_point::max());
  CHECK(a.mesh.wanted_at() == now + pace_options{}.totals); // that they were heard, for which nobody waits
  cross(ending::bounced);
  CHECK(a.out.ended.size() == 5);
  CHECK(frames() == std::pair{before.first + 5, before.second + 2});
  cross(ending::stored);
  CHECK(a.out.ended.size() == 5);
  CHECK(b.mesh.send(to_a, make_parcel(99), now, b.out) == base::room::ok);
  settle();
  CHECK(a.out.ended.size() == 6);
  CHECK(frames() == std::pair{before.first + 6, before.second + 3});
  settle_answers();
  settle_answers();
  CHECK(a.mesh.link_to(to_b)->open_count() == 0);
  CHECK(b.mesh.link_to(to_a)->unconfirmed_completions() == 0);
  CHECK(a.mesh.wanted_at() == base::time_point::max());
  CHECK(b.mesh.wanted_at() == base::time_point::max());
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: some frames of stanzas go at once, then they are apart, and one that is full does not wait") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(8s);
  auto to_b = number_of(a, b);
  pace_options pace;
  std::uint32_t last = 0;
  auto send = [&] { CHECK(a.mesh.send(to_b, make_parcel(++last), now, a.out) == base::room::ok); };
  auto before = a.mesh.count().frames_out;
  auto frames = [&] { return static_cast<int>(a.mesh.count().frames_out - before); };
  for (int n = 1; n <= pace.at_once; ++n) {
    send();
    settle();
    CHECK(frames() == n);
  }
  auto began = now;
  int sent = 0;
  for (; now < began + 20 * pace.apart; now += pace.apart / 8) {
    send();
    settle();
    ++sent;
    CHECK((b.out.arrived.size() == last || a.mesh.wanted_at() <= now + pace.apart));
  }
  CHECK(sent == 160);
  CHECK(frames() >= pace.at_once + 19);
  CHECK(frames() <= pace.at_once + 21);
  CHECK(b.out.arrived.size() + 8 >= last);
  auto full = frames();
  for (std::size_t n = 0; n < limits::stanzas; ++n)
    send();
  settle();
  CHECK(frames() > full);
  now += pace.apart * 2 * pace.at_once; // a rest, and it goes at once again
  settle();
  full = frames();
  send();
  settle();
  CHECK(frames() == full + 1);
  CHECK(b.out.arrived.size() == last);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: what nobody waits for goes later than outcomes, and with the first of them") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(8s);
  auto to_b = number_of(a, b), to_a = number_of(b, a);
  pace_options pace;
  std::uint32_t last = 0;
  auto cross = [&] {
    CHECK(a.mesh.send(to_b, make_parcel(++last), now, a.out) == base::room::ok);
    settle();
    b.mesh.handled(to_a, 1, 100, now, b.out);
    settle();
  };
  auto before = b.mesh.count().frames_out;
  auto began = now;
  cross();
  CHECK(b.mesh.wanted_at() == began + pace.totals); // that it was taken, and credit
  now += pace.answers;
  settle();
  CHECK(b.mesh.count().frames_out == before);
  REQUIRE(b.out.arrived.size() == 1);
  b.mesh.complete(to_a, b.out.arrived[0].what.what.what->completion, ending::acknowledged, now, b.out);
  settle();
  CHECK(b.mesh.wanted_at() == now + pace.answers);
  now += pace.answers;
  settle();
  CHECK(b.mesh.count().frames_out == before + 1);
  CHECK(b.mesh.wanted_at() == base::time_point::max());
  cross();
  now += pace.totals - pace.answers / 2;
  b.mesh.complete(to_a, b.out.arrived[1].what.what.what->completion, ending::acknowledged, now, b.out);
  settle();
  CHECK(b.mesh.wanted_at() == now + pace.answers / 2); // with the total, which has waited for longer
  now += pace.answers / 2;
  settle();
  CHECK(b.mesh.count().frames_out == before + 2);
  CHECK(a.out.ended.size() == 2);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: where many stanzas come, frames are further apart") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  auto to_b = number_of(a, b);
  pace_options pace;
  auto frames_at = [&](std::size_t each) { // so many stanzas four times a millisecond
    advance(8s);
    auto before = a.mesh.count().frames_out;
    std::size_t sent = b.out.arrived.size();
    for (auto until = now + 30 * pace.apart; now < until; now += pace.apart / 4) {
      for (std::size_t n = 0; n < each; ++n)
        CHECK(a.mesh.send(to_b, make_parcel(static_cast<std::uint32_t>(++sent), false), now, a.out) == base::room::ok);
      settle();
    }
    now += pace.apart_of_many;
    settle();
    CHECK(b.out.arrived.size() == sent);
    return static_cast<int>(a.mesh.count().frames_out - before);
  };
  CHECK(frames_at(pace.many / 8) >= pace.at_once + 28);
  auto few = frames_at(pace.many / 4);
  CHECK(few >= 30 / 2);
  CHECK(few <= pace.at_once + 20);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: frames are as large as both nodes' versions have them, and what one does not hold goes with the next") {
  mesh_options older;
  older.members.version = 1;
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  auto& c = add(3, 1 << 20, "three", "c", "a", older);
  advance(8s);
  auto frames_to = [&](auto& n) {
    auto before = a.mesh.count().frames_out;
    for (std::size_t i = 0; i < limits::stanzas_of_1 + 1; ++i)
      CHECK(a.mesh.send(number_of(a, n), make_parcel(static_cast<std::uint32_t>(i + 1)), now, a.out) == base::room::ok);
    settle();
    CHECK(n.out.arrived.size() == limits::stanzas_of_1 + 1);
    return a.mesh.count().frames_out - before;
  };
  CHECK(frames_to(b) == 1);
  CHECK(frames_to(c) == 2);
}
