// The account's own rows: what roster, head and requests look like in the store.
#pragma once
#include "modules/api/errors.hpp"
#include "xmpp/im/roster.hpp"

namespace actors::rows {

using modules::error_of;

/// At most one row: the account's own. Empty: there is no such account.
[[nodiscard]] storage::key_range account_range(const xmpp::jid& bare);

/// The fence of everything that changes an account: versions, and the roster's version for clients.
struct head {
  std::uint64_t row_version = 0;    // 0: there is no row yet
  std::uint64_t roster_version = 0;
};
[[nodiscard]] storage::key_range head_range(const xmpp::jid& bare);
using read = base::result<std::vector<storage::row>, storage::errc>;
/// Errors of all decoders: corrupt, and the error of the read. A damaged row is logged; whoever asked must refuse, as
/// what is left out would look as if it had never been there.
[[nodiscard]] base::result<head, storage::errc> decode_head(const xmpp::jid& bare, const read& rows);

[[nodiscard]] storage::key_range roster_range(const xmpp::jid& bare);
[[nodiscard]] storage::key_range roster_item_range(const xmpp::jid& bare, const xmpp::jid& contact);
struct stored_item {
  xmpp::im::roster_item item;
  std::string request; // the contact's subscribe stanza while it is unanswered (RFC 6121 section 3.1.3)
};
[[nodiscard]] base::result<stored_item, storage::errc> decode_item(const xmpp::jid& bare, const storage::row& row);
[[nodiscard]] base::result<std::vector<stored_item>, storage::errc> decode_items(const xmpp::jid& bare, const read& rows);

/// All rows of the account, if its head has still this version.
[[nodiscard]] storage::batch removal(const xmpp::jid& bare, std::uint64_t head_version);

/// One roster change: the item (or its removal) and the head, whose version must be the expected one.
[[nodiscard]] storage::batch change(const xmpp::jid& bare, const stored_item& item, bool removes, const head& before);

} // namespace actors::rows
