// The model's offline storage: rows owned by sessions, claimed, given back, erased.
#include "tests/sim/process.hpp"
#include <algorithm>

namespace sim {

namespace {
constexpr duration spool_after = 500ms;

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
} // namespace

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
    p.kind = cluster::parcel_kind::to_session;
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

} // namespace sim
