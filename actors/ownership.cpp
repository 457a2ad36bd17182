// Leases on real stores: names from the hosts, answers through the thread of the peers.
#include "actors/ownership.hpp"
#include "actors/at_entity.hpp"
#include "base/log.hpp"
#include <algorithm>
#include <mutex>

namespace actors {

ownership::ownership(node& around, cluster::node_id me, cluster::life own, surroundings s)
  : around_(around), me_(me), life_(own), at_(std::move(s)) {}

namespace {
std::vector<xmpp::jid_ref> services_of(const host& h) {
  std::vector<xmpp::jid_ref> all;
  for (auto& [local, make] : h.view.entities)
    all.push_back(local.empty() ? h.view.domain : xmpp::parse_jid(local + '@' + std::string{h.view.domain->domain()}).value());
  return all;
}
} // namespace

std::vector<xmpp::jid_ref> ownership::services_of(const node& around) {
  std::vector<xmpp::jid_ref> all;
  for (auto& h : around.hosts())
    if (h->is_shared)
      for (auto& name : actors::services_of(*h))
        all.push_back(name);
  return all;
}

std::shared_ptr<ownership::group> ownership::group_of(storage::store* s) {
  auto i = std::ranges::find(groups_, s, [](auto& g) { return g->in; });
  if (i != groups_.end())
    return *i;
  return groups_.emplace_back(new group{s, {me_, life_, around_.random()}, {}, {}});
}

void ownership::tick(base::time_point now) {
  if (is_over_)
    return;
  std::map<group*, std::set<std::string>> wanted;
  for (auto& h : around_.hosts()) {
    if (!h->is_shared)
      continue;
    auto g = group_of(h->store);
    for (auto& name : actors::services_of(*h))
      if (at_.is_proposed(*name))
        wanted[g.get()].emplace(name->bare());
  }
  for (auto& g : groups_) {
    cluster::lease_effects out;
    auto& now_wanted = wanted[g.get()];
    for (auto& name : g->wanted)
      if (!now_wanted.contains(name))
        g->machine.release(name, now, out);
    for (auto& name : now_wanted)
      if (!g->wanted.contains(name) && !g->machine.claim(name, now))
        base::log::warning("cluster.too_many_names", "more names to own than one node takes", {{"name", name}});
    g->machine.tick(now, out);
    carry(g, std::move(out));
    g->wanted = std::move(now_wanted);
  }
}

void ownership::release_all(base::time_point now) {
  is_over_ = true;
  for (auto& g : groups_) {
    cluster::lease_effects out;
    g->machine.release_all(now, out);
    carry(g, std::move(out));
  }
}

void ownership::process_gone(cluster::node_id node, cluster::life of) {
  for (auto& g : groups_)
    g->machine.process_gone(node, of);
}

void ownership::reborn(cluster::life own, base::time_point now) {
  life_ = own;
  for (auto& g : groups_) {
    cluster::lease_effects out;
    g->machine.reborn(own, now, out);
    carry(g, std::move(out));
  }
}

void ownership::carry(const std::shared_ptr<group>& g, cluster::lease_effects&& todo) {
  for (auto& name : todo.ended)
    end(name);
  for (auto& name : todo.gained)
    begin(g, name);
  for (auto& name : todo.paused)
    pause(name, true);
  for (auto& name : todo.resumed)
    pause(name, false);
  g->valid_until.store(g->machine.valid_until().time_since_epoch().count(), std::memory_order_release); // behind what paused
  for (auto& r : todo.reads)
    g->in->get(r.key, [this, g, op = r.op](auto row) {
      at_.post([this, g, op, row = std::move(row)](base::time_point then) {
        cluster::lease_effects out;
        g->machine.on_read(op, row, then, out);
        carry(g, std::move(out));
      });
    });
  for (auto& c : todo.commits)
    g->in->submit(std::move(c.what), [this, g, op = c.op](storage::outcome how) {
      at_.post([this, g, op, how](base::time_point then) {
        cluster::lease_effects out;
        g->machine.on_commit(op, how, then, out);
        carry(g, std::move(out));
      });
    });
}

void ownership::begin(const std::shared_ptr<group>& g, const std::string& name) {
  auto jid = xmpp::parse_jid(name).value();
  auto epoch = g->machine.epoch(name);
  {
    std::lock_guard guard{mutex_};
    owned_[name] = {g, jid, {cluster::ownership_key(name), g->machine.version(name)}, epoch};
  }
  base::log::info("cluster.owned", "this node has a service of the cluster now", {{"name", name}, {"epoch", std::to_string(epoch)}});
  at_.show(jid, epoch, true);
}

void ownership::pause(const std::string& name, bool is) {
  std::lock_guard guard{mutex_};
  if (auto i = owned_.find(name); i != owned_.end())
    i->second.is_paused = is;
}

/// What its entity knows is another's from now on.
void ownership::end(const std::string& name) {
  owned before;
  {
    std::lock_guard guard{mutex_};
    auto i = owned_.find(name);
    if (i == owned_.end())
      return;
    before = std::move(i->second);
    owned_.erase(i);
  }
  base::log::info("cluster.not_owned", "this node has a service of the cluster no more", {{"name", name}});
  at_.show(before.name, before.epoch, false);
  at_entity(around_, *before.name, [](entity& e) { e.start_again(); });
}

std::optional<storage::precondition> ownership::fence(const xmpp::jid& name) const {
  std::shared_lock guard{mutex_};
  auto i = owned_.find(name.bare());
  if (i == owned_.end() || i->second.is_paused
      || at_.now().time_since_epoch().count() >= i->second.by->valid_until.load(std::memory_order_acquire))
    return std::nullopt;
  return i->second.fence;
}

std::size_t ownership::count() const {
  std::shared_lock guard{mutex_};
  return owned_.size();
}

} // namespace actors
