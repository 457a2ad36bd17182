// Whatever owns state behind one address: an account, a room, a service. Pure: `actors/entity` feeds
// it events and carries its effects out, a simulator does the same.
#pragma once
#include "cluster/registry.hpp"
#include "modules/api/account.hpp"

namespace modules {

/// A session asks to belong to this account, or says that it is gone.
struct attach_request {
  std::uint64_t session = 0; // unique in the node's life
  xmpp::jid_ref full;
  cluster::place where;
  std::uint64_t clock = 0;
  base::ref<cluster::session_limit> limit;
  bool wants_copies = false; // asked for carbons together with its resource (XEP-0386)
  std::shared_ptr<const session_view> before = {}; // it was here already, until the machine crashed; or at another node
  bool has_moved = false;    // from another node: something may have been stored for it meanwhile
  bool awaits_word = false;  // there: what the account sent from there may be on its way
  bool was_lost = false;     // and that node is lost: words to contacts, and from them, may be, too
  std::uint64_t epoch = 0;   // how often it has gone on at another place, and one; 0: not known
};

namespace event {
/// From elsewhere, addressed to this entity.
struct stanza { xmpp::delivery what; };
/// From one of the account's own sessions, before it goes anywhere else.
struct outbound { std::uint64_t session; xmpp::delivery what; };
struct attach { attach_request who; };
/// `is_silent`: its node is lost; each node tells its own clients.
/// `is_moved`: it is there, but not this account's to care for.
struct detach { std::uint64_t session; bool is_silent = false, is_moved = false; };
/// Sessions of a node that is lost, by hash of their bare JIDs: those who saw them are told.
struct lost { std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions; };
/// Sessions that were found again after a while without a word from their node: asked for their presence.
struct found_again { std::shared_ptr<const std::vector<xmpp::jid_ref>> sessions; };
/// The node where this account lived before may have stored messages for it meanwhile.
struct look_again {};
/// What one of the account's sessions sends to others, shown after it entered: only where the snapshot asks for it.
struct sent { std::uint64_t session; xmpp::stanza_ref what; };
/// Messages that a session's client has not acknowledged for a while; the session keeps trying.
struct spool { std::uint64_t session; std::vector<xmpp::delivery> what; };
/// The client has acknowledged these after all.
struct settled { std::uint64_t session; std::vector<base::u128> stanza_ids; };
/// A session on another node has acknowledged messages that others were given, too.
struct arrived { std::vector<base::u128> stanza_ids; bool may_be_stored = false; };
struct timer { std::uint32_t id; };
/// The account goes, with all its rows. `then` once, when they are gone or could not be erased (then nothing has
/// changed but what its contacts were told; asked again it goes on). Accounts only.
struct remove { std::function<void(base::result<void, storage::errc>)> then; };
/// A session had no room for this (base::room); it is the account's again.
struct no_room { std::uint64_t session; xmpp::delivery what; base::room room; };
} // namespace event
using entity_event = std::variant<event::stanza, event::outbound, event::attach, event::detach, event::timer,
                                  event::remove, event::no_room, event::sent, event::spool, event::settled, event::arrived, event::lost,
                                  event::found_again, event::look_again>;

class entity_machine {
public:
  virtual ~entity_machine() = default;
  virtual void step(entity_event& ev, base::time_point now, effects& out) = 0;
  /// Nothing to keep: no session, no work under way. The shell ends it after a while.
  [[nodiscard]] virtual bool is_idle() const = 0;
  /// It is about to be dropped, after a crash: what it still holds for others. Must not throw.
  virtual std::vector<xmpp::delivery> take_held() { return {}; }
  [[nodiscard]] virtual bool has_held() const { return false; }
  /// The same for what its sessions have said and it has not looked at.
  virtual std::vector<event::outbound> take_outbound() { return {}; }
  /// The same for the messages of which it knows that a client has acknowledged them: who comes after it, here or on another node,
  /// must not give them to somebody again.
  [[nodiscard]] virtual std::vector<base::u128> arrived_lately() const { return {}; }
  virtual void know_arrived(const std::vector<base::u128>&) {}
  /// The same for what is known of a session.
  [[nodiscard]] virtual std::shared_ptr<const session_view> recall(std::uint64_t) const { return nullptr; }
  /// Idle, and not even worth the wait: nothing is behind this address.
  [[nodiscard]] virtual bool is_void() const { return false; }
};

} // namespace modules
