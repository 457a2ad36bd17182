// The whole examination, in order. Changes nothing but a file of its own in the data folder, which it
// removes; takes some seconds at most, also where DNS is silent.
#pragma once
#include "server/config/load.hpp"
#include "server/doctor/finding.hpp"

namespace server::doctor {

struct options {
  std::string file; // of the configuration
  environment env;
  std::string nameserver; // "ADDRESS" or "ADDRESS:PORT"; empty: this machine's
};
/// Empty: a bad nameserver, nothing else.
[[nodiscard]] findings examine(const options& o);

/// A line of `coveyd --check-connections`.
void add_database(const std::string& line, findings& out);

} // namespace server::doctor
