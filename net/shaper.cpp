// The buckets of addresses.
#include "net/shaper.hpp"
#include "base/bytes.hpp"

namespace net {

std::size_t address_rates::hash::operator()(const address_key& k) const {
  return base::hash_bytes({reinterpret_cast<const char*>(&k.bits), sizeof k.bits}) ^ (k.is_v6 ? 1 : 0);
}

std::shared_ptr<address_rates::bucket> address_rates::of(address_key key, base::time_point now) {
  std::lock_guard guard{mutex_};
  if (!rates_)
    return nullptr;
  if (buckets_.size() >= sweep_at_) { // amortised: the next time is at twice of what is left
    std::erase_if(buckets_, [&](auto& b) {
      std::lock_guard its_own{b.second->mutex_};
      return b.second.use_count() == 1 && b.second->buckets_.is_full(rates_, now);
    });
    sweep_at_ = std::max<std::size_t>(1'024, buckets_.size() * 2);
  }
  auto& b = buckets_[key];
  if (!b)
    b = std::make_shared<bucket>();
  return b;
}

std::size_t address_rates::size() const {
  std::lock_guard guard{mutex_};
  return buckets_.size();
}

} // namespace net
