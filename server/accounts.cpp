// Accounts as rows: created if absent, changed whole, removed with everything that is theirs.
#include "server/accounts.hpp"
#include "actors/entity.hpp"
#include "storage/tables.hpp"
#include "xmpp/sasl/scram_keys.hpp"

namespace server {

using base::crypto::hash;
using modules::account_errc;
using xmpp::sasl::credentials_errc;
namespace tables = storage::tables;

namespace {
std::string fresh_salt(base::random& r) {
  std::string salt(xmpp::sasl::salt_size, '\0');
  r.fill({reinterpret_cast<std::uint8_t*>(salt.data()), salt.size()});
  return salt;
}
account_errc error_of(storage::errc e) {
  return e == storage::errc::overloaded ? account_errc::overloaded : account_errc::unavailable;
}
} // namespace

stored_accounts::stored_accounts(storage::store& store, actors::pool& hashing, actors::node& node, base::random& random,
                                 std::string host, std::string fake_secret, std::uint32_t iterations)
  : store_(store), hashing_(hashing), node_(node), random_(random), host_(std::move(host)),
    fake_secret_(std::move(fake_secret)), iterations_(iterations) {}

void stored_accounts::write(const xmpp::jid_ref& bare, std::string password, bool is_new, modules::on_account then) {
  auto job = [this, bare, password = std::move(password), is_new, then]() mutable {
    tables::account a;
    auto sha1 = xmpp::sasl::make_scram_keys(hash::sha1, password, fresh_salt(random_), iterations_);
    auto sha256 = xmpp::sasl::make_scram_keys(hash::sha256, password, fresh_salt(random_), iterations_);
    base::crypto::wipe(password);
    if (!sha1 || !sha256)
      return then(base::fail(account_errc::bad_password));
    a.sha1 = std::move(*sha1);
    a.sha256 = std::move(*sha256);
    a.created_us = node_.clock().wall().time_since_epoch().count();
    auto key = tables::account_key(*bare);
    auto commit = [this, bare, key, then](const tables::account& row, std::uint64_t expected, account_errc on_conflict) {
      storage::batch b;
      b.changes.emplace_back(storage::put{key, tables::encode(row)});
      b.preconditions.push_back({key, expected});
      store_.submit(std::move(b), [this, bare, then, on_conflict](storage::outcome o) {
        if (o == storage::outcome::done) {
          node_.absent().erase(*bare);
          return then({});
        }
        then(base::fail(o == storage::outcome::conflict ? on_conflict
                        : o == storage::outcome::overloaded ? account_errc::overloaded : account_errc::unavailable));
      });
    };
    if (is_new)
      return commit(a, 0, account_errc::exists);
    store_.scan(storage::only(key), storage::order::forward, 1, [a, commit, then](auto rows) mutable {
      if (!rows)
        return then(base::fail(error_of(rows.error())));
      auto before = rows->empty() ? base::result<tables::account, storage::errc>{base::fail(storage::errc::conflict)}
                                  : tables::decode_account(rows->front());
      if (!before)
        return then(base::fail(rows->empty() ? account_errc::not_found : account_errc::unavailable));
      a.created_us = before->created_us;
      a.is_disabled = before->is_disabled;
      commit(a, rows->front().version, account_errc::overloaded); // changed twice at once: try again
    });
  };
  if (!hashing_.run(std::move(job)))
    then(base::fail(account_errc::overloaded));
}

void stored_accounts::create(const xmpp::jid_ref& bare, std::string password, modules::on_account then) {
  if (auto h = node_.find_host(host_); h && h->view.entities.contains(bare->local()))
    return then(base::fail(account_errc::exists)); // a service has this address
  write(bare, std::move(password), true, std::move(then));
}

void stored_accounts::set_password(const xmpp::jid_ref& bare, std::string password, modules::on_account then) {
  write(bare, std::move(password), false, std::move(then));
}

void stored_accounts::remove(const xmpp::jid_ref& bare, modules::on_account then) {
  store_.scan(storage::only(tables::account_key(*bare)), storage::order::forward, 1, [this, bare, then](auto rows) {
    if (!rows)
      return then(base::fail(error_of(rows.error())));
    if (rows->empty())
      return then(base::fail(account_errc::not_found));
    storage::batch b;
    b.changes = tables::erase_account(*bare);
    if (auto h = node_.find_host(host_)) {
      modules::account_removed ev{*bare, b};
      (void)h->view.removed.run(ev);
    }
    store_.submit(std::move(b), [this, bare, then](storage::outcome o) {
      if (o != storage::outcome::done)
        return then(base::fail(account_errc::unavailable));
      then({}); // the answer first: its own stream is among those that end
      at_entity(bare, [](actors::entity& e) {
        e.end_sessions(xmpp::stream_errc::not_authorized, "the account has been removed");
        e.start_again();
      });
    });
  });
}

void stored_accounts::at_entity(const xmpp::jid_ref& bare, std::function<void(actors::entity&)> f) {
  node_.homes()[node_.reactor_of(*bare)]->post_from_anywhere([bare, f = std::move(f)](actors::home& h) {
    auto found = h.around().registry().charge(*bare, actors::home::control_cost);
    if (!found.at)
      return;
    if (found.room == base::room::full)
      found.at->limit.charge_always(actors::home::control_cost);
    h.post_to_entity(*found.at, f);
  });
}

void stored_accounts::has_changed(const xmpp::jid_ref& bare) {
  node_.absent().erase(*bare);
  at_entity(bare, [](actors::entity& e) { e.start_again(); });
}

void stored_accounts::exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, account_errc>)> then) {
  store_.scan(storage::only(tables::account_key(*bare)), storage::order::forward, 1, [then](auto rows) {
    if (!rows)
      return then(base::fail(error_of(rows.error())));
    then(!rows->empty());
  });
}

void stored_accounts::find(const std::string& local, std::function<void(base::result<storage::tables::account, credentials_errc>)> then) {
  auto bare = xmpp::make_jid(local, host_);
  if (!bare || local.empty())
    return then(base::fail(credentials_errc::no_such_user));
  store_.scan(storage::only(tables::account_key(**bare)), storage::order::forward, 1, [then](auto rows) {
    if (!rows)
      return then(base::fail(credentials_errc::unavailable));
    if (rows->empty())
      return then(base::fail(credentials_errc::no_such_user));
    auto a = tables::decode_account(rows->front());
    if (!a)
      return then(base::fail(credentials_errc::unavailable));
    if (a->is_disabled)
      return then(base::fail(credentials_errc::disabled));
    then(std::move(*a));
  });
}

void stored_accounts::find_keys(std::string local, hash h, std::function<void(xmpp::sasl::keys_answer)> then) {
  find(local, [h, then](base::result<tables::account, credentials_errc> a) {
    if (!a)
      return then(base::fail(a.error()));
    auto& keys = h == hash::sha1 ? a->sha1 : a->sha256;
    if (!keys)
      return then(base::fail(credentials_errc::no_such_user));
    then(std::move(*keys));
  });
}

void stored_accounts::check_password(std::string local, std::string password,
                                     std::function<void(xmpp::sasl::password_answer)> then) {
  find(local, [this, local, password = std::move(password), then](base::result<tables::account, credentials_errc> a) mutable {
    if (!a && a.error() == credentials_errc::unavailable)
      return then(base::fail(credentials_errc::unavailable));
    auto h = a && !a->sha256 && a->sha1 ? hash::sha1 : hash::sha256; // accounts of other servers may have but these
    auto keys = a && (a->sha256 || a->sha1) ? std::optional{h == hash::sha1 ? *a->sha1 : *a->sha256} : std::nullopt;
    auto why = a ? credentials_errc::no_such_user : a.error();
    auto job = [this, local, password = std::move(password), h, keys, why, then]() mutable {
      // a name without an account costs the same
      auto used = keys ? *keys : xmpp::sasl::fake_keys(h, fake_secret_, local, iterations_);
      bool good = xmpp::sasl::matches(h, used, password);
      base::crypto::wipe(password);
      if (!keys)
        return then(base::fail(why));
      if (!good)
        return then(base::fail(credentials_errc::wrong_password));
      then({});
    };
    if (!hashing_.run(std::move(job)))
      then(base::fail(credentials_errc::unavailable));
  });
}

} // namespace server
