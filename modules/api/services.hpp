// What a module may ask of the server around it. Interfaces only: server/ and actors/ implement them.
#pragma once
#include "base/bytes.hpp"
#include "base/clock.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "storage/store.hpp"
#include "xmpp/jid.hpp"
#include <functional>
#include <optional>
#include <string>

namespace modules {

enum class account_errc : std::uint8_t { exists, not_found, not_allowed, bad_password, unavailable, overloaded };
using on_account = std::function<void(base::result<void, account_errc>)>;

/// Accounts of one host. Asynchronous: hashing and storage run elsewhere, `then` on any thread.
class accounts {
public:
  virtual ~accounts() = default;
  /// Errors: exists, bad_password (SASLprep refuses it, or empty), not_allowed (the back end is
  /// somebody else's), unavailable, overloaded. `with`: in the same batch; where its preconditions do not hold: exists.
  virtual void create(const xmpp::jid_ref& bare, std::string password, on_account then, storage::batch with = {}) = 0;
  virtual void set_password(const xmpp::jid_ref& bare, std::string password, on_account then) = 0;
  /// With all rows of all modules; its sessions end with `not-authorized`.
  virtual void remove(const xmpp::jid_ref& bare, on_account then) = 0;
  virtual void exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, account_errc>)> then) = 0;
};

/// Reads its own settings: `modules.<name>.<key>` of the host, with the declared default.
class settings {
public:
  virtual ~settings() = default;
  [[nodiscard]] virtual std::int64_t number(std::string_view key) const = 0; // durations: milliseconds; sizes: bytes
  [[nodiscard]] virtual bool flag(std::string_view key) const = 0;
  [[nodiscard]] virtual std::string text(std::string_view key) const = 0;
  [[nodiscard]] virtual std::vector<std::string> list(std::string_view key) const = 0;
};

struct services {
  modules::accounts& accounts;
  const base::clock& clock;
  base::random& random;
  base::siphash_key stanza_id_key; // the same on all nodes of a cluster
  storage::store* rows = nullptr;  // of the host, for who has no entity to ask: strangers and operators. Any thread
};

} // namespace modules
