// The events that modules can hook, each with where it runs.
#pragma once
#include "modules/api/account.hpp"

namespace modules {

/// At the sender's session, when a stanza enters. The stanza is still its session's alone, so that a
/// filter may stamp it. Filter.
struct stanza_entered {
  xmpp::stanza& what;
  const xmpp::jid_ref& sender; // full JID; what.from and what.to are set
  const host_view& host;
  const account_snapshot& account; // the sender's
};

/// At the sender's account, for what passes through it: presence and IQs of its own. A filter may put another stanza
/// in its place. Filter.
struct stanza_sent {
  xmpp::delivery& what;
  account_view& account;
  effects& out;
};

/// At the recipient's account, before any of its sessions gets it. Filter.
struct stanza_received {
  const xmpp::delivery& what;
  account_view& account;
  effects& out;
};

/// At the recipient's account: somebody wants to see its presence (RFC 6121 section 3.1.3). A filter that says `taken`
/// calls account_view::answer_request() later; what the contact sends meanwhile waits. None drops it: the contact would
/// wait for ever (blocking drops before this). Filter.
struct subscription_asked {
  const xmpp::stanza_ref& what;
  account_view& account;
  effects& out;
};

/// At the recipient's account: a message that may be kept and that no session takes (RFC 6121
/// section 8.5.2.2). A filter that keeps it says `taken` and ends its completion.
struct message_undelivered {
  const xmpp::delivery& what;
  account_view& account;
  effects& out;
};

/// At the account: a session's client has not acknowledged this message for a while (XEP-0198). Whoever keeps it until
/// message_settled says `taken` and ends its completion. Filter.
struct message_unacknowledged {
  std::uint64_t session;
  const xmpp::delivery& what;
  account_view& account;
  effects& out;
};

/// At the account: these were acknowledged after all. Observe.
struct message_settled {
  std::uint64_t session;
  std::span<const base::u128> stanza_ids;
  account_view& account;
  effects& out;
  bool has_begun_anew = false; // the account, since they were stored perhaps
};

/// At the recipient's account: a message goes to these of its sessions. `what.shared` may be shared by copies. Observe.
struct message_delivered {
  const xmpp::delivery& what;
  std::span<const std::uint64_t> receivers;
  account_view& account;
  effects& out;
};

/// At the sender's account: one of its sessions has sent this message; only while the snapshot asks for it. Observe.
struct message_sent {
  std::uint64_t session;
  const xmpp::stanza_ref& what;
  account_view& account;
  effects& out;
};

/// At the account: a session's first available presence with priority 0 or more. Observe.
struct session_ready {
  std::uint64_t session;
  account_view& account;
  effects& out;
};

/// The same, also at an account that has just come to this node, where that is to come a moment later, as another node may have something
/// to say of what is kept. Messages to the session wait until then, unless somebody finds that there is nothing
/// (account_view::expect_nothing). Observe.
struct session_expects {
  std::uint64_t session;
  account_view& account;
  effects& out;
};

/// At the account: a session has ended, for whatever reason. Observe.
struct session_ended {
  const session_view& session;
  account_view& account;
  effects& out;
};

/// Who has no account yet.
struct stranger {
  std::string_view address;         // IP
  std::shared_ptr<std::any> memory; // what a module keeps with the stream; never null
};

/// At a stream before login: `who` wants the account `bare`. A filter that says `taken` has an invitation for it, whatever
/// the settings say, and adds what is written with the account. Filter.
struct account_wanted {
  const xmpp::jid& bare;
  const stranger& who;
  storage::batch& rows;
};

/// Anywhere: rows of this account are about to go in one batch; a module adds its own. Observe.
struct account_removed {
  const xmpp::jid& bare;
  storage::batch& rows;
};

} // namespace modules
