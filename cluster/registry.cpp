// The session registry of one node: 64 shards, a lock each.
#include "cluster/registry.hpp"
#include <algorithm>
#include <mutex>

namespace cluster {

registry::found registry::charge(const xmpp::jid& to, std::uint32_t bytes) {
  auto& s = of(to.hash());
  std::shared_lock guard{s.mutex}; // the charge is taken under it: see remove_if_idle
  auto i = s.rows.find(key{to.hash(), to.bare()});
  if (i == s.rows.end())
    return {};
  return {i->second.get(), i->second->limit.charge(bytes)};
}

registry::found registry::charge_online(const xmpp::jid& to, std::uint32_t bytes) {
  auto& s = of(to.hash());
  std::shared_lock guard{s.mutex};
  auto i = s.rows.find(key{to.hash(), to.bare()});
  if (i == s.rows.end() || i->second->sessions.load(std::memory_order_relaxed) == 0)
    return {};
  return {i->second.get(), i->second->limit.charge(bytes)};
}

address* registry::charge_if_there(const xmpp::jid& to, std::uint32_t bytes) {
  auto& s = of(to.hash());
  std::shared_lock guard{s.mutex};
  auto i = s.rows.find(key{to.hash(), to.bare()});
  if (i == s.rows.end())
    return nullptr;
  i->second->limit.charge_always(bytes);
  return i->second.get();
}

registry::found registry::charge_or_create(const xmpp::jid_ref& bare, std::uint16_t reactor,
                                           std::uint32_t bytes) {
  if (auto f = charge(*bare, bytes); f.at)
    return f;
  auto& s = of(bare->hash());
  std::lock_guard guard{s.mutex};
  auto i = s.rows.find(key{bare->hash(), bare->bare()}); // somebody may have been faster
  if (i == s.rows.end() && idle_[reactor].load(std::memory_order_relaxed) >= most_idle_.load(std::memory_order_relaxed))
    return {};
  auto& at = i == s.rows.end() ? insert(s, bare, reactor) : *i->second;
  return {&at, at.limit.charge(bytes)};
}

address& registry::insert(shard& s, const xmpp::jid_ref& bare, std::uint16_t reactor) {
  auto fresh = std::make_unique<address>(bare, reactor, limits_);
  auto k = key{bare->hash(), fresh->bare->bare()};
  addresses_.fetch_add(1, std::memory_order_relaxed);
  idle_[reactor].fetch_add(1, std::memory_order_relaxed);
  return *s.rows.emplace(k, std::move(fresh)).first->second;
}

address& registry::charge_always(const xmpp::jid_ref& bare, std::uint16_t reactor,
                                 std::uint32_t bytes) {
  auto& s = of(bare->hash());
  std::lock_guard guard{s.mutex};
  auto i = s.rows.find(key{bare->hash(), bare->bare()});
  auto& at = i == s.rows.end() ? insert(s, bare, reactor) : *i->second;
  at.limit.charge_always(bytes);
  return at;
}

bool registry::remove_if_idle(address& a) {
  auto& s = of(a.bare->hash());
  std::lock_guard guard{s.mutex}; // nobody can look up, hence nobody can charge
  if (a.limit.messages() > 0 || !a.rows_.empty())
    return false;
  idle_[a.reactor].fetch_sub(1, std::memory_order_relaxed);
  s.rows.erase(key{a.bare->hash(), a.bare->bare()});
  addresses_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void registry::publish(address& a, const session_row& row) {
  auto& s = of(a.bare->hash());
  std::lock_guard guard{s.mutex};
  auto i = std::find_if(a.rows_.begin(), a.rows_.end(), [&](auto& r) { return r.id == row.id; });
  if (i == a.rows_.end()) {
    if (a.rows_.empty())
      idle_[a.reactor].fetch_sub(1, std::memory_order_relaxed);
    a.rows_.push_back(row);
    sessions_.fetch_add(1, std::memory_order_relaxed);
  } else {
    *i = row;
  }
  a.sessions.store(static_cast<std::uint32_t>(a.rows_.size()), std::memory_order_relaxed);
}

void registry::relocate(address& a, std::uint64_t id, const place& where) {
  auto& s = of(a.bare->hash());
  std::lock_guard guard{s.mutex};
  for (auto& r : a.rows_)
    if (r.id == id)
      r.where = where;
}

void registry::withdraw(address& a, std::uint64_t id) {
  auto& s = of(a.bare->hash());
  std::lock_guard guard{s.mutex};
  auto gone = std::erase_if(a.rows_, [&](auto& r) { return r.id == id; });
  sessions_.fetch_sub(gone, std::memory_order_relaxed);
  if (gone > 0 && a.rows_.empty())
    idle_[a.reactor].fetch_add(1, std::memory_order_relaxed);
  a.sessions.store(static_cast<std::uint32_t>(a.rows_.size()), std::memory_order_relaxed);
}

std::vector<session_row> registry::sessions_of(const xmpp::jid& bare) const {
  auto& s = of(bare.hash());
  std::shared_lock guard{s.mutex};
  auto i = s.rows.find(key{bare.hash(), bare.bare()});
  return i == s.rows.end() ? std::vector<session_row>{} : i->second->rows_;
}

void registry::for_each_session(const std::function<void(const session_row&)>& f) const {
  for (auto& s : shards_) {
    std::shared_lock guard{s.mutex};
    for (auto& [k, a] : s.rows)
      for (auto& row : a->rows_)
        f(row);
  }
}

bool registry::is_quiet() const {
  for (auto& s : shards_) {
    std::shared_lock guard{s.mutex};
    for (auto& [k, a] : s.rows)
      if (a->limit.messages() > 0)
        return false;
  }
  return true;
}

bool absent_names::contains(const xmpp::jid& bare, base::time_point now) const {
  auto& s = of(bare.hash());
  std::shared_lock guard{s.mutex};
  auto i = s.until.find(std::string{bare.bare()});
  return i != s.until.end() && now < i->second;
}

void absent_names::insert(const xmpp::jid& bare, base::time_point now) {
  auto& s = of(bare.hash());
  std::lock_guard guard{s.mutex};
  if (s.until.size() >= most_per_shard)
    boost::unordered::erase_if(s.until, [&](auto& e) { return e.second <= now; });
  if (s.until.size() >= most_per_shard)
    s.until.clear(); // a flood: forgetting costs one look-up each
  s.until[std::string{bare.bare()}] = now + life_;
}

void absent_names::erase(const xmpp::jid& bare) {
  auto& s = of(bare.hash());
  std::lock_guard guard{s.mutex};
  s.until.erase(std::string{bare.bare()});
}

} // namespace cluster
