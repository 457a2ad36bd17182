// Certificates of the local authority: made where none is configured, made anew before they end.
#pragma once
#include "server/config/config.hpp"

namespace server {

struct provided {
  bool is_any_new = false;
  std::string failed; // of the first host that has none now: a text for the operator
};
/// Fills in the local authority's certificate where a host names none; makes what is missing or ends within
/// 30 days. Reads and writes files.
[[nodiscard]] provided provide_certificates(config& c);

} // namespace server
