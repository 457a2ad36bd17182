// Roster items, and jabber:iq:roster as bytes (RFC 6121 section 2).
#pragma once
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include "xmpp/im/subscription.hpp"
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace xmpp::im {

inline constexpr std::string_view roster_ns = "jabber:iq:roster";

struct roster_item {
  jid_ref contact;                 // bare
  std::string name;
  std::vector<std::string> groups; // sorted, each once
  subscription_state state;
  /// False: only an unanswered request of the contact is kept; clients do not see the item.
  bool is_listed = true;
};

struct roster_limits {
  std::size_t max_name = 1'023, max_group = 1'023; // bytes
  std::size_t max_groups = 64;
};

/// `<query><item/></query>` of a set: the owner's wish. The subscription attribute counts only as "remove".
struct roster_change {
  jid_ref contact; // bare, whatever resource the client wrote
  std::string name;
  std::vector<std::string> groups; // sorted
  bool is_removal = false;
};
/// Errors (section 2.3.3): bad_request (not exactly one item, no jid, a group twice), jid_malformed,
/// not_acceptable (name or group too long, empty group, too many groups), not_allowed (the owner
/// itself as a contact).
[[nodiscard]] base::result<roster_change, stanza_error> parse_roster_set(const element& query, const jid& owner,
                                                                         const roster_limits& limits = {});
/// `before`: the item as it was, if there was one. Returns it with name and groups replaced.
[[nodiscard]] roster_item merge(const roster_change& change, const roster_item* before);

/// A get's `ver`: nothing if the client does not know versions, "" if it knows them but has none.
[[nodiscard]] std::optional<std::string> parse_roster_get(const element& query);

/// One `<item/>`.
void write_item(writer& w, const roster_item& item);
/// The payload of the answer to a get: items that are listed. Empty `ver`: without versions.
[[nodiscard]] std::string roster_result(std::span<const roster_item> items, std::string_view ver = {});
/// The payload of a push. The version is opaque.
[[nodiscard]] std::string roster_push(const roster_item& item, std::string_view ver = {});
[[nodiscard]] std::string roster_push_removed(const jid& contact, std::string_view ver = {});
/// A push as a stanza, a set with this id; `to` is filled in by whoever delivers (section 2.1.6).
[[nodiscard]] stanza_ref make_push(std::string_view payload, std::string_view id);
/// `<ver/>` for the stream features (section 2.6.1).
inline constexpr std::string_view roster_versioning_feature = "<ver xmlns='urn:xmpp:features:rosterver'/>";

} // namespace xmpp::im
