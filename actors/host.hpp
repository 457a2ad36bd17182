// One virtual host at run time: what its modules registered, its store, who checks passwords.
#pragma once
#include "actors/keepalive.hpp"
#include "modules/api/module.hpp"
#include "net/shaper.hpp"
#include "storage/store.hpp"
#include "xmpp/sasl/credentials.hpp"
#include "xmpp/stream/negotiation.hpp"
#include <memory>

namespace actors {

/// What happens when a resource is bound twice (RFC 6120 section 7.7.2.2).
enum class conflict_policy : std::uint8_t { replace, refuse, rename };

/// XEP-0198.
struct management_settings {
  bool is_on = true;
  std::chrono::seconds window{600};           // a session waits so long to be resumed
  std::chrono::seconds longest_window{3'600}; // where its client asks for another time
};

/// Immutable; a change of settings or modules makes a new one. Sessions and entities keep theirs.
struct host {
  modules::host_view view;
  storage::store* store = nullptr;              // outlives all hosts
  base::duration storage_wait{}; // of one read or commit, where that is longer than the node's: a database may be away for a while
  bool is_shared = false; // other nodes serve it, too, from the same database
  bool is_pinned = false; // this node alone serves it, though there are others
  xmpp::sasl::credentials* credentials = nullptr;
  xmpp::stream::host_settings stream;
  conflict_policy on_conflict = conflict_policy::replace;
  management_settings management;
  bool has_client_state = true;                 // XEP-0352
  std::uint32_t max_sessions = 20;              // per account
  std::uint32_t max_roster = 2'000;             // contacts per account
  net::rates account_rates;                     // of each connection that logged in, but for administrators
  actors::keepalive keepalive;
};
using host_ref = std::shared_ptr<const host>;

/// A host that another node of the cluster serves alone.
struct host_elsewhere {
  std::string domain, node;
  xmpp::stream::host_settings stream; // its clients are sent there
};
using host_elsewhere_ref = std::shared_ptr<const host_elsewhere>;

} // namespace actors
