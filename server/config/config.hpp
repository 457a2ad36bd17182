// The whole configuration as plain values, after parsing, defaults and checks.
#pragma once
#include "actors/host.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include <map>
#include <string>
#include <vector>

namespace server {

struct listen_at {
  std::string address;
  std::uint16_t port = 0;
};

/// A module's setting: the text as written (or its default) and its value.
struct setting_value {
  std::int64_t number = 0; // also durations in ms, sizes in bytes
  bool flag = false;
  std::string text;
  std::vector<std::string> list;
};
using module_settings = std::map<std::string, setting_value>; // by key

struct host_config {
  std::string domain;                // prepared
  std::string file = {};             // its own, where it was added at run time
  std::string certificate, key;      // files; empty: the local certificate authority's
  std::string engine = "rocksdb";    // or "memory"
  std::vector<std::string> admins;   // bare JIDs
  std::map<std::string, bool> modules_on;
  std::map<std::string, module_settings> modules;
  std::vector<std::string> mechanisms;
  bool plain_without_tls = false, require_tls = true;
  actors::conflict_policy on_conflict = actors::conflict_policy::replace;
  /// On one stream. Clients that do not know our channel bindings need up to five to get to PLAIN.
  std::uint8_t max_login_attempts = 6;
  std::uint32_t max_sessions = 20, max_roster = 2'000;
};

struct config {
  std::string data_folder = "/var/lib/covey", run_folder = "/run/covey";
  std::uint32_t reactors = 0; // 0: one per core
  base::log::level log_level = base::log::level::info;
  base::log::format log_format = base::log::format::text;
  std::string log_file;
  std::vector<listen_at> c2s{{"0.0.0.0", 5222}, {"::", 5222}};
  std::vector<listen_at> c2s_direct{{"0.0.0.0", 5223}, {"::", 5223}};
  std::vector<listen_at> http{{"127.0.0.1", 5280}};
  std::uint32_t iterations = 10'000; // of SCRAM keys
  actors::node_settings node;
  std::vector<host_config> hosts;
};

} // namespace server
