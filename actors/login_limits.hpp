// How many failed logins an account or an address may have in a while, over all streams. Bounded.
#pragma once
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include <algorithm>
#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <mutex>
#include <string>

namespace actors {

/// Any thread. A name is an account or an address; each failure takes one from its allowance, which refills evenly over
/// `window`. However many fail at once, it is full again a window after the last one.
class login_limits {
public:
  struct settings {
    std::uint32_t failures = 20; // in a window, per account and per address
    base::duration window = std::chrono::minutes{5};
    std::size_t most_names = 65'536;
    friend bool operator==(const settings&, const settings&) = default;
  };
  explicit login_limits(const settings& s) : settings_(s) {}
  /// What has failed so far counts by the old ones.
  void change(const settings& s) {
    for (auto& each : shards_)
      each.mutex.lock();
    settings_ = s;
    for (auto& each : shards_)
      each.mutex.unlock();
  }

  [[nodiscard]] bool may_try(const std::string& name, base::time_point now) {
    auto& s = of(name);
    std::lock_guard guard{s.mutex};
    auto i = s.until.find(name);
    return i == s.until.end() || i->second - now <= settings_.window - step();
  }
  void on_failure(const std::string& name, base::time_point now) {
    auto& s = of(name);
    std::lock_guard guard{s.mutex};
    if (s.until.size() >= settings_.most_names / shards && !s.until.contains(name)) {
      boost::unordered::erase_if(s.until, [&](auto& e) { return e.second <= now; });
      if (s.until.size() >= settings_.most_names / shards)
        return; // a flood of names: those that are there stay limited
    }
    auto& until = s.until[name];
    until = std::min(std::max(until, now) + step(), now + settings_.window);
  }
  void on_success(const std::string& name) {
    auto& s = of(name);
    std::lock_guard guard{s.mutex};
    s.until.erase(name);
  }

private:
  [[nodiscard]] base::duration step() const { return settings_.window / settings_.failures; }
  static constexpr std::size_t shards = 16;
  /// When the name's failures will all be forgotten.
  struct shard {
    std::mutex mutex;
    boost::unordered_flat_map<std::string, base::time_point> until;
  };
  shard& of(const std::string& name) { return shards_[base::hash_bytes(name) % shards]; }
  settings settings_;
  std::array<shard, shards> shards_;
};

} // namespace actors
