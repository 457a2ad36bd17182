// Ways between nodes that are cut for a while, unless all is healed before. What is passed lives as long as the run.
#pragma once
#include "tests/sim/network.hpp"
#include <utility>

namespace sim {

using ways = std::vector<std::pair<std::size_t, std::size_t>>; // from, to

inline void cut_for(world& w, network& net, const bool& is_healed, ways cut, duration length) {
  for (auto [n, m] : cut)
    net.block(n, m, true);
  w.after(length, [&w, &net, &is_healed, cut = std::move(cut)] {
    if (is_healed)
      return;
    for (auto [n, m] : cut)
      net.block(n, m, false);
    w.trace("a split heals");
  });
}

/// Milliseconds of silence, with or without a reset.
inline void flap(world& w, network& net, const bool& is_healed, std::size_t a, std::size_t b, int times) {
  if (times == 0 || is_healed)
    return;
  net.block(a, b, true);
  net.block(b, a, true);
  if (w.luck.in(2))
    net.reset(a, b);
  w.after(w.luck.between(1ms, 20ms), [&w, &net, &is_healed, a, b, times] {
    if (is_healed)
      return;
    net.block(a, b, false);
    net.block(b, a, false);
    w.after(w.luck.between(1ms, 300ms), [&w, &net, &is_healed, a, b, times] { flap(w, net, is_healed, a, b, times - 1); });
  });
}

} // namespace sim
