// What goes wrong in a run, and how it is healed.
#include "tests/sim/cuts.hpp"
#include "tests/sim/run.hpp"

namespace sim {

void run::plan_faults() {
  // Calm runs find what storms hide.
  constexpr duration pauses[]{400ms, 1500ms, 4s, 8s};
  fault_pause_ = pauses[world_.luck.below(4)];
  if (world_.luck.in(4))
    net_.duplicates_percent = 1 + static_cast<unsigned>(world_.luck.below(10));
  if (world_.luck.in(4))
    database_.unknown_percent = 1 + static_cast<unsigned>(world_.luck.below(20));
  if (!world_.luck.in(12))
    one_fault();
}

void run::one_fault() {
  if (world_.now() >= faults_end_)
    return;
  world_.after(world_.luck.between(fault_pause_ / 4, fault_pause_ * 2), [this] { one_fault(); });
  auto& luck = world_.luck;
  auto n = random_node(), m = (n + 1 + luck.below(hosts_.size() - 1)) % hosts_.size();
  auto& h = hosts_[n];
  switch (luck.below(25)) {
  case 0: case 1: case 2: // kill -9, perhaps with a new disk or address
    crash(n, false);
    if (luck.in(5))
      h.folder = {};
    if (luck.in(6))
      h.address = "n" + std::to_string(n) + "-" + std::to_string(luck.below(1'000));
    world_.after(luck.in(3) ? luck.between(10ms, 800ms) : luck.between(1s, 20s), [this, n] { boot(n); });
    break;
  case 3: // the power goes
    crash(n, true);
    world_.after(luck.between(2s, 20s), [this, n] { boot(n); });
    break;
  case 4: case 5: case 6: { // SIGSTOP
    if (!h.running || h.running->is_paused())
      break;
    h.running->pause();
    auto length = luck.in(3) ? luck.between(10ms, 3s) : luck.in(2) ? luck.between(7s, 13s) : luck.between(3s, 30s);
    world_.after(length, [this, n, life = h.life] {
      if (hosts_[n].running && hosts_[n].life == life && hosts_[n].running->is_paused())
        hosts_[n].running->go_on();
    });
    break;
  }
  case 7: case 8: case 9: case 10:
    split(luck.below(4), luck.in(3) ? luck.between(5ms, 2s) : luck.between(2s, 25s));
    break;
  case 11: case 12:
    flap(world_, net_, is_healed_, n, m, 1 + static_cast<int>(luck.below(10)));
    break;
  case 13: case 14:
    world_.trace("connections of node%zu and node%zu are reset", n, m);
    net_.reset(n, m);
    break;
  case 15: { // a slow path
    auto longest = luck.between(20ms, 1s);
    world_.trace("node%zu to node%zu is slow", n, m);
    net_.set_delay(n, m, longest / 10, longest);
    world_.after(luck.between(1s, 10s), [this, n, m] { net_.set_delay(n, m, 200us, 1ms); });
    break;
  }
  case 16: // wall clocks jump
    if (h.running) {
      auto by = luck.between(-3600s, 3600s);
      world_.trace("node%zu: the wall clock jumps", n);
      h.running->jump_wall(by);
    }
    break;
  case 17: // a disk is slow, or full
    h.folder.latency = luck.between(10ms, 3s);
    h.folder.is_full = luck.in(2);
    world_.after(luck.between(2s, 15s), [this, n] {
      hosts_[n].folder.latency = 1ms;
      hosts_[n].folder.is_full = false;
    });
    break;
  case 18: // the database, for all or for one
    if (luck.in(2)) {
      world_.trace("the database is away");
      database_.is_down = true;
      world_.after(luck.between(500ms, 12s), [this] { database_.is_down = false; });
    } else {
      world_.trace("node%zu does not reach the database", n);
      database_.cut_off[n] = true;
      world_.after(luck.between(500ms, 12s), [this, n] { database_.cut_off[n] = false; });
    }
    database_.slowest = luck.in(2) ? 3ms : luck.between(50ms, 2s);
    break;
  case 19: // leave and come back
    if (h.running && !h.running->is_paused() && h.running->takes_clients()) {
      h.running->leave();
      world_.after(200ms, [this, n, life = h.life] {
        if (hosts_[n].running && hosts_[n].life == life)
          crash(n, false);
      });
      world_.after(luck.between(1s, 8s), [this, n] { boot(n); });
    }
    break;
  case 20: // drain, then kill
    if (h.running && !h.running->is_paused()) {
      h.running->drain();
      world_.after(luck.between(1s, 5s), [this, n, life = h.life] {
        if (hosts_[n].running && hosts_[n].life == life)
          crash(n, false);
      });
      world_.after(luck.between(6s, 8s), [this, n] { boot(n); });
    }
    break;
  case 21: // one node alone does not reach the database: its leases run out
    world_.trace("node%zu does not reach the database", n);
    database_.cut_off[n] = true;
    world_.after(luck.between(3s, 14s), [this, n] { database_.cut_off[n] = false; });
    break;
  default: { // a client loses its stream; its server may not hear of it
    if (clients_.empty())
      break;
    disconnect(luck.below(clients_.size()), !luck.in(3));
  }
  }
}

/// 0: two groups. 1: one way between two groups. 2: one pair. 3: one node, from everybody.
void run::split(std::size_t kind, duration length) {
  auto& luck = world_.luck;
  std::vector<bool> left(hosts_.size());
  for (std::size_t n = 0; n < left.size(); ++n)
    left[n] = luck.in(2);
  auto a = random_node(), b = (a + 1 + luck.below(hosts_.size() - 1)) % hosts_.size();
  constexpr const char* names[]{"in two", "one way", "of a pair", "of one node"};
  world_.trace("split %s, around node%zu and node%zu, for %.3f s", names[kind], a, b, std::chrono::duration<double>(length).count());
  ways cut;
  for (std::size_t n = 0; n < left.size(); ++n)
    for (std::size_t m = 0; m < left.size(); ++m)
      if (n != m && (kind == 0 ? left[n] != left[m] : kind == 1 ? left[n] && !left[m] : kind == 2 ? (n == a && m == b) || (n == b && m == a) : n == a || m == a))
        cut.emplace_back(n, m);
  cut_for(world_, net_, is_healed_, std::move(cut), length);
}

/// Everything works again. What does not mend by itself from now on is a fault of ours.
void run::heal() {
  world_.trace("all is healed");
  is_healed_ = true;
  net_.heal();
  net_.duplicates_percent = 0;
  database_.is_down = false;
  database_.unknown_percent = 0;
  database_.slowest = 3ms;
  database_.cut_off.assign(database_.cut_off.size(), false);
  for (std::size_t n = 0; n < hosts_.size(); ++n) {
    hosts_[n].folder.latency = 1ms;
    hosts_[n].folder.is_full = false;
    if (at(n) && at(n)->is_paused())
      at(n)->go_on();
    world_.after(world_.luck.between(0ms, 2s), [this, n] { boot(n); });
    world_.after(9s, [this, n] { boot(n); }); // one that was about to be killed
  }
}

} // namespace sim
