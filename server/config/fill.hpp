// From checked values to the typed configuration.
#pragma once
#include "server/config/values.hpp"

namespace server {

/// A [host."…"] that stands in the file.
struct named_host {
  std::string domain; // prepared
  std::uint32_t line = 0, column = 0;
};

/// Fills `out.config` and `out.effective`, and complains in `out.problems` of what fits its key but not
/// the rest: domains, addresses, JIDs, what excludes each other.
void fill(loaded& out, value_table& values, const std::vector<std::unique_ptr<modules::module>>& modules,
          const std::vector<named_host>& hosts);

} // namespace server
