// How fast one connection may be read: by its listener, its account's class and its address. Nothing is
// dropped: who is too fast is not read for a while, and the network tells the peer.
#pragma once
#include "base/token_bucket.hpp"
#include "net/address_counter.hpp"
#include <memory>

namespace net {

struct rates {
  base::rate bytes, stanzas;
  explicit operator bool() const { return bytes || stanzas; }
  friend bool operator==(const rates&, const rates&) = default;
};

/// Two buckets that fill at one connection's or one address's rates.
class shaped {
public:
  base::duration take(std::uint64_t bytes, std::uint64_t stanzas, const rates& r, base::time_point now) {
    return std::max(bytes_.take(bytes, r.bytes, now), stanzas_.take(stanzas, r.stanzas, now));
  }
  [[nodiscard]] bool is_full(const rates& r, base::time_point now) const {
    return bytes_.is_full(r.bytes, now) && stanzas_.is_full(r.stanzas, now);
  }

private:
  base::token_bucket bytes_, stanzas_;
};

/// The buckets of all addresses. Any thread. One is kept as long as a connection holds it or it is not
/// full again, so that a new connection is no new burst.
class address_rates {
public:
  explicit address_rates(const rates& r) : rates_(r) {}
  address_rates(const address_rates&) = delete;

  class bucket {
  public:
    base::duration take(std::uint64_t bytes, std::uint64_t stanzas, const rates& r, base::time_point now) {
      std::lock_guard guard{mutex_};
      return buckets_.take(bytes, stanzas, r, now);
    }

  private:
    friend class address_rates;
    std::mutex mutex_;
    shaped buckets_;
  };

  /// Null where addresses have no rates.
  [[nodiscard]] std::shared_ptr<bucket> of(address_key key, base::time_point now);
  /// Connections that are there keep what they were given.
  void change(const rates& r) {
    std::lock_guard guard{mutex_};
    rates_ = r;
  }
  [[nodiscard]] std::size_t size() const;

private:
  struct hash {
    std::size_t operator()(const address_key& k) const;
  };
  rates rates_;
  mutable std::mutex mutex_;
  std::unordered_map<address_key, std::shared_ptr<bucket>, hash> buckets_;
  std::size_t sweep_at_ = 1'024; // size at which those that nobody needs go
};

/// Of one connection. One thread.
class shaper {
public:
  shaper(const rates& listener, std::shared_ptr<address_rates::bucket> address, const rates& of_address)
    : listener_(listener), of_address_(of_address), address_(std::move(address)) {}
  /// Once it has logged in. `r` replaces nothing: the slowest of all three counts.
  void set_account(const rates& r) { account_ = r; }

  /// What was read; how long nothing more is.
  base::duration take(std::uint64_t bytes, std::uint64_t stanzas, base::time_point now) {
    auto wait = std::max(by_listener_.take(bytes, stanzas, listener_, now), by_account_.take(bytes, stanzas, account_, now));
    return address_ ? std::max(wait, address_->take(bytes, stanzas, of_address_, now)) : wait;
  }
  /// At most so much is read at once: else a single read would be a burst of its own.
  [[nodiscard]] std::size_t most_bytes(std::size_t room) const {
    for (auto* r : {&listener_.bytes, &account_.bytes, &of_address_.bytes})
      if (*r)
        room = std::min<std::size_t>(room, std::max(r->burst, least_read));
    return room;
  }

private:
  static constexpr std::uint32_t least_read = 512;
  rates listener_, account_, of_address_;
  shaped by_listener_, by_account_;
  std::shared_ptr<address_rates::bucket> address_;
};

} // namespace net
