// The whole configuration as plain values, after parsing, defaults and checks.
#pragma once
#include "actors/host.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include "net/endpoint.hpp"
#include "net/proxy_reader.hpp"
#include "net/tls_identity.hpp"
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
  std::string client_ca;             // file; empty: EXTERNAL is not to be had
  std::string engine = "rocksdb";    // or "postgresql", "memory"
  std::string node, clients;         // in a cluster: the only one that serves it, and where its clients are sent
  std::string connection;            // of PostgreSQL; may have a password in it
  std::vector<std::string> admins;   // bare JIDs
  std::map<std::string, bool> modules_on;
  std::map<std::string, module_settings> modules;
  std::vector<std::string> mechanisms, upgrade;
  bool has_tokens = true;
  base::duration token_lifetime = std::chrono::days{21}, token_rotation = std::chrono::days{1};
  std::uint32_t clients_with_tokens = 10;
  bool plain_without_tls = false, require_tls = true;
  actors::conflict_policy on_conflict = actors::conflict_policy::replace;
  /// On one stream. Clients that do not know our channel bindings need up to seven to get to PLAIN.
  std::uint8_t max_login_attempts = 8;
  std::uint32_t max_sessions = 20, max_roster = 2'000;
  actors::management_settings management;
  bool has_client_state = true;
  bool has_compression = false;
  net::rates account_rates;
  actors::keepalive keepalive;
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
  std::vector<listen_at> proxied, shaped; // of c2s and c2s_direct
  std::vector<net::network> trusted_proxies;
  net::proxy_limits proxies;
  net::tls_options tls{.tickets = 1};
  std::chrono::milliseconds ticket_rotation = std::chrono::hours{12};
  std::uint32_t iterations = 10'000; // of SCRAM keys
  std::size_t write_buffer = 4u << 20, block_cache = 4u << 20; // of the embedded store
  std::size_t database_readers = 4;  // connections to each PostgreSQL database
  base::duration database_patience = std::chrono::seconds{30};
  /// Where there is a certificate for a cluster in the data folder.
  std::string cluster_listen = "0.0.0.0:5290", cluster_address; // empty: as listened at, or the machine's name
  std::vector<std::string> cluster_seeds;
  actors::node_settings node;
  std::vector<host_config> hosts;
  std::vector<host_config> elsewhere; // those that another node serves alone; the runner moves them here

  /// What this host's certificate is served with.
  [[nodiscard]] net::tls_options tls_of(const host_config& h) const {
    auto all = tls;
    all.client_ca = h.client_ca;
    return all;
  }
};

} // namespace server
