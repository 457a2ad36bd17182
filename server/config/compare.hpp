// What differs between the configuration in force and the files as they are now.
#pragma once
#include "server/config/load.hpp"

namespace server {

struct changed_value {
  std::string key;           // with its host: host."example.org".limits.roster
  std::string before, after; // as they could be written in a file; empty: not set there
  bool is_live = false;      // a reload is enough
};

/// In the order of the keys.
[[nodiscard]] std::vector<changed_value> compare(const std::vector<effective_value>& in_force, const std::vector<effective_value>& written,
                                                 const std::vector<key>& keys);

} // namespace server
