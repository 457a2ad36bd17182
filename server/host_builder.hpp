// One virtual host as actors want it, from its configuration: each change of settings builds a new one.
#pragma once
#include "actors/node.hpp"
#include "server/accounts.hpp"
#include "server/config/config.hpp"

namespace server {

/// What a host keeps for as long as the server runs, whatever becomes of its settings.
struct host_base {
  std::unique_ptr<storage::store> own_store; // null: shared with other hosts
  storage::store* store = nullptr;
  std::unique_ptr<stored_accounts> accounts;
  std::string fake_secret;     // of the challenges for unknown users
  std::string token_secret;    // what tokens are worked out with
  base::siphash_key stanza_id_key;
};

/// With modules of its own, so that hosts may have different settings. What it refers to lives as long as
/// the result: modules, their settings and services. `h`: one of those of `c`. `base` and `node` outlive it.
[[nodiscard]] actors::host_ref build_host(const host_config& h, const config& c, bool has_tls, host_base& base, actors::node& node);

} // namespace server
