// Whom an account has blocked, and the payloads of XEP-0191 with the reports of XEP-0377 in them. Pure.
#pragma once
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <span>
#include <vector>

namespace xmpp::im {

inline constexpr std::string_view blocking_ns = "urn:xmpp:blocking";

/// An immutable set of JIDs. A change makes a new one: every session of the account holds the old one meanwhile.
class block_list {
public:
  block_list() = default;
  explicit block_list(std::vector<jid_ref> items);

  /// Section 5: a full JID names itself, a bare one all its resources, a domain everything at it.
  [[nodiscard]] bool matches(const jid& j) const;
  /// Is this very item on the list?
  [[nodiscard]] bool contains(const jid& item) const;
  [[nodiscard]] block_list with(std::span<const jid_ref> added) const;
  [[nodiscard]] block_list without(std::span<const jid_ref> removed) const;
  [[nodiscard]] const std::vector<jid_ref>& items() const { return items_; }
  [[nodiscard]] std::size_t size() const { return items_.size(); }

private:
  template <class Same>
  bool has(std::uint64_t hash, Same same) const;
  std::vector<jid_ref> items_; // by hash of the bare JID, then text; each once
};

/// XEP-0377: what the user says about whom it blocks.
struct abuse_report {
  std::string reason; // a URN
  std::string text;   // of the user, may be empty; cut at 1,000 bytes
};
struct block_item {
  jid_ref who;
  std::optional<abuse_report> report;
};
/// The items of `<block/>` or `<unblock/>`, each JID once. Errors: bad_request (an item without a JID),
/// jid_malformed. A report without a reason counts as none: it must not keep anybody from blocking.
[[nodiscard]] base::result<std::vector<block_item>, stanza_error> parse_block_items(const element& el);
/// `<name xmlns='urn:xmpp:blocking'>` with these items: "blocklist", "block" or "unblock".
[[nodiscard]] std::string block_payload(std::string_view name, std::span<const jid_ref> items);
/// What who writes to a blocked JID is told (section 3.3): not-acceptable with `<blocked/>`.
[[nodiscard]] stanza_error blocked_error();

} // namespace xmpp::im
