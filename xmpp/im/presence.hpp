// Presence of one resource: what counts for routing, and the order between resources (RFC 6121 section 4.7).
#pragma once
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <cstdint>

namespace xmpp::im {

/// From most to least ready to talk; `online` is an absent <show/>.
enum class show : std::uint8_t { chat, online, away, xa, dnd };
[[nodiscard]] std::string_view name_of(show s); // "" for online
[[nodiscard]] std::optional<show> parse_show(std::string_view text);

/// -128 to 127 in decimal, with an optional sign (xs:byte); nothing else.
[[nodiscard]] std::optional<std::int8_t> parse_priority(std::string_view text);

struct availability {
  bool is_available = false;
  std::int8_t priority = 0; // negative: gets nothing that is sent to the bare JID
  im::show show = im::show::online;
  friend bool operator==(const availability&, const availability&) = default;
};

/// Of a presence stanza without `to` (available or unavailable).
/// A <show/> that nobody knows counts as none: only the receiver's client shows it.
/// Errors: bad_request: more than one <show/> or <priority/>, or a bad priority (section 4.7.2).
[[nodiscard]] base::result<availability, stanza_error> parse_presence(const stanza& s);

/// Is `a` the better target for what is sent to the bare JID? By priority, then show.
[[nodiscard]] bool is_better(const availability& a, const availability& b);

/// `<presence type='unavailable' from='…'/>`, as the server says it for a session that ended.
[[nodiscard]] stanza_ref make_unavailable(const jid_ref& from, const jid_ref& to = {});
/// A subscription or probe presence in the owner's name: both bare.
[[nodiscard]] stanza_ref make_presence(stanza_type t, const jid_ref& from, const jid_ref& to);

} // namespace xmpp::im
