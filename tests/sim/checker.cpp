// The checker: what a run promised, judged by its history and by what is left at the end.
#include "tests/sim/run.hpp"
#include <algorithm>
#include <cstring>

namespace sim {

void run::check() {
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    if (!at(n))
      seen_.violate(world_, "node%zu does not run at the end", n);
  check_messages();
  check_order();
  check_sessions();
  check_tables();
  check_leases();
}

/// A life ended or two nodes lost each other: what was acknowledged there may not have been heard of.
bool run::lost_something(time_point from, time_point to) const {
  return std::any_of(seen_.losses.begin(), seen_.losses.end(), [&](auto t) { return t >= from && t <= to; });
}

void run::check_messages() {
  for (const auto& m : seen_.messages) {
    if (m.number == 0)
      continue;
    auto number = static_cast<unsigned long long>(m.number);
    if (m.is_acknowledged && !m.is_bounced && m.copies.empty())
      seen_.violate(world_, "message %llu was acknowledged and never delivered", number);
    for (std::size_t i = 0; i < m.copies.size(); ++i)
      for (std::size_t j = i + 1; j < m.copies.size(); ++j) {
        const auto &a = m.copies[i], &b = m.copies[j];
        if (a.stream == b.stream)
          seen_.violate(world_, "message %llu came twice on one stream, to client%zu", number, a.client);
        else if (a.ack_arrived && a.ack_when < b.when && !m.is_resent && !lost_something(m.sent, b.when))
          seen_.violate(world_, "message %llu came again to client%zu after client%zu had acknowledged it", number, b.client, a.client);
      }
  }
  for (std::size_t c = 0; c < clients_.size(); ++c) {
    if (!clients_[c].stream)
      seen_.violate(world_, "client%zu has no stream at the end", c);
    for (auto m : clients_[c].unacknowledged)
      seen_.violate(world_, "message %llu of client%zu has no outcome", static_cast<unsigned long long>(m), c);
  }
}

/// Before the clients come for the last time: what they have sent has ended by itself, and nobody broke a rule.
void run::check_outcomes() {
  for (std::size_t c = 0; c < clients_.size(); ++c)
    for (auto m : clients_[c].unacknowledged)
      seen_.violate(world_, "message %llu of client%zu has no outcome in time", static_cast<unsigned long long>(m), c);
  for (std::size_t n = 0; n < hosts_.size(); ++n)
    if (at(n) && (at(n)->open_messages() || at(n)->mesh().count().hostile || at(n)->mesh().count().malformed))
      seen_.violate(world_, "node%zu waits for %zu outcomes, and hung up on %llu frames", n, at(n)->open_messages(),
                    static_cast<unsigned long long>(at(n)->mesh().count().hostile + at(n)->mesh().count().malformed));
}

/// Of one sender's stream on one receiver's stream: what neither was stored nor routed again comes in the order of sending.
void run::check_order() {
  struct seen { std::uint64_t number; time_point when; };
  std::map<std::pair<stream_id, stream_id>, seen> last;
  std::vector<std::pair<time_point, std::pair<const message*, const message::copy*>>> all;
  for (const auto& m : seen_.messages)
    if (!m.is_again && !m.is_resent)
      for (const auto& c : m.copies)
        all.push_back({c.when, {&m, &c}});
  std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.first < b.first; });
  for (const auto& [when, what] : all) {
    auto& before = last[{what.first->stream, what.second->stream}];
    if (before.number > what.first->number)
      seen_.violate(world_, "message %llu came behind message %llu of the same sender, to client%zu", static_cast<unsigned long long>(what.first->number),
                    static_cast<unsigned long long>(before.number), what.second->client);
    before = {std::max(before.number, what.first->number), when};
  }
}

void run::check_sessions() {
  std::map<std::string, std::size_t> names;
  for (std::size_t n = 0; n < hosts_.size(); ++n) {
    if (!at(n))
      continue;
    if (auto open = at(n)->open_messages())
      seen_.violate(world_, "node%zu waits for %zu outcomes", n, open);
    for (const auto& s : at(n)->sessions()) {
      auto [i, is_new] = names.emplace(std::string{s.row.name->full()}, n);
      if (!is_new)
        seen_.violate(world_, "two sessions are %s, on node%zu and node%zu", i->first.c_str(), i->second, n);
      if (clients_[s.client].stream != s.stream)
        seen_.violate(world_, "node%zu has a session %llx whose client%zu is gone", n, static_cast<unsigned long long>(s.row.session), s.client);
    }
  }
}

/// Every table holds exactly the sessions that there are.
void run::check_tables() {
  for (std::size_t n = 0; n < hosts_.size(); ++n) {
    auto* here = at(n);
    if (!here)
      continue;
    std::size_t expected = 0;
    for (std::size_t m = 0; m < hosts_.size(); ++m) {
      if (!at(m))
        continue;
      auto sessions = at(m)->sessions().size();
      expected += sessions;
      cluster::peer_number number = cluster::self;
      if (m != n) {
        const auto& peers = here->mesh().members().peers();
        for (std::size_t i = 1; i < peers.size(); ++i)
          if (peers[i].who.node == hosts_[m].folder.node)
            number = static_cast<cluster::peer_number>(i);
        if (number == cluster::self || peers[number].state != cluster::peer_state::alive || !here->mesh().rows().is_synced(number)) {
          seen_.violate(world_, "node%zu does not see node%zu (state %d)", n, m, number == cluster::self ? -1 : static_cast<int>(peers[number].state));
          continue;
        }
      }
      if (here->table().size(number) != sessions || here->table().digest(number) != at(m)->table().digest(cluster::self))
        seen_.violate(world_, "node%zu has %zu rows of node%zu, which has %zu sessions", n, here->table().size(number), m, sessions);
    }
    if (here->table().size() != expected)
      seen_.violate(world_, "node%zu has %zu rows in all, there are %zu sessions", n, here->table().size(), expected);
  }
}

/// All the time: at no moment do two processes that run believe to own the same thing.
void run::watch_owners() {
  world_.after(50ms, [this] {
    for (const auto* name : {"room1@sim", "room2@sim", "announce"}) {
      std::size_t owners = 0;
      for (auto& h : hosts_)
        owners += h.running && !h.running->is_paused() && h.running->leases().owns(name, world_.now());
      if (owners > 1)
        seen_.violate(world_, "%zu nodes own %s", owners, name);
    }
    watch_owners();
  });
}

void run::check_leases() {
  std::map<std::string, std::string> epochs; // key and epoch: who wrote
  std::map<std::string, std::uint64_t> latest;
  for (const auto& w : database_.owners_work) {
    auto epoch = w.value.substr(0, w.value.find(' '));
    auto [i, is_new] = epochs.emplace(w.key + " " + epoch, w.value);
    if (i->second != w.value)
      seen_.violate(world_, "two owners wrote %s in epoch %s", w.key.c_str(), epoch.c_str());
    auto number = std::strtoull(epoch.c_str(), nullptr, 10);
    if (number < latest[w.key])
      seen_.violate(world_, "the owner of %s in epoch %s wrote after its successor", w.key.c_str(), epoch.c_str());
    latest[w.key] = std::max<std::uint64_t>(latest[w.key], number);
  }
  for (const auto* name : {"room1@sim", "room2@sim", "announce"}) {
    std::size_t owners = 0;
    for (auto& h : hosts_)
      owners += h.running && h.running->leases().owns(name, world_.now());
    if (owners != 1)
      seen_.violate(world_, "%zu nodes own %s at the end", owners, name);
  }
}

} // namespace sim
