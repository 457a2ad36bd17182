// The model of sessions and routing above the cluster machines. What is kept in the store is in model_store.cpp.
#include "tests/sim/process.hpp"
#include <algorithm>

namespace sim {

namespace {
constexpr duration remembered = 30s;

} // namespace

xmpp::stanza_ref make_stanza(std::uint64_t message, const xmpp::jid_ref& from, const xmpp::jid_ref& to) {
  auto s = xmpp::stanza::from_xml("<message type='chat'><body>covey</body></message>");
  s->from = from;
  s->to = to;
  s->stanza_id = {message, 1};
  s->stanza_id_by = xmpp::bare_of(to);
  return s;
}

process::session* process::find(std::uint64_t id) {
  auto i = sessions_.find(id);
  return i == sessions_.end() ? nullptr : &i->second;
}

process::session* process::on_stream(stream_id stream) {
  for (auto& [id, s] : sessions_)
    if (s.stream == stream)
      return &s;
  return nullptr;
}

void process::log_in(std::size_t client, stream_id stream, const xmpp::jid_ref& full) {
  post(source::other, [this, client, stream, full] {
    ++s_.seen.logins;
    auto id = ++last_session_;
    auto& s = sessions_[id];
    s.client = client;
    s.stream = stream;
    s.last_seen = s_.w.now();
    s.row.name = full;
    s.row.session = id;
    s.row.clock = mesh_.next_clock(base::wall_time{std::chrono::duration_cast<std::chrono::microseconds>(s_.w.now().time_since_epoch() + wall_offset_)});
    s.row.ref = id;
    s.row.reactor = static_cast<std::uint16_t>(id % 2);
    s.row.what = {{id, 1}, 5, cluster::attributes::available | cluster::attributes::managed};
    s_.w.trace("node%zu: client%zu is %s, session %llx", index_, client, std::string{full->full()}.c_str(), static_cast<unsigned long long>(id));
    with_mesh([&](auto& out) { mesh_.publish(sessions_[id].row, s_.w.now(), out); });
    read_offline(id);
  });
}

void process::log_out(stream_id stream) {
  post(source::other, [this, stream] {
    if (auto* s = on_stream(stream))
      end_session(s->row.session, false, false);
  });
}

/// The one path. What its client has not acknowledged is routed once more, or is in the store.
void process::end_session(std::uint64_t id, bool tells_client, bool by_conflict) {
  auto i = sessions_.find(id);
  if (i == sessions_.end())
    return;
  auto s = std::move(i->second);
  sessions_.erase(i);
  s_.w.trace("node%zu: session %llx ends%s", index_, static_cast<unsigned long long>(id), by_conflict ? " by conflict" : "");
  if (tells_client)
    s_.clients.on_closed(s.client, s.stream, by_conflict);
  with_mesh([&](auto& out) { mesh_.withdraw(s.row, s_.w.now(), out); });
  for (auto& [number, k] : s.unacknowledged)
    if (k->is_stored)
      give_back(k->what);
    else if (k->is_storing)
      k->is_orphan = true;
    else
      for (const auto& e : k->ends)
        complete(e, cluster::ending::abandoned);
  for (auto& h : s.held)
    if (h->completion)
      complete(h->completion, cluster::ending::abandoned);
}

void process::say(stream_id stream, std::uint64_t number, const xmpp::jid_ref& to) {
  post(source::other, [this, stream, number, to] {
    auto* s = on_stream(stream);
    if (!s)
      return; // its client hears that the stream is gone, and sends again
    auto what = make_stanza(number, s->row.name, to);
    auto n = s->next++;
    what->completion = {s->row.session, n, 0, 0};
    s->open[n] = {what, 0};
    route(what, false);
  });
}

/// Who owns the address? The table says.
void process::route(const xmpp::stanza_ref& what, bool is_again) {
  if (is_again)
    s_.seen.messages[what->stanza_id.a].is_again = true;
  std::optional<cluster::entry> best;
  table_.sessions_of(*what->to, [&](std::string_view, const cluster::entry& e) {
    if (!best || e.clock > best->clock || (e.clock == best->clock && e.session > best->session))
      best = e;
  });
  if (!best)
    return store_for_later(what);
  if (best->node == cluster::self) {
    if (auto* s = find(best->session))
      return deliver(*s, what);
    return store_for_later(what);
  }
  s_.w.trace("node%zu sends message %llu to %s%s", index_, static_cast<unsigned long long>(what->stanza_id.a), mesh_.members().at(best->node).who.name.c_str(), is_again ? " again" : "");
  cluster::parcel p;
  p.what.what = what;
  p.what.is_again = is_again;
  p.kind = cluster::parcel_kind::to_session;
  p.session = best->session;
  p.has_completion = static_cast<bool>(what->completion);
  p.order = what->from->hash() ^ what->to->hash();
  bool is_full = false;
  with_mesh([&](auto& out) { is_full = mesh_.send(best->node, std::move(p), s_.w.now(), out) == base::room::full; });
  if (is_full)
    store_for_later(what);
}

void process::arrived(cluster::effects::arrival&& a) {
  // A slow node: room is given back late, so that the peer's credit runs out now and then.
  auto cost = a.what.what.what->cost();
  auto needs_credit = a.what.needs_credit;
  auto from = a.from;
  if (needs_credit)
    s_.w.after(s_.w.luck.between(0ms, s_.w.luck.in(50) ? 400ms : 2ms), [this, lives = lives_, from, cost] {
      if (*lives)
        post(source::other, [this, from, cost] { with_mesh([&](auto& out) { mesh_.handled(from, 1, cost, s_.w.now(), out); }); });
    });
  const auto& what = a.what.what.what;
  if (!what->stanza_id)
    return read_offline(a.what.session);
  s_.w.trace("node%zu takes message %llu", index_, static_cast<unsigned long long>(what->stanza_id.a));
  if (auto* s = find(a.what.session))
    return deliver(*s, what);
  if (what->completion) // it has ended, or moved: its sender decides
    complete(what->completion, cluster::ending::abandoned);
}

void process::complete(const xmpp::completion_id& id, cluster::ending how) {
  if (!id)
    return;
  if (id.node == 0)
    return on_completed(id.session, id.number, how);
  with_mesh([&](auto& out) { mesh_.complete(id.node, id, how, s_.w.now(), out); });
}

void process::on_completed(std::uint64_t id, std::uint32_t number, cluster::ending how) {
  auto* s = find(id);
  if (!s)
    return;
  auto i = s->open.find(number);
  if (i == s->open.end())
    return; // later ends are ignored
  s_.w.trace("node%zu: message %llu ends as %d", index_, static_cast<unsigned long long>(i->second.what->stanza_id.a), static_cast<int>(how));
  if (how == cluster::ending::abandoned) {
    auto what = i->second.what;
    if (++i->second.tries > 3) {
      s_.seen.messages[what->stanza_id.a].is_again = true;
      return store_for_later(what);
    }
    // Not in this call: whoever gave it up is still at work.
    s_.w.after(10us, [this, lives = lives_, what] {
      if (*lives)
        post(source::other, [this, what] { route(what, true); });
    });
    return;
  }
  auto message = i->second.what->stanza_id.a;
  s->open.erase(i);
  s_.clients.on_acknowledged(s->client, s->stream, message, how == cluster::ending::bounced);
}

/// What its receiver is slow to acknowledge, and whose client is gone. No completion times out here: that each one ends is
/// what the run proves.
void process::check_waits() {
  auto now = s_.w.now();
  if (mesh_.misses_somebody())
    last_missing_ = now;
  std::vector<std::uint64_t> silent;
  for (auto& [id, s] : sessions_) {
    spool(s);
    if (s_.clients.is_there(s.client, s.stream))
      s.last_seen = now;
    else if (now - s.last_seen > 10s) // as its acks, or the operating system's, would have shown
      silent.push_back(id);
    // A peer that is away may route again what this session has had: DESIGN's 30 s count from its return.
    std::erase_if(s.written, [&](auto& i) { return now - std::max(i.second, last_missing_) > remembered && !s.unacknowledged.contains(i.first); });
  }
  std::erase_if(stored_for_, [&](auto& i) { return now - std::max(i.second, last_missing_) > 60s; });
  for (auto id : silent)
    end_session(id, false, false);
}

void process::deliver(session& s, const xmpp::stanza_ref& what) {
  if (!s.is_ready) // what waits in the store comes first
    return s.held.push_back(what);
  hand_over(s, what, false, {what->completion});
}

void process::hand_over(session& s, const xmpp::stanza_ref& what, bool is_stored, std::vector<xmpp::completion_id> ends) {
  auto message = what->stanza_id.a;
  auto now = s_.w.now();
  if (auto seen = s.written.find(message); seen != s.written.end()) { // another copy of what it has had
    auto k = s.unacknowledged.find(message);
    if (k == s.unacknowledged.end()) {
      for (const auto& e : ends)
        complete(e, cluster::ending::acknowledged);
      if (is_stored)
        forget_row(what);
      return;
    }
    auto& waits = k->second->ends;
    waits.insert(waits.end(), ends.begin(), ends.end());
    k->second->is_stored = k->second->is_stored || is_stored;
    if (k->second->is_stored)
      for (const auto& e : std::exchange(waits, {}))
        complete(e, cluster::ending::stored);
    return;
  }
  s.written[message] = now;
  auto& k = *(s.unacknowledged[message] = std::make_shared<kept>());
  k.what = what;
  k.ends = std::move(ends);
  k.since = now;
  k.is_stored = is_stored;
  s_.clients.on_delivered(s.client, s.stream, message, index_);
}

void process::acknowledge(stream_id stream, std::uint64_t message) {
  post(source::other, [this, stream, message] {
    auto* s = on_stream(stream);
    auto i = s ? s->unacknowledged.find(message) : decltype(s->unacknowledged.begin()){};
    if (!s || i == s->unacknowledged.end())
      return;
    for (auto& c : s_.seen.messages[message].copies)
      if (c.stream == stream) {
        c.ack_arrived = true;
        c.ack_when = s_.w.now();
      }
    auto k = std::move(i->second);
    s->unacknowledged.erase(i);
    k->is_acknowledged = true;
    if (k->is_stored)
      forget_row(k->what);
    for (const auto& e : k->ends)
      complete(e, cluster::ending::acknowledged);
  });
}

std::vector<process::open_session> process::sessions() const {
  std::vector<open_session> all;
  for (const auto& [id, s] : sessions_)
    all.push_back({s.client, s.stream, s.row});
  return all;
}

std::size_t process::open_messages() const {
  std::size_t n = 0;
  for (const auto& [id, s] : sessions_)
    n += s.open.size();
  return n;
}

} // namespace sim
