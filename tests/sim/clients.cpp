// The clients: they chat, acknowledge, lose their streams, come back and send again what was not acknowledged.
#include "tests/sim/run.hpp"

namespace sim {

void run::make_clients() {
  auto users = 4 + world_.luck.below(6) + (hosts_.size() > 7 ? 0 : world_.luck.below(6));
  for (std::size_t u = 0; u < users; ++u) {
    users_.push_back(*xmpp::make_jid("user" + std::to_string(u), "sim"));
    auto devices = world_.luck.in(4) ? 2u : 1u;
    for (std::size_t d = 0; d < devices; ++d) {
      client c;
      c.user = u;
      c.resource = devices > 1 && world_.luck.in(2) ? "same" : "device" + std::to_string(d);
      c.full = *xmpp::with_resource(*users_[u], c.resource);
      c.is_slow = world_.luck.in(12);
      clients_.push_back(std::move(c));
    }
  }
  for (std::size_t c = 0; c < clients_.size(); ++c) {
    world_.after(world_.luck.between(2s, 5s), [this, c] { connect(c); });
    world_.after(world_.luck.between(5s, 6s), [this, c] { chat(c); });
  }
}

/// To the server, behind all that this client has sent before: a stream keeps order.
void run::tell(std::size_t c, std::function<void(sim::process&)> f) {
  auto node = clients_[c].node;
  auto life = clients_[c].life;
  world_.after(1ms, [this, node, life, f = std::move(f)] {
    if (auto& h = hosts_[node]; h.running && h.life == life)
      f(*h.running);
  });
}

void run::connect(std::size_t c) {
  auto& me = clients_[c];
  if (me.stream)
    return;
  auto n = random_node();
  auto* server = at(n);
  if (!server || !server->takes_clients() || (server->is_paused() && !world_.luck.in(4))) {
    world_.after(world_.luck.between(50ms, 300ms), [this, c] { connect(c); });
    return;
  }
  me.node = n;
  me.life = hosts_[n].life;
  me.stream = ++last_stream_;
  world_.trace("client%zu connects to node%zu, stream %llu", c, n, static_cast<unsigned long long>(me.stream));
  tell(c, [c, stream = me.stream, full = me.full](sim::process& p) { p.log_in(c, stream, full); });
  for (auto m : me.unacknowledged) { // with the same identity: the server gives it the same stanza-id
    seen_.messages[m].is_resent = true;
    tell(c, [stream = me.stream, m, to = users_[seen_.messages[m].to]](sim::process& p) { p.say(stream, m, to); });
  }
  auto stream = me.stream;
  if (server->is_paused()) // nobody answers
    world_.after(5s, [this, c, stream, n] {
      if (clients_[c].stream == stream && at(n) && at(n)->is_paused())
        disconnect(c, true);
    });
}

void run::disconnect(std::size_t c, bool tells_server) {
  auto& me = clients_[c];
  if (!me.stream)
    return;
  world_.trace("client%zu loses its stream to node%zu%s", c, me.node, tells_server ? "" : " unheard");
  if (tells_server)
    tell(c, [stream = me.stream](sim::process& p) { p.log_out(stream); });
  me.stream = 0;
  world_.after(world_.luck.between(100ms, 2s), [this, c] { connect(c); });
}

void run::chat(std::size_t c) {
  if (!talks_)
    return;
  auto& me = clients_[c];
  world_.after(world_.luck.between(100ms, 700ms), [this, c] { chat(c); });
  if (!me.stream)
    return;
  auto burst = world_.luck.in(20) ? 1 + world_.luck.below(60) : 1;
  auto to = world_.luck.below(users_.size());
  for (std::size_t i = 0; i < burst; ++i) {
    message m;
    m.number = seen_.messages.size();
    m.from = c;
    m.to = to;
    m.stream = me.stream;
    m.sent = world_.now();
    me.unacknowledged.push_back(m.number);
    tell(c, [stream = me.stream, n = m.number, to = users_[to]](sim::process& p) { p.say(stream, n, to); });
    seen_.messages.push_back(std::move(m));
  }
}

void run::on_delivered(std::size_t c, stream_id stream, std::uint64_t number, std::size_t node) {
  world_.after(1ms, [this, c, stream, number, node] {
    auto& me = clients_[c];
    if (me.stream != stream)
      return; // the stream is gone, the message with it
    auto& m = seen_.messages[number];
    world_.trace("client%zu gets message %llu from node%zu", c, static_cast<unsigned long long>(number), node);
    m.copies.push_back({c, stream, world_.now(), false, {}, node});
    auto think = world_.luck.in(60) ? world_.luck.between(300ms, 3s) : me.is_slow ? world_.luck.between(100ms, 800ms) : world_.luck.between(1ms, 30ms);
    world_.after(think, [this, c, stream, number] {
      if (clients_[c].stream == stream)
        tell(c, [stream, number](sim::process& p) { p.acknowledge(stream, number); });
    });
  });
}

void run::on_acknowledged(std::size_t c, stream_id stream, std::uint64_t number, bool is_bounced) {
  world_.after(1ms, [this, c, stream, number, is_bounced] {
    auto& me = clients_[c];
    if (me.stream != stream)
      return;
    std::erase(me.unacknowledged, number);
    auto& m = seen_.messages[number];
    world_.trace("client%zu: message %llu is acknowledged", c, static_cast<unsigned long long>(number));
    m.is_acknowledged = true;
    m.is_bounced = is_bounced;
    m.acknowledged = world_.now();
  });
}

void run::on_closed(std::size_t c, stream_id stream, bool by_conflict) {
  world_.after(1ms, [this, c, stream, by_conflict] {
    auto& me = clients_[c];
    if (me.stream != stream)
      return;
    me.stream = 0;
    if (by_conflict) { // another one has the name: a new one is chosen
      ++seen_.conflicts;
      me.full = *xmpp::with_resource(*users_[me.user], me.resource + "-" + std::to_string(++me.renamed) + "-" + std::to_string(c));
    }
    world_.after(world_.luck.between(200ms, 2s), [this, c] { connect(c); });
  });
}

} // namespace sim
