// The account's own rows: what roster, head and requests look like in the store.
#pragma once
#include "storage/engine.hpp"
#include "xmpp/errors.hpp"
#include "xmpp/im/roster.hpp"

namespace actors::rows {

/// What a client is told when the store fails.
[[nodiscard]] xmpp::stanza_error error_of(storage::errc e);
[[nodiscard]] xmpp::stanza_error error_of(storage::outcome o);

/// At most one row: the account's own. Empty: there is no such account.
[[nodiscard]] storage::key_range account_range(const xmpp::jid& bare);

/// The fence of everything that changes an account: versions, and the roster's version for clients.
struct head {
  std::uint64_t row_version = 0;    // 0: there is no row yet
  std::uint64_t roster_version = 0;
};
[[nodiscard]] storage::key_range head_range(const xmpp::jid& bare);
[[nodiscard]] base::result<head, storage::errc> decode_head(const std::vector<storage::row>& rows);

[[nodiscard]] storage::key_range roster_range(const xmpp::jid& bare);
[[nodiscard]] storage::key_range roster_item_range(const xmpp::jid& bare, const xmpp::jid& contact);
struct stored_item {
  xmpp::im::roster_item item;
  std::string request; // the contact's subscribe stanza while it is unanswered (RFC 6121 section 3.1.3)
};
[[nodiscard]] base::result<stored_item, storage::errc> decode_item(const storage::row& row);

/// One roster change: the item (or its removal) and the head, whose version must be the expected one.
[[nodiscard]] storage::batch change(const xmpp::jid& bare, const stored_item& item, bool removes, const head& before);

} // namespace actors::rows
