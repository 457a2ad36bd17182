// One of an account's sessions, as the account and its modules see it.
#pragma once
#include "xmpp/stanza.hpp"

namespace modules {

struct session_view {
  std::uint64_t id = 0;
  xmpp::jid_ref full;
  std::int8_t priority = 0;
  bool is_available = false;
  bool wants_copies = false;    // of what the others are sent and send (XEP-0280)
  bool is_interested = false;   // asked for the roster: gets roster pushes (RFC 6121 section 2.2)
  bool is_introduced = false;   // its contacts know of it, and it of them
  xmpp::stanza_ref presence;    // the last one it broadcast
};

} // namespace modules
