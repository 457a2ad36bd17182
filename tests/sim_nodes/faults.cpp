// What goes wrong in a run, and how it is healed.
#include "tests/sim_nodes/run.hpp"
#include "tests/sim/cuts.hpp"

namespace sim_nodes {

void run::plan_faults() {
  constexpr duration pauses[]{400ms, 1500ms, 4s, 8s}; // calm runs find what storms hide
  fault_pause_ = pauses[world_.luck.below(4)];
  if (is_about_links())
    fault_pause_ = pauses[0];
  if (world_.luck.in(6))
    database_.unknown_percent = 1 + static_cast<unsigned>(world_.luck.below(10));
  if (!world_.luck.in(12))
    one_fault();
}

void run::one_fault() {
  if (is_healed_ || world_.now() >= faults_end_)
    return;
  auto& luck = world_.luck;
  world_.after(luck.between(fault_pause_ / 4, fault_pause_ * 2), [this] { one_fault(); });
  auto n = random_node(), m = (n + 1 + luck.below(hosts_.size() - 1)) % hosts_.size();
  auto& h = hosts_[n];
  constexpr int of_links[]{15, 31, 31, 31, 31, 15, 31, 13}; // mostly clients in trouble and slow paths
  switch (is_about_links() ? of_links[luck.below(8)] : static_cast<int>(luck.below(32))) {
  case 0: case 1: case 2: // kill -9, perhaps with a new disk or address
    kill(n, false);
    if (luck.in(6))
      h.folder = {};
    if (luck.in(8))
      h.address = "n" + std::to_string(n) + "-" + std::to_string(luck.below(1'000));
    world_.after(luck.in(3) ? luck.between(10ms, 800ms) : luck.between(1s, 15s), [this, n] { boot(n); });
    break;
  case 3: // the power goes
    kill(n, true);
    world_.after(luck.between(2s, 20s), [this, n] { boot(n); });
    break;
  case 4: case 5: case 6: { // SIGSTOP
    if (!h.running || h.running->is_paused())
      break;
    ++seen_.pauses;
    h.running->pause();
    auto length = luck.in(3) ? luck.between(10ms, 3s) : luck.in(2) ? luck.between(7s, 13s) : luck.between(3s, 20s);
    world_.after(length, [this, n, life = h.life] {
      if (at(n) && hosts_[n].life == life && at(n)->is_paused())
        at(n)->go_on();
    });
    break;
  }
  case 7: case 8: case 9:
    split();
    break;
  case 10: case 11: case 12:
    world_.trace("flapping between node%zu and node%zu", n, m);
    sim::flap(world_, net_, is_healed_, n, m, 1 + static_cast<int>(luck.below(10)));
    break;
  case 13: case 14:
    world_.trace("connections of node%zu and node%zu are reset", n, m);
    net_.reset(n, m);
    break;
  case 15: case 16: { // a slow path
    auto longest = luck.between(20ms, 1s);
    world_.trace("node%zu to node%zu is slow", n, m);
    net_.set_delay(n, m, longest / 10, longest);
    world_.after(luck.between(1s, 10s), [this, n, m] { net_.set_delay(n, m, 200us, 1ms); });
    break;
  }
  case 17: // wall clocks jump
    if (h.running) {
      world_.trace("node%zu: the wall clock jumps", n);
      h.running->jump_wall(luck.between(-3600s, 3600s));
    }
    break;
  case 18: case 19: // the database, for all or for one; and it is slow
    if (luck.in(2)) {
      world_.trace("the database is away");
      database_.is_down = true;
      world_.after(luck.between(500ms, 12s), [this] { database_.is_down = false; });
    } else {
      world_.trace("node%zu does not reach the database", n);
      database_.cut_off[n] = true;
      world_.after(luck.between(500ms, 14s), [this, n] { database_.cut_off[n] = false; });
    }
    database_.slowest = luck.in(2) ? 3ms : luck.between(50ms, 3s);
    break;
  case 20: case 21: // SIGTERM, and back
    if (!h.running || h.running->is_paused() || !h.running->takes_clients())
      break;
    ++seen_.stops;
    h.running->stop([this, n, life = h.life] {
      if (!at(n) || hosts_[n].life != life)
        return;
      world_.trace("node%zu has stopped", n);
      end_process(n, true);
      world_.after(world_.luck.between(100ms, 5s), [this, n] { boot(n); });
    });
    break;
  case 22: // drain, and then either end
    if (!h.running || h.running->is_paused() || !h.running->takes_clients())
      break;
    h.running->drain();
    world_.after(luck.between(1s, 5s), [this, n, life = h.life] {
      if (!at(n) || hosts_[n].life != life)
        return;
      kill(n, false);
      world_.after(world_.luck.between(100ms, 5s), [this, n] { boot(n); });
    });
    break;
  default:
    trouble_a_client();
  }
}

void run::trouble_a_client() {
  auto& luck = world_.luck;
  auto& c = *clients_[luck.below(clients_.size())];
  switch (luck.below(8)) {
    case 0: return c.restart();
    case 1: {
      c.leave();
      return world_.after(luck.between(100ms, 10s), [&c] { c.come(); });
    }
    case 2: return c.be_deaf(luck.between(300ms, 6s));
    default: return c.lose(luck.in(3));
  }
}

/// Two groups; one way between two groups; one pair; one way of one pair; or one node, from everybody.
void run::split() {
  auto& luck = world_.luck;
  ++seen_.splits;
  auto kind = luck.below(5);
  auto length = luck.in(3) ? luck.between(5ms, 2s) : luck.between(2s, 20s);
  std::vector<bool> left(hosts_.size());
  for (std::size_t n = 0; n < left.size(); ++n)
    left[n] = luck.in(2);
  auto a = random_node(), b = (a + 1 + luck.below(hosts_.size() - 1)) % hosts_.size();
  constexpr const char* names[]{"in two", "one way", "of a pair", "of a pair, one way", "of one node"};
  world_.trace("split %s, around node%zu and node%zu, for %.3f s", names[kind], a, b, std::chrono::duration<double>(length).count());
  sim::ways cut;
  for (std::size_t n = 0; n < left.size(); ++n)
    for (std::size_t m = 0; m < left.size(); ++m) {
      bool is_pair = n == a && m == b;
      bool is = kind == 0   ? left[n] != left[m]
                : kind == 1 ? left[n] && !left[m]
                : kind == 2 ? is_pair || (n == b && m == a)
                : kind == 3 ? is_pair
                            : n == a || m == a;
      if (n != m && is)
        cut.emplace_back(n, m);
    }
  sim::cut_for(world_, net_, is_healed_, std::move(cut), length);
}

/// Everything works again. What does not mend by itself from now on is a fault of ours.
void run::heal() {
  world_.trace("all is healed");
  is_healed_ = true;
  net_.heal();
  database_.is_down = false;
  database_.unknown_percent = 0;
  database_.slowest = 3ms;
  database_.cut_off.assign(database_.cut_off.size(), false);
  for (std::size_t n = 0; n < hosts_.size(); ++n) {
    if (at(n) && at(n)->is_paused())
      at(n)->go_on();
    world_.after(world_.luck.between(0ms, 2s), [this, n] { boot(n); });
  }
}

} // namespace sim_nodes
