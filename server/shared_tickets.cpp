// A period is so many rotations since 1970: nodes agree on it as long as their clocks differ by less than one.
#include "server/shared_tickets.hpp"
#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include "storage/tables.hpp"
#include <algorithm>

namespace server {

namespace tables = storage::tables;

namespace {
std::string name_of(std::int64_t period) { return "tickets-" + std::to_string(period); }
constexpr std::size_t key_bytes = 8 + 32 + 32;

net::ticket_keys::key parse(const std::string& bytes) {
  net::ticket_keys::key k;
  k.id = base::get_be64(bytes);
  std::copy_n(bytes.begin() + 8, k.cipher.size(), k.cipher.begin());
  std::copy_n(bytes.begin() + 40, k.mac.size(), k.mac.begin());
  return k;
}
} // namespace

std::int64_t shared_tickets::period_now() const {
  return clock_.wall().time_since_epoch() / std::chrono::duration_cast<std::chrono::microseconds>(rotation_);
}

void shared_tickets::refresh() {
  auto now = period_now();
  for (auto period : {now - 1, now, now + 1}) {
    {
      std::lock_guard guard{mutex_};
      if (known_.contains(period))
        continue;
    }
    read(period);
  }
  found(now, {}); // the next one's time may have come
}

void shared_tickets::read(std::int64_t period) {
  in_.get(tables::secret_key(name_of(period)), [self = shared_from_this(), period](auto row) {
    if (!row)
      return; // the next refresh asks again
    if (*row) {
      if (auto value = tables::decode_secret(**row))
        self->found(period, *value);
    } else if (period >= self->period_now()) {
      self->make(period);
    }
  });
}

void shared_tickets::make(std::int64_t period) {
  std::string bytes(key_bytes, '\0');
  random_.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
  auto key = tables::secret_key(name_of(period));
  storage::batch b{{random_.number(), random_.number()}, {storage::put{key, tables::encode_secret(bytes)}}, {{key, 0}}, storage::durability::durable};
  b.changes.emplace_back(storage::erase{tables::secret_key(name_of(period - 3))}); // forward secrecy hangs on it
  in_.submit(std::move(b), [self = shared_from_this(), period, bytes](storage::outcome how) {
    if (how == storage::outcome::done)
      self->found(period, bytes);
    else if (how == storage::outcome::conflict)
      self->read(period); // another node was faster
  });
}

/// `bytes` may be empty: only the time has changed.
void shared_tickets::found(std::int64_t period, const std::string& bytes) {
  auto now = period_now();
  std::lock_guard guard{mutex_};
  if (bytes.size() == key_bytes)
    known_.emplace(period, bytes);
  while (!known_.empty() && known_.begin()->first < now - 1) {
    base::crypto::wipe(known_.begin()->second);
    known_.erase(known_.begin());
  }
  if (!known_.contains(now))
    return;
  std::vector<net::ticket_keys::key> all{parse(known_[now])};
  for (auto& [p, k] : known_)
    if (p != now)
      all.push_back(parse(k));
  keys_.share(std::move(all));
}

} // namespace server
