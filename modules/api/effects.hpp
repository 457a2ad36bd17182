// What a machine or a handler asks for. It only records; the shell around it carries out, in order.
// So everything that decides is tested without an actor, a clock or a disk.
#pragma once
#include "base/clock.hpp"
#include "modules/api/session_view.hpp"
#include "modules/api/snapshot.hpp"
#include "storage/engine.hpp"
#include "xmpp/errors.hpp"
#include "xmpp/stanza.hpp"
#include <functional>
#include <span>
#include <variant>
#include <vector>

namespace modules {

class effects;
class account_view;

/// How the wait for a stanza ended (docs/delivery.md). Later ends of the same are ignored.
enum class outcome : std::uint8_t {
  acknowledged, // a recipient has it: acknowledged, or written to a socket that cannot
  stored,       // durable
  bounced,      // an error went back
  refused,      // dropped by a rule
  abandoned,    // whoever held it is gone: route it again
};

using rows = base::result<std::vector<storage::row>, storage::errc>;
/// Continuations run in the entity that asked, in its order, unless it has ended meanwhile.
using on_rows = std::function<void(rows, effects&)>;
using on_commit = std::function<void(storage::outcome, effects&)>;
using on_outcome = std::function<void(outcome, effects&)>;

namespace effect {
struct deliver { std::uint64_t session; xmpp::delivery what; on_outcome then; };
struct route { xmpp::delivery what; };
struct load { storage::key_range range; storage::order order; std::uint32_t limit; on_rows then; };
struct commit { storage::batch what; on_commit then; };
struct set_timer { std::uint32_t id; base::duration after; }; // replaces the one with this id
struct broadcast { std::string domain; xmpp::stanza_ref what; }; // to every session of the host
struct complete { xmpp::completion_id id; outcome how; xmpp::error_ref why; }; // with `bounced`: what its sender is told
struct accept { std::uint64_t session; xmpp::jid_ref full; }; // it is bound, under this name
struct refuse { std::uint64_t session; xmpp::stanza_error why; };
struct end_session { std::uint64_t session; xmpp::stream_errc why; std::string text; };
struct publish { session_view what; };
struct unspooled { std::uint64_t session; xmpp::delivery what; };
struct share { std::uint64_t session; snapshot_ref what; }; // accounts only
} // namespace effect

class effects {
public:
  using item = std::variant<effect::route, effect::deliver, effect::load, effect::commit,
                            effect::set_timer, effect::broadcast, effect::complete, effect::accept,
                            effect::refuse, effect::end_session, effect::publish, effect::share, effect::unspooled>;

  /// To one of this account's own sessions. `then` learns whether it has it (empty: nobody asks).
  void deliver(std::uint64_t session, xmpp::delivery what, on_outcome then = {}) {
    list_.emplace_back(effect::deliver{session, std::move(what), std::move(then)});
  }
  /// To whoever `what.to` (or the stanza's own `to`) names.
  void route(xmpp::delivery what) { list_.emplace_back(effect::route{std::move(what)}); }
  /// Nothing else happens in this entity's storage order before `then` (one operation at a time).
  void load(storage::key_range range, std::uint32_t limit, on_rows then,
            storage::order o = storage::order::forward) {
    list_.emplace_back(effect::load{std::move(range), o, limit, std::move(then)});
  }
  /// `then` after it is durable, or after it failed.
  void commit(storage::batch what, on_commit then = {}) {
    list_.emplace_back(effect::commit{std::move(what), std::move(then)});
  }
  void set_timer(std::uint32_t id, base::duration after) {
    list_.emplace_back(effect::set_timer{id, after});
  }
  void broadcast(std::string domain, xmpp::stanza_ref what) {
    list_.emplace_back(effect::broadcast{std::move(domain), std::move(what)});
  }
  /// Answers to an attach (accounts only).
  void accept(std::uint64_t session, xmpp::jid_ref full) {
    list_.emplace_back(effect::accept{session, std::move(full)});
  }
  void refuse(std::uint64_t session, xmpp::stanza_error why) {
    list_.emplace_back(effect::refuse{session, std::move(why)});
  }
  void end_session(std::uint64_t session, xmpp::stream_errc why, std::string text = {}) {
    list_.emplace_back(effect::end_session{session, why, std::move(text)});
  }
  /// What every node sees of a session, and what it takes to another node should its account move there.
  void publish(const session_view& v) { list_.emplace_back(effect::publish{v}); }
  /// To one session of this account: what it needs where its client's stanzas enter (account_view::share).
  void share(std::uint64_t session, snapshot_ref what) { list_.emplace_back(effect::share{session, std::move(what)}); }
  /// What a session asked to have stored is not; it may ask again.
  void unspooled(std::uint64_t session, xmpp::delivery what) { list_.emplace_back(effect::unspooled{session, std::move(what)}); }
  void complete(const xmpp::completion_id& id, outcome how, xmpp::error_ref why = {}) {
    if (id)
      list_.emplace_back(effect::complete{id, how, std::move(why)});
  }
  /// The error answer to `s`, back to its sender. Who waits for an outcome gets it with that, for on a way of its own it
  /// could be lost. What must not be answered is dropped.
  void bounce(const xmpp::stanza& s, const xmpp::stanza_error& e) {
    if (s.completion)
      return complete(s.completion, outcome::bounced, std::make_shared<const xmpp::stanza_error>(e));
    if (auto answer = xmpp::make_error(s, e))
      route({std::move(answer), {}});
  }

  [[nodiscard]] std::vector<item>& list() { return list_; }
  [[nodiscard]] bool empty() const { return list_.empty(); }
  void clear() { list_.clear(); }

private:
  std::vector<item> list_;
};

} // namespace modules
