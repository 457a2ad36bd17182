// Which messages a session has written in the last while, by 8 bytes of their stanza-ids: what comes again is known
// (docs/delivery.md). Pure.
#pragma once
#include "base/clock.hpp"
#include <algorithm>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstdint>
#include <utility>

namespace xmpp::stream {

/// Two generations: an id is known for `life` to twice that, at least while no more than `most` came meanwhile. `since`: until then
/// somebody was away who may send again what he has; no time before it counts.
class recent_ids {
public:
  static constexpr base::duration life = std::chrono::seconds{30};
  static constexpr std::size_t most = 2'048;

  [[nodiscard]] bool contains(std::uint64_t id, base::time_point now, base::time_point since = {}) {
    age(now, since);
    return young_.contains(id) || old_.contains(id);
  }
  void insert(std::uint64_t id, base::time_point now, base::time_point since = {}) {
    age(now, since);
    if (young_.size() >= most)
      turn(now);
    young_.insert(id);
  }

  /// One of them had been sent once more: the first of it, which does not look like one that comes again, may still come.
  void overtake(base::time_point now) { overtaken_ = now; }
  [[nodiscard]] bool may_be_overtaken(base::time_point now) const { return overtaken_ != base::time_point{} && now - overtaken_ < 2 * life; }
  template <class F>
  void for_each(F f) const {
    for (auto* generation : {&old_, &young_})
      for (auto id : *generation)
        f(id);
  }

private:
  void age(base::time_point now, base::time_point since) {
    begin_ = std::max(begin_, since);
    if (now - begin_ >= 2 * life)
      young_ = {};
    if (now - begin_ >= life)
      turn(now);
  }
  void turn(base::time_point now) {
    old_ = std::exchange(young_, {});
    begin_ = now;
  }
  struct as_it_is { // the ids are hashes
    using is_avalanching = void;
    std::size_t operator()(std::uint64_t id) const { return id; }
  };
  boost::unordered_flat_set<std::uint64_t, as_it_is> young_, old_;
  base::time_point begin_{};     // of the young ones
  base::time_point overtaken_{}; // last
};

} // namespace xmpp::stream
