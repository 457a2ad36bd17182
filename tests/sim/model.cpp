// The model of sessions, routing and offline storage above the cluster machines.
#include "tests/sim/process.hpp"
#include <algorithm>

namespace sim {

namespace {
constexpr duration spool_after = 500ms, remembered = 30s;

std::string key_prefix(const xmpp::jid& bare) { return "o/" + std::string{bare.bare()} + "/"; }
/// One row a message: what is kept twice is kept once. (The real table has its second key for that, docs/storage.md.)
std::string key_of(const xmpp::stanza& what) {
  auto key = key_prefix(*what.to);
  base::put_be64(key, what.stanza_id.a);
  return key;
}
/// Of the store: whose it is (no session: nobody's), and what.
struct kept_row {
  std::uint64_t session = 0, node = 0, life = 0, message = 0;
  std::string from;
};
std::string encode(const kept_row& r) {
  std::string v;
  for (auto n : {r.session, r.node, r.life, r.message})
    base::put_be64(v, n);
  return v + r.from;
}
kept_row decode_kept(std::string_view v) {
  return {base::get_be64(v), base::get_be64(v.substr(8)), base::get_be64(v.substr(16)), base::get_be64(v.substr(24)), std::string{v.substr(32)}};
}

xmpp::stanza_ref make_stanza(std::uint64_t message, const xmpp::jid_ref& from, const xmpp::jid_ref& to) {
  auto s = xmpp::stanza::from_xml("<message type='chat'><body>covey</body></message>");
  s->from = from;
  s->to = to;
  s->stanza_id = {message, 1};
  s->stanza_id_by = xmpp::bare_of(to);
  return s;
}
} // namespace

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

void process::spool(session& s) {
  for (auto& [message, k] : s.unacknowledged) {
    if (k->is_stored || k->is_storing || s_.w.now() - k->since < spool_after)
      continue;
    k->is_storing = true;
    keep(k->what, s.row.session, [this, k = k](bool is_done) {
      k->is_storing = false;
      k->since = s_.w.now();
      if (k->is_acknowledged)
        return is_done ? forget_row(k->what) : void();
      if (is_done || k->is_orphan)
        for (const auto& e : std::exchange(k->ends, {}))
          complete(e, is_done ? cluster::ending::stored : cluster::ending::abandoned);
      if (is_done && k->is_orphan)
        return give_back(k->what);
      k->is_stored = k->is_stored || is_done;
    });
  }
}

void process::store_for_later(const xmpp::stanza_ref& what) {
  s_.seen.messages[what->stanza_id.a].is_again = true;
  keep(what, 0, [this, what](bool is_done) {
    if (!is_done) {
      s_.w.after(300ms, [this, lives = lives_, what] {
        if (*lives)
          post(source::other, [this, what] { store_for_later(what); });
      });
      return;
    }
    if (what->completion)
      complete(what->completion, cluster::ending::stored);
    stored_for(what->to);
  });
}

/// A session that this node did not know of may be there: it is told to look once it is seen.
void process::stored_for(const xmpp::jid_ref& account) {
  stored_for_[std::string{account->bare()}] = s_.w.now();
  tell_to_fetch(account);
}

void process::on_appeared(const xmpp::jid& account) {
  if (stored_for_.contains(std::string{account.bare()}))
    tell_to_fetch(xmpp::bare_of(*xmpp::parse_jid(account.full())));
}

void process::tell_to_fetch(const xmpp::jid_ref& account) {
  std::vector<cluster::entry> there;
  table_.sessions_of(*account, [&](std::string_view, const cluster::entry& e) { there.push_back(e); });
  for (const auto& e : there) {
    if (e.node == cluster::self) {
      read_offline(e.session);
      continue;
    }
    cluster::parcel p;
    p.what.what = make_stanza(0, account, account); // no message: a word between servers
    p.what.what->stanza_id = {};
    p.what.what->stanza_id_by = nullptr;
    p.session = e.session;
    p.needs_credit = false;
    with_mesh([&](auto& out) { (void)mesh_.send(e.node, std::move(p), s_.w.now(), out); });
  }
}

/// Inserted if absent: what is there already is stored.
void process::keep(const xmpp::stanza_ref& what, std::uint64_t owner, std::function<void(bool)> then) {
  ++s_.seen.stored;
  s_.w.trace("node%zu stores message %llu for %s, owner %llx", index_, static_cast<unsigned long long>(what->stanza_id.a), std::string{what->to->bare()}.c_str(), static_cast<unsigned long long>(owner));
  auto key = key_of(*what);
  storage::batch b{{life_, ++last_batch_}, {storage::put{key, kept_value(owner, *what)}}, {{key, 0}}, storage::durability::durable};
  auto id = b.id;
  s_.database.commit(index_, std::move(b), [this, lives = lives_, then = std::move(then), id](storage::outcome how) {
    if (!*lives)
      return;
    post(source::other, [this, then, how, id] {
      if (how == storage::outcome::unknown)
        return settle_unknown(id, then);
      then(how == storage::outcome::done || how == storage::outcome::conflict);
    });
  });
}

/// Never by a blind retry: it may have been done, claimed and erased meanwhile.
void process::settle_unknown(base::u128 batch, std::function<void(bool)> then) {
  s_.database.resolve(index_, batch, [this, lives = lives_, batch, then = std::move(then)](std::optional<bool> answer) {
    if (!*lives)
      return;
    if (answer)
      return post(source::other, [then, is_done = *answer] { then(is_done); });
    s_.w.after(200ms, [this, lives, batch, then] {
      if (*lives)
        post(source::other, [this, batch, then] { settle_unknown(batch, then); });
    });
  });
}

void process::forget_row(const xmpp::stanza_ref& what) {
  s_.w.trace("node%zu erases the row of message %llu", index_, static_cast<unsigned long long>(what->stanza_id.a));
  storage::batch b{{life_, ++last_batch_}, {storage::erase{key_of(*what)}}, {}, storage::durability::durable};
  s_.database.commit(index_, std::move(b), [this, lives = lives_, what](storage::outcome how) {
    if (*lives && how != storage::outcome::done) // it is tried until it is gone
      s_.w.after(500ms, [this, lives, what] {
        if (*lives)
          post(source::other, [this, what] { forget_row(what); });
      });
  });
}

/// Whose it is when this node keeps it.
std::string process::kept_value(std::uint64_t owner, const xmpp::stanza& what) const {
  return encode({owner, owner ? disk_.node : 0, owner ? disk_.boots << cluster::process_shift : 0, what.stanza_id.a, std::string{what.from->full()}});
}

/// A session without a row in the table, of a process whose lease has run out. Of a live one nothing is claimed: it gives
/// rows back when a session ends.
bool process::is_session_gone(const xmpp::jid& account, std::uint64_t id, std::uint64_t node, std::uint64_t life) {
  bool is_there = sessions_.contains(id);
  table_.sessions_of(account, [&](std::string_view, const cluster::entry& e) { is_there = is_there || e.session == id; });
  // A node that others see but that does not reach the database cannot erase what its clients have acknowledged: nor may
  // anybody take it.
  for (const auto& p : mesh_.members().peers())
    is_there = is_there || (p.who.node == node && (p.state == cluster::peer_state::alive || p.state == cluster::peer_state::suspected)
                            && p.who.life >> cluster::process_shift == life >> cluster::process_shift);
  return !is_there && leases_.is_over(node, life, s_.w.now());
}

/// A session has ended: what it kept in the store is anybody's.
void process::give_back(const xmpp::stanza_ref& what) {
  auto key = key_of(*what);
  auto value = kept_value(0, *what);
  storage::batch b{{life_, ++last_batch_}, {storage::put{key, value}}, {{key, 1}}, storage::durability::durable};
  s_.database.scan(index_, {key, key + std::string(1, '\0')}, [this, lives = lives_, what, b = std::move(b)](store::rows r) mutable {
    if (!*lives)
      return;
    auto again = [this, lives, what] {
      s_.w.after(300ms, [this, lives, what] {
        if (*lives)
          post(source::other, [this, what] { give_back(what); });
      });
    };
    if (!r)
      return again();
    if (r->empty() || decode_kept(r->front().value).node != disk_.node)
      return;
    b.preconditions.front().expected = r->front().version;
    s_.database.commit(index_, std::move(b), [this, lives, what, again](storage::outcome how) {
      if (!*lives)
        return;
      if (how != storage::outcome::done)
        return again();
      post(source::other, [this, what] { stored_for(what->to); });
    });
  });
}

void process::read_offline(std::uint64_t id) {
  auto* s = find(id);
  if (!s)
    return;
  if (s->is_reading) {
    s->reads_again = true; // what was stored meanwhile may be missing
    return;
  }
  s->is_reading = true;
  auto from = key_prefix(*s->row.name);
  auto until = from;
  until.back() = '0'; // behind '/'
  s_.database.scan(index_, {from, until}, [this, lives = lives_, id](store::rows r) {
    if (!*lives)
      return;
    post(source::other, [this, id, r = std::move(r)] {
      auto* s = find(id);
      if (!s)
        return;
      s->is_reading = false;
      if (std::exchange(s->reads_again, false))
        read_offline(id);
      if (!r) {
        s_.w.after(300ms, [this, lives = lives_, id] {
          if (*lives)
            post(source::other, [this, id] { read_offline(id); });
        });
        return;
      }
      s_.w.trace("node%zu: session %llx reads %zu rows", index_, static_cast<unsigned long long>(id), r->size());
      for (const auto& row : *r)
        claim(id, row);
      if (s->is_ready)
        return;
      s->is_ready = true;
      for (auto& h : std::exchange(s->held, {}))
        deliver(*s, h);
    });
  });
}

void process::claim(std::uint64_t id, const storage::row& r) {
  auto k = decode_kept(r.value);
  auto* s = find(id);
  if (!s)
    return;
  if (k.session == id)
    return;
  if (k.session != 0 && !is_session_gone(*s->row.name, k.session, k.node, k.life)) {
    s_.w.trace("message %llu is session %llx's of node %llx, life %llx", static_cast<unsigned long long>(k.message), static_cast<unsigned long long>(k.session),
               static_cast<unsigned long long>(k.node), static_cast<unsigned long long>(k.life));
    if (!sessions_.contains(k.session) && !s->looks_again) { // perhaps it is about to be
      s->looks_again = true;
      s_.w.after(8s, [this, lives = lives_, id] {
        if (*lives)
          post(source::other, [this, id] {
            if (auto* s = find(id)) {
              s->looks_again = false;
              read_offline(id);
            }
          });
      });
    }
    return;
  }
  k.session = id;
  k.node = disk_.node;
  k.life = disk_.boots << cluster::process_shift;
  storage::batch b{{life_, ++last_batch_}, {storage::put{r.key, encode(k)}}, {{r.key, r.version}}, storage::durability::durable};
  auto batch = b.id;
  s_.database.commit(index_, std::move(b), [this, lives = lives_, id, k, batch, account = xmpp::bare_of(s->row.name)](storage::outcome how) {
    if (!*lives)
      return;
    auto then = [this, id, k, account](bool is_done) {
      if (is_done)
        claimed(id, make_stanza(k.message, *xmpp::parse_jid(k.from), account));
    };
    post(source::other, [this, batch, how, then] {
      if (how == storage::outcome::unknown)
        settle_unknown(batch, then);
      else
        then(how == storage::outcome::done);
    });
  });
}

void process::claimed(std::uint64_t id, const xmpp::stanza_ref& what) {
  auto* s = find(id);
  if (!s) // it has ended meanwhile
    return give_back(what);
  ++s_.seen.claimed;
  s_.w.trace("node%zu: session %llx claims message %llu", index_, static_cast<unsigned long long>(id), static_cast<unsigned long long>(what->stanza_id.a));
  s_.seen.messages[what->stanza_id.a].is_again = true;
  hand_over(*s, what, true, {});
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
