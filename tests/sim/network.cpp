// The network between simulated nodes.
#include "tests/sim/network.hpp"
#include <algorithm>

namespace sim {

network::network(world& w, std::size_t nodes) : world_(w), nodes_(nodes), paths_(nodes * nodes), machines_(nodes) {}

duration network::delay(std::size_t from, std::size_t to) {
  auto& p = between(from, to);
  return world_.luck.between(p.shortest, p.longest);
}

void network::plug(std::size_t node, socket_user* user, const std::string& address) {
  auto& m = machines_[node];
  m.user = user;
  ++m.life;
  m.answers = true;
  m.wires.clear();
  std::erase_if(addresses_, [&](auto& a) { return a.second == node; });
  addresses_[address] = node;
}

void network::unplug(std::size_t node, bool resets) {
  auto& m = machines_[node];
  m.user = nullptr;
  m.answers = resets;
  auto wires = std::exchange(m.wires, {});
  for (auto& [c, w] : wires) {
    w.first->ends[w.second].is_open = false;
    if (resets)
      cut(w.first, w.second);
  }
}

void network::dial(std::size_t node, connection c, const std::string& address) {
  auto life = machines_[node].life;
  auto fail = [this, node, life, c](bool is_refused) {
    if (auto& m = machines_[node]; m.user && m.life == life)
      m.user->on_dial_failed(c, is_refused);
  };
  auto found = addresses_.find(address);
  if (address.starts_with("host")) // a name: wherever that node is now
    found = std::find_if(addresses_.begin(), addresses_.end(), [&](auto& a) { return "host" + std::to_string(a.second) == address; });
  if (found == addresses_.end()) // nobody has that address
    return world_.after(1ms, [fail] { fail(false); });
  auto to = found->second;
  world_.after(delay(node, to), [this, node, life, c, to, fail] {
    auto& m = machines_[node];
    if (!m.user || m.life != life)
      return;
    auto& other = machines_[to];
    if (is_blocked(node, to) || is_blocked(to, node) || !other.answers)
      return world_.after(3s, [fail] { fail(false); });
    if (!other.user)
      return world_.after(delay(to, node), [fail] { fail(true); });
    auto w = std::make_shared<wire>();
    auto theirs = ++other.last_accepted;
    w->ends[0] = {node, life, c, true, {}, {}, 0, 0};
    w->ends[1] = {to, other.life, theirs, true, {}, {}, 0, 0};
    m.wires[c] = {w, 0};
    other.wires[theirs] = {w, 1};
    all_.push_back(w);
    if (all_.size() > 256)
      std::erase_if(all_, [](auto& i) { return i.expired(); });
    other.user->on_accepted(theirs);
    world_.after(delay(to, node), [this, w] {
      if (is_live(w->ends[0]))
        machines_[w->ends[0].node].user->on_dialled(w->ends[0].c);
    });
  });
}

void network::write(std::size_t node, connection c, std::string b) {
  auto i = machines_[node].wires.find(c);
  if (i == machines_[node].wires.end())
    return;
  auto [w, from] = i->second;
  ++frames;
  bytes += b.size();
  auto& there = w->ends[1 - from];
  auto size = b.size();
  there.unread += size;
  bool is_buffered = there.unread < 64 * 1024; // the kernel takes it; more waits until it has gone
  // The first pieces are greetings, which come once even from a peer that replays.
  if (duplicates_percent && ++there.pieces > 2 && world_.luck.percent(duplicates_percent))
    send(w, 1 - from, {kind::bytes, b, 0});
  send(w, 1 - from, {kind::bytes, std::move(b), is_buffered ? 0 : size});
  if (is_buffered) {
    auto life = machines_[node].life;
    world_.after(20us, [this, node, life, c] {
      if (auto& m = machines_[node]; m.user && m.life == life && m.wires.contains(c))
        m.user->on_written(c);
    });
  }
}

void network::close(std::size_t node, connection c) {
  auto i = machines_[node].wires.find(c);
  if (i == machines_[node].wires.end())
    return;
  auto [w, from] = i->second;
  machines_[node].wires.erase(i);
  w->ends[from].is_open = false;
  send(w, 1 - from, {kind::fin, {}, 0});
}

/// The other end hears of it, if the path is open; what was on its way to it is lost or not, as it happens.
void network::cut(const wire_ref& w, int from) {
  auto& there = w->ends[1 - from];
  if (world_.luck.percent(50))
    there.last = world_.now(); // the reset overtakes what was still to come
  send(w, 1 - from, {kind::reset, {}, 0});
}

void network::send(const wire_ref& w, int to, piece p) {
  auto& e = w->ends[to];
  auto from = w->ends[1 - to].node;
  e.last = std::max(e.last + 1ns, world_.now() + delay(from, e.node));
  world_.at(e.last, [this, w, to, p = std::move(p)]() mutable { arrive(w, to, std::move(p)); });
}

void network::arrive(const wire_ref& w, int to, piece p) {
  auto& e = w->ends[to];
  if (is_blocked(w->ends[1 - to].node, e.node) || !e.held.empty())
    return e.held.push_back(std::move(p));
  take(w, to, std::move(p));
}

void network::take(const wire_ref& w, int to, piece p) {
  auto& e = w->ends[to];
  if (!is_live(e)) {
    // A machine that was switched off and on again knows nothing of the connection, and says so.
    if (p.what == kind::bytes && machines_[e.node].answers && is_live(w->ends[1 - to]) && !is_blocked(e.node, w->ends[1 - to].node))
      send(w, 1 - to, {kind::reset, {}, 0});
    return;
  }
  auto* user = machines_[e.node].user;
  if (p.what != kind::bytes) {
    auto c = e.c;
    e.is_open = false;
    machines_[e.node].wires.erase(c);
    return user->on_broken(c);
  }
  e.unread -= std::min(e.unread, p.bytes.size());
  auto c = e.c;
  auto& sender = w->ends[1 - to];
  if (p.tells && is_live(sender))
    machines_[sender.node].user->on_written(sender.c);
  user->on_bytes(c, p.bytes);
}

/// What was held comes before what is still on its way: while anything is held the rest queues behind it.
void network::release(const wire_ref& w, int to) {
  world_.after(delay(w->ends[1 - to].node, w->ends[to].node), [this, w, to] {
    auto& e = w->ends[to];
    while (!e.held.empty() && !is_blocked(w->ends[1 - to].node, e.node)) {
      auto p = std::move(e.held.front());
      e.held.pop_front();
      take(w, to, std::move(p));
    }
  });
}

void network::block(std::size_t from, std::size_t to, bool is) {
  auto& p = between(from, to);
  p.blocks = std::max(0, p.blocks + (is ? 1 : -1));
  if (p.blocks > 0)
    return;
  for (auto& weak : all_)
    if (auto w = weak.lock())
      for (int end = 0; end < 2; ++end)
        if (w->ends[end].node == to && w->ends[1 - end].node == from)
          release(w, end);
}

void network::set_delay(std::size_t from, std::size_t to, duration shortest, duration longest) {
  between(from, to).shortest = shortest;
  between(from, to).longest = longest;
}

void network::heal() {
  for (std::size_t a = 0; a < nodes_; ++a)
    for (std::size_t b = 0; b < nodes_; ++b) {
      set_delay(a, b, 200us, 1ms);
      while (is_blocked(a, b))
        block(a, b, false);
    }
}

void network::reset(std::size_t a, std::size_t b) {
  for (auto& weak : std::vector(all_))
    if (auto w = weak.lock())
      for (int end = 0; end < 2; ++end)
        if (w->ends[end].node == a && w->ends[1 - end].node == b) {
          cut(w, end);
          cut(w, 1 - end);
        }
}

} // namespace sim
