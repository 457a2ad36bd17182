// What an operator sees of one session.
#pragma once
#include <cstdint>
#include <string>

namespace actors {

struct session_info {
  std::string jid, peer;
  bool is_tls = false;
  std::int64_t since = 0; // seconds since 1970
  std::uint16_t reactor = 0;
  std::int8_t priority = 0;
  bool is_available = false;
  std::uint64_t id = 0;
  std::uint64_t stream = 0; // in the log
};

} // namespace actors
