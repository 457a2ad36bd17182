// Whole machines of nodes, over connections that the test makes and breaks by hand.
#pragma once
#include "tests/cluster/made.hpp"
#include <algorithm>
#include <map>

namespace cluster_tests {

using namespace cluster;

/// Nodes that hear each other at once, unless the test says otherwise.
struct wired_nodes {
  struct node {
    member who;
    base::seeded_random luck;
    table rows;
    cluster::mesh mesh;
    effects out;
    bool is_running = true;
    connection last_accepted = 0;
    node(member m, std::uint64_t process, const mesh_options& o) : who(m), luck(process), mesh(m, process, o, rows, luck) {}
  };
  struct wire { node *a, *b; connection at_a, at_b; };

  base::time_point now{1'000s};
  std::vector<std::unique_ptr<node>> nodes;
  std::vector<wire> wires;
  std::map<std::pair<node*, node*>, bool> cut; // nothing gets through, and nobody is told
  std::uint64_t processes = 0;
  std::function<void(node& from, node& to, std::string& bytes)> spoil;

  node& add(node_id id, life of, const std::string& name, const std::string& address, const std::string& seed, mesh_options o = {}) {
    o.members.seeds = {seed};
    nodes.push_back(std::make_unique<node>(member{id, of, name, address, 2}, ++processes, o));
    auto& n = *nodes.back();
    n.mesh.start(now, n.out);
    settle();
    return n;
  }
  node* at(const std::string& address) {
    for (auto& n : nodes)
      if (n->is_running && n->who.address == address)
        return n.get();
    return nullptr;
  }
  void step(node& n, const std::function<void(effects&)>& f) {
    f(n.out);
  }
  /// The same, and behind the time for which answers wait, and what nobody waits for.
  void settle_answers() {
    settle();
    now += pace_options{}.totals;
    settle();
  }
  /// Until nobody has anything to say.
  void settle() {
    for (bool again = true; again;) {
      again = false;
      for (std::size_t i = 0; i < nodes.size(); ++i) {
        auto& n = *nodes[i];
        if (n.is_running) {
          for (auto c : n.mesh.waiting_for_writes()) // at once; and said only to whoever asks, as the shell does
            n.mesh.written(c, now, n.out);
          n.mesh.flush(now, n.out);
        }
        auto net = std::exchange(n.out.net, {});
        again = again || !net.empty();
        for (auto& e : net)
          std::visit([&](auto& one) { carry(n, one); }, e);
      }
    }
  }
  void carry(node& n, effects::dial& d) {
    auto* to = at(d.address);
    if (!n.is_running)
      return;
    if (to && (cut[{&n, to}] || cut[{to, &n}]))
      return; // the machine's own limit ends it
    if (!to)
      return n.mesh.dial_failed(d.c, true, now, n.out);
    wires.push_back({&n, to, d.c, ++to->last_accepted});
    to->mesh.accepted(to->last_accepted, now, to->out);
    n.mesh.dialled(d.c, now, n.out);
  }
  void carry(node& n, effects::write& w) {
    for (auto& l : std::vector(wires)) {
      auto [other, theirs] = l.a == &n && l.at_a == w.c ? std::pair{l.b, l.at_b} : l.b == &n && l.at_b == w.c ? std::pair{l.a, l.at_a} : std::pair<node*, connection>{};
      if (!other)
        continue;
      if (cut[{&n, other}] || !other->is_running)
        return;
      if (spoil)
        spoil(n, *other, w.bytes);
      other->mesh.received(theirs, w.bytes, now, other->out);
    }
  }
  void carry(node& n, effects::close& c) {
    for (auto i = wires.begin(); i != wires.end(); ++i) {
      auto [other, theirs] = i->a == &n && i->at_a == c.c ? std::pair{i->b, i->at_b} : i->b == &n && i->at_b == c.c ? std::pair{i->a, i->at_a} : std::pair<node*, connection>{};
      if (!other)
        continue;
      wires.erase(i);
      if (other->is_running && !cut[{&n, other}])
        other->mesh.broken(theirs, now, other->out);
      return;
    }
  }
  void advance(base::duration d) {
    for (auto end = now + d; now < end;) {
      now += 250ms;
      for (auto& n : nodes)
        if (n->is_running)
          n->mesh.tick(now, n->out);
      settle();
    }
  }
  void kill(node& n) {
    n.is_running = false;
    n.out.net.clear();
    for (auto i = wires.begin(); i != wires.end();) {
      auto w = *i;
      if (w.a != &n && w.b != &n) {
        ++i;
        continue;
      }
      i = wires.erase(i);
      auto* other = w.a == &n ? w.b : w.a;
      other->mesh.broken(w.a == &n ? w.at_b : w.at_a, now, other->out);
    }
    settle();
  }
  static const membership::peer* peer_of(const node& n, const node& other) {
    for (const auto& p : n.mesh.members().peers())
      if (p.who.node == other.who.node)
        return &p;
    return nullptr;
  }
  static peer_number number_of(const node& n, const node& other) {
    const auto& all = n.mesh.members().peers();
    for (std::size_t i = 1; i < all.size(); ++i)
      if (all[i].who.node == other.who.node)
        return static_cast<peer_number>(i);
    return self;
  }
  static bool sees(const node& n, const node& other) {
    const auto* p = peer_of(n, other);
    return p && p->state == peer_state::alive && p->established && n.mesh.rows().is_synced(number_of(n, other));
  }
  static bool was_refused(const node& n, refusal why) {
    return std::any_of(n.out.refused.begin(), n.out.refused.end(), [&](auto& r) { return r.why == why; });
  }
  void publish(node& n, std::string_view full, std::uint64_t session) {
    n.mesh.publish(session_row(full, session, n.mesh.next_clock(base::wall_time{std::chrono::microseconds{session}})), now, n.out);
    settle();
  }
};

} // namespace cluster_tests
