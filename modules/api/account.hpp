// An account as modules see it.
#pragma once
#include "modules/api/effects.hpp"
#include "xmpp/im/subscription.hpp"
#include <any>
#include <span>

namespace modules {

struct host_view;

class account_view {
public:
  virtual ~account_view() = default;
  [[nodiscard]] virtual const xmpp::jid_ref& bare() const = 0;
  [[nodiscard]] virtual const host_view& host() const = 0;
  [[nodiscard]] virtual std::span<const session_view> sessions() const = 0;
  /// Of the roster, where it is loaded; nothing for strangers.
  [[nodiscard]] virtual bool may_see_presence(const xmpp::jid& contact) const = 0;
  [[nodiscard]] virtual bool knows(const xmpp::jid& contact) const = 0;
  using on_contact = std::function<void(const xmpp::jid_ref& contact, const xmpp::im::subscription_state& state)>;
  virtual void for_each_contact(const on_contact& f) const = 0;
  /// Calls `then` when the roster is loaded, at once if it is; false: it cannot be read now.
  virtual void with_roster(effects& out, std::function<void(bool is_there, effects&)> then) = 0;
  /// What a module keeps with this account while it is in memory; empty at first.
  virtual std::any& state(const void* module) = 0;
  template <class T>
  T& state_of(const void* module) {
    auto& s = state(module);
    if (!s.has_value())
      s = T{};
    return *std::any_cast<T>(&s);
  }
  /// Never null. `share` hands a new one to every session, those that come later too.
  [[nodiscard]] virtual const snapshot_ref& snapshot() const = 0;
  virtual void share(snapshot_ref fresh, effects& out) = 0;
  /// Whether this session gets copies; the snapshot follows.
  virtual void want_copies(std::uint64_t session, bool wants, effects& out) = 0;
  /// As if this session had said `presence`, which is no one's yet; filters do not see it.
  virtual void say(std::uint64_t session, xmpp::stanza_ref presence, effects& out) = 0;
  /// One of the four subscription stanzas, in the account's name.
  virtual void subscribe(const xmpp::stanza_ref& presence, effects& out) = 0;
  /// Goes on with a request that a filter has taken (subscription_asked): once, whatever came of it.
  virtual void answer_request(const xmpp::stanza_ref& presence, bool is_approved, effects& out) = 0;
  static constexpr std::uint32_t least_operation = 256; // bytes
  /// For what reads rows, then changes them: one such operation at a time, each from its reads to its commit, so that all
  /// devices see one order. Each ends with one call of finish(). `bytes`: what it keeps meanwhile. False: too many wait,
  /// and it was not taken.
  [[nodiscard]] virtual bool enqueue(std::function<void(effects&)> operation, effects& out, std::uint32_t bytes = least_operation) = 0;
  virtual void finish(effects& out) = 0;
  /// A client of this account has acknowledged the message, so far as is remembered: the last ones are.
  [[nodiscard]] virtual bool has_arrived(base::u128 stanza_id) const = 0;
  /// Messages to this session wait (IQs and presence do not) until released; RFC 6121 section 8.
  virtual void hold_messages(std::uint64_t session) = 0;
  virtual void release_messages(std::uint64_t session, effects& out) = 0;
  /// Nothing is kept that is to be given before other messages (session_expects).
  virtual void expect_nothing(std::uint64_t session, effects& out) = 0;
};

} // namespace modules
