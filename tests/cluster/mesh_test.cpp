// Membership, replication and links of whole nodes over connections that the test makes and breaks by hand.
#include "tests/cluster/wired_nodes.hpp"

using namespace cluster_tests;

TEST_CASE_FIXTURE(wired_nodes, "mesh: nodes that know one seed find each other") {
  for (std::size_t count : {3u, 7u, 15u}) {
    CAPTURE(count);
    nodes.clear();
    wires.clear();
    for (std::size_t n = 0; n < count; ++n)
      add(n + 1, 1 << 20, "n" + std::to_string(n), "a" + std::to_string(n), "a0");
    advance(8s);
    std::size_t seen = 0;
    for (auto& a : nodes)
      for (auto& b : nodes)
        seen += a != b && sees(*a, *b);
    CHECK(seen == count * (count - 1));
    CHECK(wires.size() == count * (count - 1) / 2); // one connection a pair
    CHECK(nodes[0]->mesh.candidates().size() == count);
  }
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: who is refused, and why both sides know it") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto refused = [&](node_id id, const std::string& name, const std::string& address, mesh_options o, refusal why) {
    auto& n = add(id, 1 << 20, name, address, "a", o);
    advance(2s);
    if (id == 2 || id == 3 || id == 5)
      CHECK_FALSE(sees(a, n));
    CHECK(was_refused(a, why));
    CHECK(was_refused(n, why));
    a.out.refused.clear();
    n.is_running = false;
  };
  mesh_options other;
  other.members.cluster = "other";
  refused(2, "two", "b", other, refusal::wrong_cluster);
  mesh_options newer;
  newer.members.version = 9;
  newer.members.oldest_version = 5;
  refused(3, "three", "c", newer, refusal::incompatible);
  mesh_options speaks_both;
  speaks_both.members.version = 9;
  auto& two = add(4, 1 << 20, "four", "d", "a", speaks_both);
  advance(1s);
  CHECK(sees(a, two));
  refused(5, "four", "e", {}, refusal::duplicate_name);
  refused(4, "four", "f", {}, refusal::duplicate_identity); // a copy of its folder
  CHECK(sees(a, two)); // it is not disturbed
  refused(1, "copy", "g", {}, refusal::duplicate_identity); // of the node itself
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a killed node is dead within 2 s, and its rows are lost once") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  for (std::uint64_t n = 1; n <= 20; ++n)
    publish(b, "u" + std::to_string(n) + "@h/x", n);
  advance(1s);
  REQUIRE(a.rows.size() == 20);
  a.out.rows = {};
  kill(b);
  advance(2s);
  CHECK(peer_of(a, b)->state == peer_state::dead);
  CHECK(a.out.peers.back().is_process_gone);
  CHECK(a.out.rows.lost.size() == 20);
  CHECK(a.rows.size() == 0);
  advance(20s);
  CHECK(a.out.rows.lost.size() == 20);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: silence is suspicion after 3 s and death after 10 s; both come back by themselves") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  publish(a, "x@h/1", 1);
  publish(b, "y@h/1", 2);
  advance(1s);
  REQUIRE(sees(a, b));
  for (bool both : {true, false}) {
    CAPTURE(both);
    auto lives = std::pair{a.mesh.members().own().life, b.mesh.members().own().life};
    cut[{&b, &a}] = true;
    cut[{&a, &b}] = both;
    advance(1500ms); // the last heartbeat was up to a second before
    CHECK(peer_of(a, b)->state == peer_state::alive);
    advance(1750ms);
    CHECK(peer_of(a, b)->state == peer_state::suspected);
    CHECK(a.rows.find(*jid("y@h/1"))); // still there: its stanzas are held
    CHECK(a.mesh.misses_somebody());
    advance(5250ms);
    CHECK(peer_of(a, b)->state == peer_state::suspected);
    advance(1750ms);
    CHECK(peer_of(a, b)->state == peer_state::dead);
    CHECK_FALSE(a.rows.find(*jid("y@h/1")));
    cut.clear();
    advance(8s);
    CHECK(sees(a, b));
    CHECK(sees(b, a));
    CHECK(a.rows.find(*jid("y@h/1")));
    CHECK(b.rows.find(*jid("x@h/1")));
    CHECK(b.mesh.members().own().life > lives.second); // it was declared dead, so it has a new life
  }
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a short cut loses nothing and starts no new life") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(1s);
  auto life_of_b = b.mesh.members().own().life;
  cut[{&a, &b}] = cut[{&b, &a}] = true;
  CHECK(a.mesh.send(number_of(a, b), make_parcel(1), now, a.out) == base::room::ok);
  advance(6s); // meanwhile the connection is thrown away
  CHECK(b.out.arrived.empty());
  CHECK(a.out.returned.empty());
  CHECK(a.mesh.send(number_of(a, b), make_parcel(2), now, a.out) == base::room::ok);
  cut.clear();
  advance(4s);
  REQUIRE(b.out.arrived.size() == 2);
  CHECK(id_of(b.out.arrived[0].what) == "m1");
  CHECK(id_of(b.out.arrived[1].what) == "m2");
  b.mesh.complete(number_of(b, a), b.out.arrived[1].what.what.what->completion, ending::stored, now, b.out);
  settle_answers();
  REQUIRE(a.out.ended.size() == 1);
  CHECK(a.out.ended[0].what.what.what->completion.number == 2);
  CHECK(b.mesh.members().own().life == life_of_b);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a gap of the own clock is a new life; rows stay, and the link to a peer that has not given this node up") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  publish(b, "y@h/1", 2);
  CHECK(a.mesh.send(number_of(a, b), make_parcel(1), now, a.out) == base::room::ok);
  settle();
  REQUIRE(b.out.arrived.size() == 1);
  auto late = b.out.arrived[0].what.what.what->completion;
  a.out.rows = {};
  now += 8'100ms; // both are away; a is first to look at its clock
  a.mesh.tick(now, a.out);
  CHECK(a.out.reborn);
  b.mesh.tick(now, b.out);
  settle();
  advance(4s);
  CHECK(sees(a, b));
  CHECK(a.rows.find(*jid("y@h/1")));
  CHECK(a.out.rows.lost.empty()); // compared with the new life's, not purged
  CHECK(a.out.rows.appeared.empty());
  CHECK(a.mesh.send(number_of(a, b), make_parcel(2), now, a.out) == base::room::ok);
  settle();
  CHECK(b.out.arrived.size() == 2);
  b.mesh.complete(number_of(b, a), late, ending::acknowledged, now, b.out);
  settle_answers();
  CHECK(a.out.returned.empty());
  REQUIRE(a.out.ended.size() == 1);
  CHECK(a.out.ended[0].what.what.what->completion.number == 1);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a healed split with a third node leaves the link of two others as it was") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  auto& c = add(3, 1 << 20, "three", "c", "a");
  advance(2s);
  REQUIRE(sees(a, c));
  for (auto* n : {&a, &b})
    cut[{n, &c}] = cut[{&c, n}] = true;
  CHECK(a.mesh.send(number_of(a, c), make_parcel(1), now, a.out) == base::room::ok);
  CHECK(a.mesh.send(number_of(a, b), make_parcel(2), now, a.out) == base::room::ok);
  advance(12s);
  CHECK(a.out.returned.size() == 1); // what was for c
  CHECK(peer_of(b, c)->state == peer_state::dead);
  auto lives = std::pair{a.mesh.members().own().life, b.mesh.members().own().life};
  a.out.returned.clear();
  cut.clear();
  advance(8s);
  CHECK(sees(a, b));
  CHECK(sees(a, c));
  CHECK(sees(b, c));
  CHECK(a.mesh.members().own().life > lives.first); // c had given both up
  CHECK(b.mesh.members().own().life > lives.second);
  CHECK(a.out.returned.empty());
  REQUIRE(b.out.arrived.size() == 1);
  b.mesh.complete(number_of(b, a), b.out.arrived[0].what.what.what->completion, ending::stored, now, b.out);
  settle_answers();
  REQUIRE(a.out.ended.size() == 1);
  CHECK(a.out.ended[0].what.what.what->completion.number == 2);
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a node that lost its disk, changed its address, left, or drains") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  publish(b, "y@h/1", 2);
  advance(1s);
  kill(b);
  auto& fresh = add(3, 1 << 20, "two", "b2", "a"); // the same name, another identity
  advance(1s);
  CHECK(sees(a, fresh));
  CHECK(peer_of(a, b)->state == peer_state::left);
  CHECK(a.rows.size() == 0);
  CHECK(a.out.rows.lost.size() == 1);
  kill(fresh);
  auto& moved = add(3, 2 << 20, "two", "b3", "a");
  advance(1s);
  CHECK(sees(a, moved));
  CHECK(peer_of(a, moved)->who.address == "b3");
  a.out.are_candidates_new = false;
  advance(3s); // heartbeats that say nothing new
  CHECK_FALSE(a.out.are_candidates_new);
  moved.mesh.drain(now, moved.out);
  settle();
  CHECK(peer_of(a, moved)->is_draining);
  CHECK(a.out.are_candidates_new); // with the frame that says so
  CHECK(a.mesh.candidates().size() == 1);
  publish(moved, "z@h/1", 9);
  moved.mesh.leave(now, moved.out);
  settle();
  CHECK(peer_of(a, moved)->state == peer_state::left);
  advance(500ms);
  CHECK(a.rows.size() == 0);
  CHECK_FALSE(a.mesh.misses_somebody());
  moved.is_running = false;
  auto& back = add(3, 3 << 20, "two", "b3", "a");
  advance(1s);
  CHECK(sees(a, back));
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: of two sessions with one full JID the loser's node is told, once, on whichever side") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(1s);
  cut[{&a, &b}] = cut[{&b, &a}] = true;
  publish(a, "x@h/same", 1);
  publish(b, "x@h/same", 2);
  CHECK(a.out.rows.conflicts.empty());
  advance(6s);
  cut.clear();
  advance(8s);
  auto of_a = a.rows.find(*jid("x@h/same")), of_b = b.rows.find(*jid("x@h/same"));
  REQUIRE(of_a);
  CHECK(of_a->session == of_b->session);
  auto& loser = of_a->session == 1 ? b : a;
  auto& winner = of_a->session == 1 ? a : b;
  REQUIRE(loser.out.rows.conflicts.size() == 1);
  CHECK(loser.out.rows.conflicts[0].session != of_a->session);
  CHECK(winner.out.rows.conflicts.empty());
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a peer that claims others' rows, skips, or sends rubbish is hung up on; the node goes on") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(1s);
  struct bad { const char* what; void (*make)(frame&); bool is_malformed; };
  for (const auto& l : std::initializer_list<bad>{
           {"rows of another node", [](frame& f) { f.changes = changes{7, 1 << 20, 1, {{session_row("x@h/1", 5, 1), false}}}; }, false},
           {"rows of another life", [](frame& f) { f.changes = changes{2, 5, 1, {{session_row("x@h/1", 5, 1), false}}}; }, false},
           {"changes with a gap", [](frame& f) { f.changes = changes{2, 1 << 20, 900, {{session_row("x@h/1", 5, 1), false}}}; }, false},
           {"a bucket that was not asked for", [](frame& f) { f.sync_parts = {{2, 1 << 20, 3, true, {}}}; }, false},
           {"more applied than there is", [](frame& f) { f.applied = 77; }, false},
           {"a request for another's rows", [](frame& f) { f.sync_request = sync_request{9, 1 << 20, 0, {}}; }, false},
           {"stanzas with a gap", [](frame& f) { f.stanzas = stanzas{50, {make_parcel(1)}}; }, false},
           {"rubbish", nullptr, true}}) {
    CAPTURE(l.what);
    REQUIRE(sees(a, b));
    auto before = a.mesh.count();
    bool done = false;
    spoil = [&](node& from, node&, std::string& bytes) {
      if (&from != &b || done)
        return;
      done = true;
      frame f;
      if (l.make)
        l.make(f);
      bytes = l.make ? encode(f) : std::string("\xff\xff\xff");
    };
    advance(1250ms);
    spoil = nullptr;
    CHECK(a.mesh.count().hostile == before.hostile + !l.is_malformed);
    CHECK(a.mesh.count().malformed == before.malformed + l.is_malformed);
    CHECK(was_refused(a, refusal::malformed));
    CHECK(a.rows.size() == 0);
    advance(5s); // it may come back, and behave
  }
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: strangers that say nothing are bounded and shown the door") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  for (int n = 0; n < 200; ++n)
    a.mesh.accepted(1'000 + static_cast<connection>(n), now, a.out);
  CHECK(a.out.net.size() == 200 - a.mesh.members().options().most_strangers);
  a.out.net.clear();
  advance(6s);
  a.out.net.clear();
  a.mesh.accepted(5'000, now, a.out);
  CHECK(a.out.net.empty()); // there is room again
  a.mesh.received(5'000, encode(frame{}), now, a.out); // no greeting: nothing happens
  CHECK(a.out.net.empty());
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a returning node joins by difference, from what its disk has") {
  mesh_options o;
  o.rows.most_log = 4;
  auto& a = add(1, 1 << 20, "one", "a", "b", o);
  auto* b = &add(2, 1 << 20, "two", "b", "a", o);
  for (std::uint64_t n = 1; n <= 300; ++n)
    publish(a, "u" + std::to_string(n) + "@h/x", n);
  advance(1s);
  REQUIRE(b->rows.size() == 300);
  std::map<std::string, std::string> disk;
  for (auto w = b->mesh.take_writes(); !w.empty(); w = b->mesh.take_writes()) {
    for (const auto& c : w)
      if (const auto* p = std::get_if<storage::put>(&c))
        disk[p->key] = p->value;
    b->mesh.written_to_disk(true);
  }
  CHECK(disk.size() == 300);
  kill(*b);
  publish(a, "u1@h/new", 1'000); // meanwhile
  a.mesh.withdraw(session_row("u2@h/x", 2, 0), now, a.out);
  advance(3s);
  nodes.push_back(std::make_unique<node>(member{2, 2 << 20, "two", "b", 2}, ++processes, [&] { auto p = o; p.members.seeds = {"a"}; return p; }()));
  auto& back = *nodes.back();
  for (const auto& [key, value] : disk)
    CHECK(back.mesh.load({key, value, 1}));
  CHECK_FALSE(back.mesh.load({"rubbish", "x", 1}));
  CHECK_FALSE(back.rows.find(*jid("u5@h/x"))); // not before its owner is there
  back.mesh.start(now, back.out);
  settle();
  advance(2s);
  CHECK(sees(back, a));
  CHECK(back.rows.size() == 300);
  CHECK(back.rows.digest(number_of(back, a)) == a.rows.digest(self));
  CHECK(back.rows.find(*jid("u1@h/new")));
  CHECK_FALSE(back.rows.find(*jid("u2@h/x")));
  CHECK(back.mesh.rows().count().rows_synced < 20); // two buckets, not all
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: many rows come frame behind frame, and no tick is waited for") {
  constexpr std::uint64_t count = 5'000;
  auto& a = add(1, 1, "a", "a:1", "b:1");
  for (std::uint64_t k = 1; k <= count; ++k)
    a.mesh.publish(session_row("u" + std::to_string(k) + "@b/r", k, a.mesh.next_clock(base::wall_time{std::chrono::microseconds{k}})), now, a.out);
  settle();
  auto& b = add(2, 1, "b", "b:1", "a:1");
  settle_answers();
  CHECK(b.rows.session_count(number_of(b, a)) == count);
  CHECK(sees(b, a));
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: what differs unnoticed is found by digest and repaired") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  for (std::uint64_t n = 1; n <= 50; ++n)
    publish(a, "u" + std::to_string(n) + "@h/x", n);
  advance(1s);
  auto number = number_of(b, a);
  b.rows.remove(number, session_row("u7@h/x", 7, 0));        // as a fault would
  b.rows.put(number, session_row("ghost@h/x", 99, 5));
  CHECK(b.rows.digest(number) != a.rows.digest(self));
  advance(7s);
  CHECK(b.rows.digest(number) == a.rows.digest(self));
  CHECK(b.mesh.rows().count().divergences == 1);
  CHECK(b.rows.find(*jid("u7@h/x")));
  CHECK_FALSE(b.rows.find(*jid("ghost@h/x")));
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a link that only one side still has does not go on") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  advance(1s);
  CHECK(a.mesh.send(number_of(a, b), make_parcel(1), now, a.out) == base::room::ok);
  settle();
  REQUIRE(b.out.arrived.size() == 1);
  spoil = [&](node&, node&, std::string& bytes) {
    if (auto f = decode(bytes); f && f->greeting) {
      f->greeting->link = f->greeting->is_answer ? f->greeting->link : 77;
      bytes = encode(*f);
    }
  };
  auto w = wires.front();
  wires.clear();
  w.a->mesh.broken(w.at_a, now, w.a->out);
  w.b->mesh.broken(w.at_b, now, w.b->out);
  advance(2s);
  CHECK(sees(a, b));
  REQUIRE(a.out.returned.size() == 1); // its receiver has it, and cannot say so over another link
  CHECK(id_of(a.out.returned[0]) == "m1");
}

TEST_CASE_FIXTURE(wired_nodes, "mesh: a number is not free while there is a row or a link of its peer") {
  auto& a = add(1, 1 << 20, "one", "a", "b");
  auto& b = add(2, 1 << 20, "two", "b", "a");
  publish(b, "y@h/1", 2);
  advance(1s);
  auto n = number_of(a, b);
  CHECK_FALSE(a.mesh.rows().is_free(n));
  CHECK(a.mesh.link_to(n));
  kill(b);
  advance(2s);
  REQUIRE(peer_of(a, b)->state == peer_state::dead);
  CHECK(a.mesh.rows().is_free(n));
  CHECK_FALSE(a.mesh.link_to(n));
}
