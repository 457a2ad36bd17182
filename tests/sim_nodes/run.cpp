// One simulated run from its seed.
#include "tests/sim_nodes/run.hpp"
#include "base/metrics.hpp"
#include "storage/tables.hpp"
#include <algorithm>

namespace sim_nodes {

namespace {
std::size_t nodes_of(std::uint64_t seed) {
  sim::chance c{seed ^ 0x6e6f646573};
  auto n = c.below(100);
  return n < 70 ? 3 : n < 85 ? 4 : n < 95 ? 5 : 7;
}
} // namespace

run::run(std::uint64_t seed, bool traces)
  : world_(seed, traces), net_(world_, nodes_of(seed)), database_(world_, nodes_of(seed)), hosts_(nodes_of(seed)), seed_(seed), crashes_before_(crashes()) {
  auto& luck = world_.luck;
  options_.homes = 1 + luck.below(2);
  options_.window = std::chrono::seconds{8 + luck.below(20)};
  options_.ack_timeout = std::chrono::seconds{5 + luck.below(20)};
  constexpr duration idles[]{1ms, 1s, 20s};
  options_.entity_idle = idles[luck.below(3)];
  options_.is_small = luck.in(3);
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    hosts_[n].address = "n" + std::to_string(n);
}

run::~run() {
  for (auto& h : hosts_)
    for (auto& p : h.pipes)
      p->user = nullptr;
}

std::uint64_t run::crashes() {
  std::uint64_t all = 0;
  for (auto* reactor : {"0", "1"})
    all += static_cast<std::uint64_t>(base::metrics::make_counter("covey_actor_crashes_total", "Light actors that ended by an exception.", {{"reactor", reactor}}).value());
  return all;
}

void run::boot(std::size_t n) {
  auto& h = hosts_[n];
  if (h.running)
    return;
  if (h.folder.node == 0) // no disk, or a new one
    h.folder.node = (n + 1) << 55 | (world_.luck.number() >> 12);
  ++h.folder.boots;
  h.life = ++lives_;
  world_.trace("node%zu starts", n);
  std::vector<std::string> seeds;
  for (std::size_t other = 0; other < hosts_.size(); ++other)
    if (other != n)
      seeds.push_back(hosts_[other].address);
  h.running = std::make_unique<server>(surroundings{world_, net_, database_, seen_}, n, h.address, std::move(seeds), h.folder, seed_ * 1'000 + lives_, options_);
}

void run::end_process(std::size_t n, bool resets) {
  auto& h = hosts_[n];
  h.running->kill(resets);
  h.running.reset();
  for (auto& m : seen_.messages) // what it had heard is gone with it
    for (auto& c : m.copies)
      if (c.node == n)
        c.is_heard = false;
  seen_.lost(world_);
  for (auto& p : std::exchange(h.pipes, {}))
    world_.after(resets ? world_.luck.between(1ms, 300ms) : world_.luck.between(3s, 10s), [p] {
      if (p->user && !p->is_cut)
        p->user->on_gone(p->stream);
    });
}

void run::kill(std::size_t n, bool is_power_loss) {
  if (!at(n))
    return;
  ++seen_.kills;
  world_.trace("node%zu %s", n, is_power_loss ? "loses power" : "is killed");
  end_process(n, !is_power_loss);
}

void run::make_accounts() {
  auto accounts = 3 + world_.luck.below(4);
  contacts_.resize(accounts);
  std::vector<storage::batch> all(1);
  auto jid = [](std::size_t a) { return xmpp::parse_jid("user" + std::to_string(a) + '@' + domain).value(); };
  for (std::size_t a = 0; a < accounts; ++a) {
    all[0].changes.emplace_back(storage::put{storage::tables::account_key(*jid(a)), storage::tables::encode(storage::tables::account{})});
    for (std::size_t b = 0; b < a; ++b)
      if (world_.luck.percent(70)) {
        contacts_[a].insert(b);
        contacts_[b].insert(a);
        storage::tables::roster_row both;
        both.item.state.to = both.item.state.from = true;
        both.item.contact = jid(b);
        all[0].changes.emplace_back(storage::put{storage::tables::roster_key(*jid(a), *jid(b)), storage::tables::encode(both)});
        both.item.contact = jid(a);
        all[0].changes.emplace_back(storage::put{storage::tables::roster_key(*jid(b), *jid(a)), storage::tables::encode(both)});
      }
  }
  (void)database_.engine.commit(all);
}

void run::make_clients() {
  auto& luck = world_.luck;
  for (std::size_t a = 0; a < contacts_.size(); ++a)
    for (std::size_t d = luck.percent(35) ? 2 : 1; d > 0; --d) {
      client::identity who;
      who.number = clients_.size();
      who.account = a;
      who.resource = "r" + std::to_string(d);
      who.wants_copies = luck.in(3);
      who.has_origin_ids = !luck.in(8);
      who.ack_delay = luck.in(4) ? luck.between(100ms, 2s) : luck.between(0ms, 20ms);
      who.slow = luck.in(8) ? 200 + luck.below(2'000) : 0;
      clients_.push_back(std::make_unique<client>(world_, seen_, *this, luck, who));
      world_.after(luck.between(500ms, 6s), [this, n = who.number] { clients_[n]->come(); });
      chat(who.number);
    }
}

void run::chat(std::size_t c) {
  auto& luck = world_.luck;
  world_.after(luck.in(4) ? luck.between(1ms, 20ms) : luck.between(50ms, 3s), [this, c] {
    if (!talks_)
      return;
    auto& l = world_.luck;
    auto& me = *clients_[c];
    auto& friends = contacts_[me.who().account];
    if (!friends.empty()) {
      auto account = *std::next(friends.begin(), static_cast<std::ptrdiff_t>(l.below(friends.size())));
      auto to = "user" + std::to_string(account) + '@' + domain;
      if (l.in(3)) // a device that is there, or that was
        to += l.in(2) ? "/r1" : "/r2";
      for (auto n = l.in(6) ? 1 + l.below(8) : 1; n > 0; --n)
        me.say(to, account);
    }
    chat(c);
  });
}

void run::announce() {
  world_.after(world_.luck.between(1s, 6s), [this] {
    if (!talks_)
      return;
    clients_[0]->announce();
    announce();
  });
}

// --- client_world

pipe_ref run::connect(std::size_t client, stream_id stream, pipe_user& user) {
  auto& luck = world_.luck;
  auto n = random_node();
  auto* s = at(n);
  if (!s || !s->takes_clients() || (s->is_paused() && luck.in(2))) // refused, or a load balancer knows
    return nullptr;
  auto p = std::make_shared<pipe>();
  p->stream = stream;
  p->client = client;
  p->node = n;
  p->life = hosts_[n].life;
  p->user = &user;
  p->delay = luck.in(6) ? luck.between(20ms, 300ms) : 2ms;
  p->slow = clients_[client]->who().slow;
  auto& all = hosts_[n].pipes;
  std::erase_if(all, [](auto& old) { return !old->user && !old->socket; });
  all.push_back(p);
  p->last_up = world_.now() + luck.between(p->delay / 10, p->delay);
  world_.at(p->last_up, [this, p] {
    if (auto* there = server_of(*p))
      there->accept(p);
  });
  if (p->slow)
    read_a_little(p);
  return p;
}

/// Whoever reads slowly reads a little now and then.
void run::read_a_little(const pipe_ref& p) {
  world_.after(world_.luck.between(5ms, 200ms), [this, p] {
    auto* there = server_of(*p);
    if (!there || !p->user)
      return;
    there->take_writes(p, p->slow);
    read_a_little(p);
  });
}

void run::send(const pipe_ref& p, std::string bytes, std::function<void(std::size_t node)> when_read) {
  p->last_up = std::max(p->last_up + 1ns, world_.now() + world_.luck.between(p->delay / 10, p->delay));
  world_.at(p->last_up, [this, p, bytes = std::move(bytes), when_read = std::move(when_read)]() mutable {
    auto* there = server_of(*p);
    if (!there || p->is_cut)
      return;
    seen_.note(world_, bytes);
    there->take(p, std::move(bytes), [p, f = std::move(when_read)] {
      if (f)
        f(p->node);
    });
  });
}

void run::hang_up(const pipe_ref& p, bool is_silent) {
  if (is_silent) {
    p->is_cut = true;
    return world_.after(world_.luck.between(3s, 25s), [this, p] { // the kernel asks, and has no answer
      if (auto* there = server_of(*p))
        there->on_far_end_gone(p, true);
    });
  }
  p->last_up = std::max(p->last_up + 1ns, world_.now() + world_.luck.between(p->delay / 10, p->delay));
  world_.at(p->last_up, [this, p, is_reset = world_.luck.in(2)] {
    if (auto* there = server_of(*p); there && !p->is_cut)
      there->on_far_end_gone(p, is_reset);
  });
}

// --- the course of it

report run::go() {
  make_accounts();
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    world_.after(world_.luck.between(0ms, 1500ms), [this, n] { boot(n); });
  make_clients();
  announce();
  faults_end_ = world_.now() + 10s + world_.luck.between(5s, 40s);
  world_.at(time_point{} + 8s, [this] { plan_faults(); });
  world_.at(faults_end_, [this] { heal(); });
  world_.at(faults_end_ + 4s, [this] { talks_ = false; });
  auto settled = faults_end_ + 4s + 25s + options_.window + 15s;
  world_.at(settled, [this] {
    check_settled();
    for (auto& c : clients_) { // everybody comes once more: what is stored is claimed at the latest then
      c->leave();
      world_.after(1s + world_.luck.between(1s, 3s), [&one = *c] { one.come(); });
    }
  });
  auto last = settled + 15s;
  world_.at(last, [this] {
    check_sessions();
    check_tables();
    check_presence();
    for (auto& c : clients_)
      c->leave();
  });
  auto end = last + 2s + options_.window + options_.ack_timeout + options_.entity_idle + 20s;
  watch();
  world_.run_until(end);
  check_messages();
  check_order();
  check_announcements();
  check_nothing_is_left();
  report r;
  r.seed = seed_;
  r.nodes = hosts_.size();
  r.clients = clients_.size();
  r.frames = net_.frames;
  r.events = world_.events();
  r.virtual_time = end - time_point{};
  r.seen = std::move(seen_);
  return r;
}

} // namespace sim_nodes
