// XEP-0352 Client State Indication 1.0.0: what an inactive client need not hear at once. Pure.
#pragma once
#include "xmpp/stanza.hpp"
#include <vector>

namespace xmpp::im {

inline constexpr std::string_view client_state_ns = "urn:xmpp:csi:0";

/// Holds stanzas back while a client is inactive or away. Presence and typing notifications supersede the earlier ones
/// of the same sender; everything goes out, in the order of its last change, before the first thing that is urgent.
class held_back {
public:
  /// True: `what` waits here now. `replaced` is what it superseded (its bytes are to be released). False: it is urgent,
  /// or too much waits: take_all() first, then send it.
  [[nodiscard]] bool hold(delivery& what, delivery& replaced);
  [[nodiscard]] std::vector<delivery> take_all() { return std::exchange(waiting_, {}); }
  [[nodiscard]] bool empty() const { return waiting_.empty(); }

  static constexpr std::size_t most = 512;

private:
  std::vector<delivery> waiting_;
};

/// Presence that only says who is there, and messages that only say that somebody types.
[[nodiscard]] bool can_wait(const stanza& s);

} // namespace xmpp::im
