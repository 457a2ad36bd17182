// How many connections one address may have at once: those that have not logged in, those that have. Bounded.
#pragma once
#include "net/endpoint.hpp"
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace net {

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 one (whoever has one address of
/// it has them all). IPv4 within IPv6 is IPv4.
struct address_key {
  std::uint64_t bits = 0;
  bool is_v6 = false;
  bool operator==(const address_key&) const = default;
};
[[nodiscard]] address_key key_of(const endpoint& e);

/// "192.0.2.1" or "2001:db8::/64".
[[nodiscard]] std::string name_of(const address_key& k);

/// Any thread. Counts from accept, so that unfinished handshakes count, too.
class address_counter {
public:
  struct limits {
    std::uint32_t per_address = 100;
    std::uint32_t total = 20'000; // of all addresses: also the bound on memory
    friend bool operator==(const limits&, const limits&) = default;
  };
  explicit address_counter(const limits& l) : limits_(l) {}
  address_counter(const address_counter&) = delete;

  /// A counted connection, until destroyed or given up: at login, or with the connection. Any thread.
  /// The counter must outlive it.
  class place {
  public:
    place() = default;
    place(place&& other) noexcept : in_(std::exchange(other.in_, nullptr)), key_(other.key_) {}
    place& operator=(place&& other) noexcept {
      if (this != &other) {
        give_up();
        in_ = std::exchange(other.in_, nullptr);
        key_ = other.key_;
      }
      return *this;
    }
    ~place() { give_up(); }
    void give_up() {
      if (auto* in = std::exchange(in_, nullptr))
        in->leave(key_);
    }
    /// Counted there instead. False: there is no room; then it is counted nowhere.
    [[nodiscard]] bool move_to(address_counter& other) {
      auto was_counted = in_ != nullptr;
      give_up();
      std::optional<place> there{place{}};
      if (was_counted)
        there = other.enter(key_);
      if (!there)
        return false;
      *this = std::move(*there);
      return true;
    }

  private:
    friend class address_counter;
    place(address_counter& in, address_key key) : in_(&in), key_(key) {}
    address_counter* in_ = nullptr;
    address_key key_;
  };

  /// Nothing: the address, or all of them together, have too many.
  [[nodiscard]] std::optional<place> enter(address_key key);
  [[nodiscard]] std::uint32_t total() const;
  /// Those that are in stay.
  void change(const limits& l) {
    std::lock_guard guard{mutex_};
    limits_ = l;
  }

private:
  void leave(address_key key);
  struct hash {
    std::size_t operator()(const address_key& k) const;
  };
  limits limits_;
  mutable std::mutex mutex_; // taken twice per connection
  std::uint32_t total_ = 0;
  std::unordered_map<address_key, std::uint32_t, hash> counts_; // never 0
};

} // namespace net
