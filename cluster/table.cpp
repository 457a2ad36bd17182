// The replicated table: one allocation a row, chained by account (for look-ups) and by owner and bucket (for replication).
#include "cluster/table.hpp"
#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdlib>
#include <cstring>
#include <new>

namespace cluster {

namespace {

/// Fixed: every node must sort rows into the same buckets.
constexpr base::siphash_key bucket_key{0x636f766579206275, 0x636b657473203031};

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h ^= v;
  h *= 0xff51afd7ed558ccd;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53;
  return h ^ h >> 29;
}

base::u128 name_hash(std::string_view name) { return base::siphash128(name, bucket_key); }
std::uint32_t bucket_of(const base::u128& name) { return static_cast<std::uint32_t>(name.a % table::bucket_count); }

} // namespace

/// 96 bytes and the name. `digest` is not kept: it is worked out again when the row goes.
struct table::stored {
  stored* next_of_account;  // chain under one key of the index
  stored *next, *previous;  // chain of owner and bucket
  std::uint64_t hash;       // of the bare JID, in this process
  std::uint64_t session, clock, ref;
  base::u128 capabilities;
  std::uint32_t epoch;
  peer_number node;
  std::uint16_t reactor;
  std::uint16_t bare_size, size, bucket;
  std::int8_t priority;
  std::uint8_t flags : 6;
  std::uint8_t kind : 2;
  char bytes[1];

  [[nodiscard]] std::string_view name() const { return {bytes, size}; }
  [[nodiscard]] std::string_view bare() const { return {bytes, bare_size}; }
  [[nodiscard]] bool is_session() const { return kind == static_cast<std::uint8_t>(row_kind::session); }
  [[nodiscard]] entry to_entry() const {
    return {node, reactor, epoch, session, clock, ref, {capabilities, priority, flags}};
  }
  /// `hash`: name_hash(name()).
  [[nodiscard]] std::uint64_t digest(const base::u128& hash) const {
    auto d = mix(hash.b, session);
    for (auto v : {clock, ref, capabilities.a, capabilities.b, std::uint64_t{epoch} << 32 | reactor,
                   std::uint64_t{flags} << 16 | std::uint64_t{kind} << 8 | static_cast<std::uint8_t>(priority)})
      d = mix(d, v);
    return d;
  }
};

struct table::shard {
  struct key {
    std::uint64_t hash;
    std::string_view bare;
  };
  struct hasher {
    using is_transparent = void;
    using is_avalanching = void;
    std::size_t operator()(const stored* s) const { return s->hash; }
    std::size_t operator()(const key& k) const { return k.hash; }
  };
  struct equal {
    using is_transparent = void;
    bool operator()(const stored* a, const stored* b) const { return a->hash == b->hash && a->bare() == b->bare(); }
    bool operator()(const stored* a, const key& k) const { return a->hash == k.hash && a->bare() == k.bare; }
    bool operator()(const key& k, const stored* a) const { return (*this)(a, k); }
  };
  mutable std::shared_mutex mutex;
  boost::unordered_flat_set<stored*, hasher, equal> heads; // of the chain of one bare JID
  struct moved { move what; std::uint32_t age; };
  boost::unordered_flat_map<std::uint64_t, moved> moves; // by the hash of the bare JID
  [[nodiscard]] stored* head(const xmpp::jid& j) const {
    auto i = heads.find(key{j.hash(), j.bare()});
    return i == heads.end() ? nullptr : *i;
  }
};

struct table::owned {
  std::array<stored*, bucket_count> heads{};
  std::array<std::uint64_t, bucket_count> digests{};
  std::uint64_t sum = 0;
  std::atomic<std::size_t> rows{0}, sessions{0}; // any thread reads these
  std::size_t purged_to = 0; // buckets before it are empty while a purge is under way
};

table::table() : shards_(new shard[64]), owners_(most_peers) { // which never grows: any thread looks at it
  owners_[self] = std::make_unique<owned>();
  set_present(self, true);
}

table::shard& table::of(std::uint64_t hash) const { return shards_[hash >> 58]; }

table::~table() {
  for (auto& o : owners_)
    if (o)
      for (auto* s : o->heads)
        while (s)
          std::free(std::exchange(s, s->next));
}

table::owned& table::at(peer_number node) {
  if (!owners_[node])
    owners_[node] = std::make_unique<owned>();
  return *owners_[node];
}

const table::owned* table::at(peer_number node) const {
  return node < owners_.size() ? owners_[node].get() : nullptr;
}

void table::set_node(peer_number number, node_id node) { nodes_[number].store(node, std::memory_order_release); }
void table::set_present(peer_number number, bool is_present) { present_[number].store(is_present, std::memory_order_release); }

bool table::is_above(const stored& a, const stored& b) const {
  if (a.clock != b.clock)
    return a.clock > b.clock;
  auto left = nodes_[a.node].load(std::memory_order_acquire), right = nodes_[b.node].load(std::memory_order_acquire);
  return left != right ? left > right : a.session > b.session;
}

std::optional<entry> table::find(const xmpp::jid& full) const {
  auto& s = of(full.hash());
  std::shared_lock guard{s.mutex};
  const stored* best = nullptr;
  for (const auto* r = s.head(full); r; r = r->next_of_account)
    if (r->is_session() && r->name() == full.full() && is_present(r->node)) {
      if (best && best->session == r->session) // a hand-over: the higher epoch in silence
        best = r->epoch > best->epoch ? r : best;
      else if (!best || is_above(*r, *best))
        best = r;
    }
  return best ? std::optional{best->to_entry()} : std::nullopt;
}

void table::sessions_of(const xmpp::jid& bare, const std::function<void(std::string_view, const entry&)>& f) const {
  auto& s = of(bare.hash());
  std::shared_lock guard{s.mutex};
  for (const auto* r = s.head(bare); r; r = r->next_of_account) {
    if (!r->is_session() || !is_present(r->node))
      continue;
    bool is_beaten = false; // chains are short: an account has few sessions
    for (const auto* o = s.head(bare); o && !is_beaten; o = o->next_of_account)
      is_beaten = o != r && o->is_session() && is_present(o->node) && o->name() == r->name()
                  && (o->session == r->session ? o->epoch > r->epoch : is_above(*o, *r));
    if (!is_beaten)
      f(r->name(), r->to_entry());
  }
}

std::optional<entry> table::route_of(const xmpp::jid& name) const {
  auto& s = of(name.hash());
  std::shared_lock guard{s.mutex};
  const stored* best = nullptr;
  for (const auto* r = s.head(name); r; r = r->next_of_account)
    if (!r->is_session() && is_present(r->node) && (!best || is_above(*r, *best)))
      best = r;
  return best ? std::optional{best->to_entry()} : std::nullopt;
}

const table::stored* table::oldest_in(const stored* chain) const {
  const stored* oldest = nullptr;
  for (const auto* r = chain; r; r = r->next_of_account)
    if (r->is_session() && is_present(r->node) && (!oldest || is_above(*oldest, *r)))
      oldest = r;
  return oldest;
}

std::optional<peer_number> table::home_in(const stored* chain) const {
  const auto* oldest = oldest_in(chain);
  return oldest ? std::optional{oldest->node} : std::nullopt;
}

std::optional<owner> table::home_of(const xmpp::jid& bare) const {
  auto& s = of(bare.hash());
  std::shared_lock guard{s.mutex};
  const auto* oldest = oldest_in(s.head(bare));
  return oldest ? std::optional<owner>{{oldest->node, oldest->reactor}} : std::nullopt;
}

// --- moves

void table::note_move(shard& s, std::uint64_t account, std::optional<peer_number> before, std::optional<peer_number> after) {
  if (before == after || noted_.size() >= most_moves)
    return;
  auto& m = s.moves[account];
  m.what.number = ++last_move_;
  m.age = age_;
  if (before) {
    auto& from = m.what.from;
    std::copy_backward(from.begin(), from.end() - 1, from.end());
    from.front() = *before;
    m.what.count = static_cast<std::uint8_t>(std::min<std::size_t>(m.what.count + 1u, move::most));
  } else {
    m.what.was_hashed = true;
  }
  noted_.push_back({age_, account});
  filter_of(account).fetch_add(1, std::memory_order_relaxed); // seen with the row: both under the lock
}

std::optional<move> table::find_move(const xmpp::jid& bare) const {
  auto& s = of(bare.hash());
  std::shared_lock guard{s.mutex};
  auto i = s.moves.find(bare.hash());
  return i == s.moves.end() ? std::nullopt : std::optional{i->second.what};
}

void table::age_moves() {
  ++age_;
  for (; !noted_.empty() && age_ - noted_.front().age >= move_age; noted_.pop_front()) {
    auto [age, account] = noted_.front();
    auto& s = of(account);
    std::lock_guard guard{s.mutex};
    if (auto i = s.moves.find(account); i != s.moves.end() && i->second.age == age)
      s.moves.erase(i);
    filter_of(account).fetch_sub(1, std::memory_order_relaxed);
  }
}

owner table::owner_of(const xmpp::jid& bare, std::span<const candidate> alive) const {
  auto there = home_of(bare);
  return there ? *there : hashed(bare, alive);
}

owner table::hashed(const xmpp::jid& bare, std::span<const candidate> alive) {
  auto h = name_hash(bare.bare());
  owner best;
  std::uint64_t highest = 0;
  for (const auto& c : alive)
    if (auto score = mix(h.a, c.node); score >= highest) {
      highest = score;
      best = {c.number, static_cast<std::uint16_t>(h.b % c.reactors)};
    }
  return best;
}

std::size_t table::session_count(peer_number node) const {
  const auto* o = at(node);
  return o ? o->sessions.load(std::memory_order_relaxed) : 0;
}

std::size_t table::size(peer_number node) const {
  const auto* o = at(node);
  return o ? o->rows.load(std::memory_order_relaxed) : 0;
}

std::uint32_t table::bucket_of(const row& r) { return cluster::bucket_of(name_hash(r.name->full())); }

table::stored* table::find_in(stored* chain, peer_number node, const row& r) {
  for (auto* i = chain; i; i = i->next_of_account)
    if (i->node == node && i->session == r.session && i->kind == static_cast<std::uint8_t>(r.kind) && i->name() == r.name->full())
      return i;
  return nullptr;
}

table::placed table::put(peer_number node, const row& r) {
  placed out;
  auto full = r.name->full();
  auto name = name_hash(full);
  auto& s = of(r.name->hash());
  auto& o = at(node);
  std::lock_guard guard{s.mutex};
  auto* head = s.head(*r.name);
  auto* found = find_in(head, node, r);
  if (found && found->epoch > r.epoch)
    return out;
  bool may_move = r.kind == row_kind::session && (!found || found->clock != r.clock);
  auto home_before = may_move ? home_in(head) : std::nullopt;
  std::uint64_t before = 0;
  if (found) {
    before = found->digest(name);
  } else {
    out.is_new = true;
    void* memory = std::malloc(std::max(sizeof(stored), offsetof(stored, bytes) + full.size()));
    if (!memory)
      throw std::bad_alloc{};
    found = new (memory) stored;
    found->hash = r.name->hash();
    found->session = r.session;
    found->node = node;
    found->kind = static_cast<std::uint8_t>(r.kind) & 3;
    found->bare_size = static_cast<std::uint16_t>(r.name->bare().size());
    found->size = static_cast<std::uint16_t>(full.size());
    std::memcpy(found->bytes, full.data(), full.size());
    found->bucket = static_cast<std::uint16_t>(cluster::bucket_of(name));
    found->next_of_account = nullptr;
    if (head) { // behind the head, which stays the key
      found->next_of_account = head->next_of_account;
      head->next_of_account = found;
    } else {
      s.heads.insert(found);
    }
    found->previous = nullptr;
    found->next = o.heads[found->bucket];
    if (found->next)
      found->next->previous = found;
    o.heads[found->bucket] = found;
    ++o.rows;
    o.sessions += found->is_session();
    size_.fetch_add(1, std::memory_order_relaxed);
  }
  found->clock = r.clock;
  found->ref = r.ref;
  found->epoch = r.epoch;
  found->reactor = r.reactor;
  found->capabilities = r.what.capabilities;
  found->priority = r.what.priority;
  found->flags = r.what.flags & 63;
  if (may_move)
    note_move(s, found->hash, home_before, home_in(head ? head : found));
  auto moved = found->digest(name) - before;
  o.digests[found->bucket] += moved;
  o.sum += moved;
  out.is_changed = moved != 0;
  if (out.is_changed && found->is_session())
    look_for_conflicts(*found, head, out);
  return out;
}

void table::look_for_conflicts(const stored& fresh, const stored* chain, placed& out) const {
  for (const auto* i = chain; i; i = i->next_of_account) {
    if (i == &fresh || !i->is_session() || i->session == fresh.session || i->name() != fresh.name())
      continue;
    if (i->node == self && is_above(fresh, *i))
      out.beaten.push_back(to_row(*i));
    else if (i->node != fresh.node && is_present(i->node) && is_above(*i, fresh))
      out.is_beaten = true;
  }
}

void table::unlink(shard& s, stored* gone) {
  auto& o = *owners_[gone->node];
  auto i = s.heads.find(gone);
  if (*i == gone) {
    s.heads.erase(i);
    if (gone->next_of_account)
      s.heads.insert(gone->next_of_account);
  } else {
    auto* before = *i;
    while (before->next_of_account != gone)
      before = before->next_of_account;
    before->next_of_account = gone->next_of_account;
  }
  if (gone->previous)
    gone->previous->next = gone->next;
  else
    o.heads[gone->bucket] = gone->next;
  if (gone->next)
    gone->next->previous = gone->previous;
  auto d = gone->digest(name_hash(gone->name()));
  o.digests[gone->bucket] -= d;
  o.sum -= d;
  --o.rows;
  o.sessions -= gone->is_session();
  size_.fetch_sub(1, std::memory_order_relaxed);
  std::free(gone);
}

bool table::remove(peer_number node, const row& r) {
  if (!at(node).rows)
    return false;
  auto& s = of(r.name->hash());
  std::lock_guard guard{s.mutex};
  auto* found = find_in(s.head(*r.name), node, r);
  if (!found || found->epoch > r.epoch)
    return false;
  auto home_before = home_in(s.head(*r.name));
  unlink(s, found);
  note_move(s, r.name->hash(), home_before, home_in(s.head(*r.name)));
  return true;
}

row table::to_row(const stored& s) {
  row r;
  r.name = *xmpp::parse_jid(s.name()); // it was one when it came in
  r.session = s.session;
  r.clock = s.clock;
  r.ref = s.ref;
  r.epoch = s.epoch;
  r.reactor = s.reactor;
  r.kind = static_cast<row_kind>(s.kind);
  r.what = {s.capabilities, s.priority, s.flags};
  return r;
}

bool table::purge(peer_number node, std::size_t most, const std::function<void(const row&)>& gone) {
  auto& o = at(node);
  for (; o.rows > 0 && o.purged_to < bucket_count; ++o.purged_to)
    while (auto* i = o.heads[o.purged_to]) {
      if (most-- == 0)
        return false;
      auto r = to_row(*i);
      auto& s = of(i->hash);
      {
        std::lock_guard guard{s.mutex};
        unlink(s, i);
      }
      gone(r);
    }
  o.purged_to = 0;
  return true;
}

std::uint64_t table::digest(peer_number node, std::uint32_t bucket) const {
  const auto* o = at(node);
  return o ? o->digests[bucket] : 0;
}

std::uint64_t table::digest(peer_number node) const {
  const auto* o = at(node);
  return o ? o->sum : 0;
}

void table::for_each(peer_number node, std::uint32_t bucket, const std::function<void(const row&)>& f) const {
  if (const auto* o = at(node))
    for (const auto* i = o->heads[bucket]; i; i = i->next)
      f(to_row(*i));
}

} // namespace cluster
