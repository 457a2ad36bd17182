// The database that every node reaches: storage::memory_engine behind a delay, away at times, and full at times.
#pragma once
#include "storage/memory/engine.hpp"
#include "tests/sim/world.hpp"
#include <map>
#include <optional>

namespace sim {

class store {
public:
  explicit store(world& w) : world_(w) {}

  /// Outcomes come back later; whoever asked may be gone by then.
  void commit(std::size_t node, storage::batch b, std::function<void(storage::outcome)> then) {
    auto [there, back] = delays(node);
    world_.after(there, [this, node, back = back, b = std::move(b), then = std::move(then)] {
      auto how = is_away(node) ? storage::outcome::unavailable : engine_.commit({&b, 1}).front();
      if (how == storage::outcome::done)
        for (const auto& c : b.changes)
          if (const auto* p = std::get_if<storage::put>(&c); p && p->key.starts_with("w/"))
            owners_work.push_back({p->key, p->value, world_.now()});
      done_[{b.id.a, b.id.b}] = how == storage::outcome::done;
      if (how == storage::outcome::done && unknown_percent && world_.luck.percent(unknown_percent))
        how = storage::outcome::unknown; // done, and the answer was lost
      else if (how == storage::outcome::unavailable && unknown_percent && world_.luck.percent(unknown_percent))
        how = storage::outcome::unknown; // not done, and nobody said so
      world_.after(back, [then, how] { then(how); });
    });
  }
  /// Whether an unknown batch took place (engine::resolve); false once: never.
  void resolve(std::size_t node, base::u128 batch, std::function<void(std::optional<bool>)> then) {
    auto [there, back] = delays(node);
    world_.after(there, [this, node, back = back, batch, then = std::move(then)] {
      auto answer = is_away(node) ? std::nullopt : std::optional{done_[{batch.a, batch.b}]};
      world_.after(back, [then, answer] { then(answer); });
    });
  }
  using rows = base::result<std::vector<storage::row>, storage::errc>;
  void scan(std::size_t node, storage::key_range range, std::function<void(rows)> then) {
    auto [there, back] = delays(node);
    world_.after(there, [this, node, back = back, range = std::move(range), then = std::move(then)] {
      rows r = is_away(node) ? rows{base::fail(storage::errc::unavailable)} : engine_.scan(range, storage::order::forward, 1'000);
      world_.after(back, [then, r = std::move(r)] { then(std::move(r)); });
    });
  }
  [[nodiscard]] storage::memory_engine& engine() { return engine_; }

  /// What owners of leases wrote, in order.
  struct written { std::string key, value; time_point when; };
  std::vector<written> owners_work;

  bool is_down = false;
  std::vector<bool> cut_off = std::vector<bool>(64); // that node does not reach it
  duration slowest = 3ms;
  unsigned unknown_percent = 0;

private:
  [[nodiscard]] bool is_away(std::size_t node) const { return is_down || cut_off[node]; }
  std::pair<duration, duration> delays(std::size_t node) {
    if (is_away(node))
      return {5ms, 50ms};
    return {world_.luck.between(100us, slowest), world_.luck.between(100us, slowest)};
  }
  world& world_;
  storage::memory_engine engine_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, bool> done_;
};

} // namespace sim
