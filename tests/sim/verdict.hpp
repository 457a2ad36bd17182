// What a checker has found wrong.
#pragma once
#include "tests/sim/world.hpp"

namespace sim {

struct verdict {
  std::vector<std::string> violations;

  template <class... Ts>
  void violate(const world& w, const char* format, Ts... xs) {
    char text[512];
    if constexpr (sizeof...(xs) == 0)
      std::snprintf(text, sizeof text, "%s", format);
    else
      std::snprintf(text, sizeof text, format, xs...);
    w.trace("VIOLATION %s", static_cast<const char*>(text));
    if (violations.size() < 20)
      violations.emplace_back(text);
  }
};

} // namespace sim
