// What an account tells each of its sessions.
#pragma once
#include "base/ref.hpp"
#include <memory>

namespace xmpp::im {
class block_list;
}

namespace modules {

/// At attach and after each change: what must be decided where a client's stanza enters. Immutable and shared by
/// all reactors; a change makes a new one.
struct account_snapshot : base::counted<account_snapshot> {
  account_snapshot() = default;
  account_snapshot(bool copies, std::shared_ptr<const xmpp::im::block_list> list) : copies_sent(copies), blocked(std::move(list)) {}
  bool copies_sent = false;                            // a session wants copies of what the others send (XEP-0280)
  std::shared_ptr<const xmpp::im::block_list> blocked; // null: nobody (XEP-0191)
};
using snapshot_ref = base::ref<const account_snapshot>;

} // namespace modules
