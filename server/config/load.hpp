// From a TOML file and the environment to a checked configuration, or to every mistake in them.
#pragma once
#include "server/config/config.hpp"
#include "server/config/keys.hpp"

namespace server {

/// One mistake, with all that is needed to mend it.
struct problem {
  std::string file;     // or "environment"
  std::uint32_t line = 0, column = 0;
  std::string key;      // "" where it is about the file
  std::string found, allowed;
  std::string remedy;   // the line to write instead, or what to do
  std::string meant;    // the name that was meant, where one is near enough

  friend bool operator==(const problem&, const problem&) = default;
};
/// "covey.toml:3:5: limits.rostr: found an unknown key (did you mean limits.roster?); allowed is …", and
/// the remedy on a line of its own.
[[nodiscard]] std::string to_text(const problem& p);

struct effective_value {
  std::string key, text; // as it could be written in a file
  std::string origin;    // "default", "covey.toml:3", "environment"
};

struct loaded {
  server::config config;
  std::vector<problem> problems; // none: the configuration can be used
  std::vector<effective_value> effective;
};

using environment = std::vector<std::pair<std::string, std::string>>;

/// What would stand in the file of a host that was added at run time; no text: nothing, it goes.
struct host_file {
  std::string domain;
  std::optional<std::string> text;
};

struct load_options {
  bool checks_machine = true; // certificates, folders, ports: what lies outside the file
  bool checks_ports = true;   // false where the server itself is running
  std::string hosts_folder = {};           // empty: that in the configured data folder
  std::optional<host_file> instead = {};   // of what is in that folder
};

/// Never throws. At most 100 mistakes of syntax are listed. `env`: only names that begin with COVEY_ are looked at.
[[nodiscard]] loaded load_config(const std::string& file, const environment& env, const load_options& how = {});
/// Where hosts that were added at run time have their files: DOMAIN.toml each.
[[nodiscard]] inline std::string hosts_folder_in(const std::string& data_folder) { return data_folder + "/hosts"; }
/// This process's environment.
[[nodiscard]] environment own_environment();

inline constexpr int exit_config = 78; // EX_CONFIG of sysexits.h

} // namespace server
