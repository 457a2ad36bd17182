// Counting connections by address.
#include "net/address_counter.hpp"
#include "base/bytes.hpp"
#include <arpa/inet.h>
#include <array>
#include <cstring>

namespace net {

address_key key_of(const endpoint& e) {
  address_key key;
  key.is_v6 = !e.is_v4();
  std::memcpy(&key.bits, e.bytes.data() + (key.is_v6 ? 0 : 12), key.is_v6 ? 8 : 4);
  return key;
}

std::string name_of(const address_key& k) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &k.bits, k.is_v6 ? 8 : 4);
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(k.is_v6 ? AF_INET6 : AF_INET, bytes.data(), text, sizeof text);
  return std::string{text} + (k.is_v6 ? "/64" : "");
}

std::size_t address_counter::hash::operator()(const address_key& k) const {
  return base::hash_bytes({reinterpret_cast<const char*>(&k.bits), sizeof k.bits}) ^ (k.is_v6 ? 1 : 0);
}

std::optional<address_counter::place> address_counter::enter(address_key key) {
  std::lock_guard guard{mutex_};
  if (total_ >= limits_.total)
    return std::nullopt;
  auto& count = counts_[key];
  if (count >= limits_.per_address) {
    if (count == 0)
      counts_.erase(key);
    return std::nullopt;
  }
  ++count;
  ++total_;
  return place{*this, key};
}

void address_counter::leave(address_key key) {
  std::lock_guard guard{mutex_};
  auto i = counts_.find(key);
  if (--i->second == 0)
    counts_.erase(i);
  --total_;
}

std::uint32_t address_counter::total() const {
  std::lock_guard guard{mutex_};
  return total_;
}

} // namespace net
