// One simulated run from its seed.
#include "tests/sim/run.hpp"

namespace sim {

namespace {
std::size_t nodes_of(std::uint64_t seed) {
  chance c{seed ^ 0x6e6f646573};
  auto n = c.below(100);
  return n < 8 ? 2 : n < 70 ? 3 : n < 90 ? 5 : n < 98 ? 7 : 15;
}
} // namespace

run::run(std::uint64_t seed, bool traces)
  : world_(seed, traces), net_(world_, nodes_of(seed)), database_(world_), hosts_(nodes_of(seed)), seed_(seed) {
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    hosts_[n].address = "n" + std::to_string(n);
}

std::vector<std::string> run::seeds_for(std::size_t n) const {
  // Two that everybody is told of, and each also its neighbour: the graph of seeds hangs together. Names, not addresses.
  return {"host0", "host1", "host" + std::to_string((n + 1) % hosts_.size())};
}

void run::boot(std::size_t n) {
  auto& h = hosts_[n];
  if (h.running)
    return;
  if (h.folder.node == 0) // no disk, or a new one
    h.folder.node = world_.luck.number() | 1;
  ++h.folder.boots;
  h.life = ++lives_;
  world_.trace("node%zu starts as %llx at %s", n, static_cast<unsigned long long>(h.folder.node), h.address.c_str());
  h.running = std::make_unique<sim::process>(surroundings{world_, net_, database_, seen_, *this}, n, h.address, seeds_for(n), h.folder, seed_ * 1'000 + lives_);
  net_.plug(n, h.running.get(), h.address);
  h.running->start();
}

void run::crash(std::size_t n, bool is_power_loss) {
  auto& h = hosts_[n];
  if (!h.running)
    return;
  ++seen_.crashes;
  seen_.losses.push_back(world_.now());
  world_.trace("node%zu %s", n, is_power_loss ? "loses power" : "is killed");
  auto life = h.life;
  for (auto& m : seen_.messages) // what it had heard is gone with it
    for (auto& c : m.copies)
      if (c.node == n && c.ack_arrived)
        c.ack_arrived = false;
  net_.unplug(n, !is_power_loss);
  h.running.reset();
  for (std::size_t c = 0; c < clients_.size(); ++c)
    if (clients_[c].stream && clients_[c].node == n && clients_[c].life == life) {
      auto stream = clients_[c].stream;
      world_.after(is_power_loss ? world_.luck.between(3s, 10s) : world_.luck.between(1ms, 500ms), [this, c, stream] {
        if (clients_[c].stream == stream)
          disconnect(c, false);
      });
    }
}

report run::go() {
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    world_.after(world_.luck.between(0ms, 1500ms), [this, n] { boot(n); });
  make_clients();
  faults_end_ = world_.now() + 10s + world_.luck.between(10s, 40s);
  chat_end_ = faults_end_ + 4s;
  end_ = faults_end_ + 60s;
  world_.at(time_point{} + 8s, [this] { plan_faults(); });
  world_.at(faults_end_, [this] { heal(); });
  world_.at(chat_end_, [this] { talks_ = false; });
  world_.at(end_ - 22s, [this] { // everybody comes once more: what is stored is claimed at the latest then
    check_outcomes();
    for (std::size_t c = 0; c < clients_.size(); ++c)
      disconnect(c, true);
  });
  watch_owners();
  world_.run_until(end_);
  check();
  report r;
  r.seed = seed_;
  r.nodes = hosts_.size();
  r.messages = seen_.messages.size() - 1;
  for (const auto& m : seen_.messages) {
    r.acknowledged += m.is_acknowledged;
    r.copies += m.copies.size();
  }
  r.frames = net_.frames;
  r.bytes = net_.bytes;
  r.events = world_.events();
  r.virtual_time = end_ - time_point{};
  r.violations = seen_.violations;
  r.seen = std::move(seen_);
  return r;
}

} // namespace sim
