// An account as modules see it.
#pragma once
#include "modules/api/effects.hpp"
#include "xmpp/im/subscription.hpp"
#include <any>
#include <span>

namespace modules {

struct host_view;

struct session_view {
  std::uint64_t id = 0;
  xmpp::jid_ref full;
  std::int8_t priority = 0;
  bool is_available = false;
  bool wants_copies = false;    // of what the others are sent and send (XEP-0280)
  bool is_interested = false;   // asked for the roster: gets roster pushes (RFC 6121 section 2.2)
  xmpp::stanza_ref presence;    // the last one it broadcast
};

class account_view {
public:
  virtual ~account_view() = default;
  [[nodiscard]] virtual const xmpp::jid_ref& bare() const = 0;
  [[nodiscard]] virtual const host_view& host() const = 0;
  [[nodiscard]] virtual std::span<const session_view> sessions() const = 0;
  /// Of the roster, where it is loaded; nothing for strangers.
  [[nodiscard]] virtual bool may_see_presence(const xmpp::jid& contact) const = 0;
  [[nodiscard]] virtual bool knows(const xmpp::jid& contact) const = 0;
  /// What a module keeps with this account while it is in memory; empty at first.
  virtual std::any& state(const void* module) = 0;
  /// Never null. `share` hands a new one to every session, those that come later too.
  [[nodiscard]] virtual const snapshot_ref& snapshot() const = 0;
  virtual void share(snapshot_ref fresh, effects& out) = 0;
  /// Whether this session gets copies; the snapshot follows.
  virtual void want_copies(std::uint64_t session, bool wants, effects& out) = 0;
  /// Messages to this session wait (IQs and presence do not) until released; RFC 6121 section 8.
  virtual void hold_messages(std::uint64_t session) = 0;
  virtual void release_messages(std::uint64_t session, effects& out) = 0;
};

} // namespace modules
