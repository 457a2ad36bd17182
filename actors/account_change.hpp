// One change of one contact, as an operation of its account: decide, write, then what follows.
#pragma once
#include "actors/account.hpp"
#include "actors/account_rows.hpp"

namespace actors {

/// Decided on the roster as it is; decided again where somebody else wrote in between (DESIGN: at most five times).
struct account::change {
  change(xmpp::jid_ref bare, const xmpp::stanza_ref& why) : who(std::move(bare)), cause(why) {}
  virtual ~change() = default;

  /// `known`: the contact in memory, or null. False: nothing has to be written. An error refuses the cause.
  virtual base::result<bool, xmpp::stanza_error> decide(account& self, const contact* known) = 0;
  /// Makes of the row (a new one for a contact that has none) what is to be written.
  virtual void apply(rows::stored_item& row) const = 0;
  /// It is durable, or there was nothing to write. `version`: the roster's, for clients.
  virtual void done(account& self, const std::string& version, effects& out) = 0;
  virtual void refused(account& self, const xmpp::stanza_error& why, effects& out) = 0;

  const xmpp::jid_ref who; // bare
  const xmpp::stanza_ref cause;
  rows::stored_item row;   // as it was written
  bool is_written = false;
  int attempts = 0;
};

} // namespace actors
