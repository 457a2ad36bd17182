// Rotation happens when somebody looks.
#include "net/ticket_keys.hpp"
#include <algorithm>
#include <openssl/crypto.h>

namespace net {

ticket_keys::~ticket_keys() {
  forget_old(base::time_point::max());
  forget_shared();
}

void ticket_keys::forget_shared() {
  for (auto& k : shared_)
    OPENSSL_cleanse(&k, sizeof k);
  shared_.clear();
}

void ticket_keys::share(std::vector<key> all) {
  std::lock_guard guard{mutex_};
  forget_shared();
  shared_ = std::move(all);
}

void ticket_keys::forget_old(base::time_point now) {
  auto is_old = [&](const kept& k) { return now - k.since >= 2 * rotation_; };
  auto first = std::ranges::find_if_not(keys_, is_old);
  for (auto i = keys_.begin(); i != first; ++i)
    OPENSSL_cleanse(&i->k, sizeof i->k); // forward secrecy hangs on it
  keys_.erase(keys_.begin(), first);
}

ticket_keys::key ticket_keys::current(base::time_point now) {
  std::lock_guard guard{mutex_};
  forget_old(now);
  if (!shared_.empty())
    return shared_.front();
  if (keys_.empty() || now - keys_.back().since >= rotation_) {
    keys_.reserve(3); // no copy is left behind by growing
    kept fresh{{}, now};
    fresh.k.id = random_.number();
    random_.fill(fresh.k.cipher);
    random_.fill(fresh.k.mac);
    keys_.push_back(fresh);
  }
  return keys_.back().k;
}

std::optional<ticket_keys::found> ticket_keys::find(std::uint64_t id, base::time_point now) {
  std::lock_guard guard{mutex_};
  forget_old(now);
  if (auto s = std::ranges::find(shared_, id, &key::id); s != shared_.end())
    return found{*s, s == shared_.begin()};
  auto i = std::ranges::find(keys_, id, [](auto& k) { return k.k.id; });
  if (i == keys_.end())
    return std::nullopt;
  return found{i->k, shared_.empty() && i + 1 == keys_.end() && now - i->since < rotation_};
}

} // namespace net
