// Accounts as rows: created if absent, changed whole, removed with everything that is theirs.
#include "server/accounts.hpp"
#include "actors/at_entity.hpp"
#include "actors/peers.hpp"
#include "base/log.hpp"
#include "storage/tables.hpp"
#include "xmpp/sasl/anonymous.hpp"
#include "xmpp/sasl/scram_keys.hpp"

namespace server {

using modules::account_errc;
namespace tables = storage::tables;

namespace {
account_errc error_of(storage::errc e) {
  return e == storage::errc::overloaded ? account_errc::overloaded : account_errc::unavailable;
}

/// Whoever waits is told, also when the entity ends by an exception.
class removal {
public:
  explicit removal(modules::on_account then) : then_(std::move(then)) {}
  removal(const removal&) = delete;
  removal& operator=(const removal&) = delete;
  ~removal() { answer(base::fail(account_errc::unavailable)); }
  void answer(base::result<void, account_errc> r) {
    if (auto then = std::exchange(then_, nullptr))
      then(std::move(r));
  }

private:
  modules::on_account then_;
};
} // namespace

void stored_accounts::change(account_settings s) {
  std::lock_guard guard{changing_};
  if (!all_settings_.empty() && *all_settings_.back() == s)
    return;
  all_settings_.push_back(std::make_unique<const account_settings>(std::move(s)));
  settings_.store(all_settings_.back().get(), std::memory_order_release);
}

void stored_accounts::write(const xmpp::jid_ref& bare, std::string password, bool is_new, modules::on_account then, storage::batch with) {
  auto job = [this, bare, password = std::move(password), is_new, then, with = std::move(with)]() mutable {
    tables::account a;
    for (auto h : settings().hashes) {
      auto keys = xmpp::sasl::make_scram_keys(h, password, random_bytes(xmpp::sasl::salt_size), settings().iterations);
      if (!keys) {
        base::crypto::wipe(password);
        return then(base::fail(account_errc::bad_password));
      }
      a.keys(h) = std::move(*keys);
    }
    base::crypto::wipe(password);
    a.created_us = now_us();
    auto key = tables::account_key(*bare);
    auto commit = [this, bare, key, then, with = std::move(with)](const tables::account& row, std::uint64_t expected, account_errc on_conflict) {
      auto b = with;
      b.changes.emplace_back(storage::put{key, tables::encode(row)});
      auto tokens = tables::tokens_of(*bare); // who knew the old password may have them
      b.changes.emplace_back(storage::erase_range{std::move(tokens.from), std::move(tokens.until)});
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

void stored_accounts::create(const xmpp::jid_ref& bare, std::string password, modules::on_account then, storage::batch with) {
  if (auto h = node_.find_host(host_); h && h->view.entities.contains(bare->local()))
    return then(base::fail(account_errc::exists)); // a service has this address
  if (settings().has_strangers && bare->local().starts_with(xmpp::sasl::anonymous_prefix))
    return then(base::fail(account_errc::not_allowed));
  write(bare, std::move(password), true, std::move(then), std::move(with));
}

void stored_accounts::set_password(const xmpp::jid_ref& bare, std::string password, modules::on_account then) {
  write(bare, std::move(password), false, std::move(then), {});
}

/// `f(entity&)` of the account, where it lives, in order with its stanzas.
template <class F>
void stored_accounts::tell_entity(const xmpp::jid_ref& bare, F f) {
  node_.homes()[node_.reactor_of(*bare)]->post_from_anywhere([bare, f = std::move(f)](actors::home& h) mutable {
    auto& address = h.around().registry().charge_always(bare, h.index(), actors::home::control_cost);
    h.post_to_entity(address, std::move(f));
  });
}

void stored_accounts::remove(const xmpp::jid_ref& bare, modules::on_account then) {
  store_.scan(storage::only(tables::account_key(*bare)), storage::order::forward, 1, [this, bare, then](auto rows) {
    if (!rows)
      return then(base::fail(error_of(rows.error())));
    if (rows->empty())
      return then(base::fail(account_errc::not_found));
    auto* others = node_.peers();
    auto done = [bare, others, told = std::make_shared<removal>(then)](base::result<void, storage::errc> r) {
      if (r)
        base::log::info("account.removed", "an account and all its rows are gone", {{"jid", bare->bare()}});
      told->answer(r ? base::result<void, account_errc>{} : base::fail(error_of(r.error())));
      if (r && others) // behind the answer: it may be for one of the sessions that end
        others->changed_behind(bare, true);
    };
    if (auto home = others ? others->rows().home_of(*bare) : std::nullopt; home && home->node != cluster::self)
      return others->remove_account(home->node, bare, done);
    tell_entity(bare, [done](actors::entity& e) { e.remove(done); });
  });
}

void stored_accounts::has_changed(const xmpp::jid_ref& bare) {
  node_.absent().erase(*bare);
  if (node_.peers())
    node_.peers()->changed(bare, false);
  actors::at_entity(node_, *bare, [](actors::entity& e) { e.start_again(); });
}

void stored_accounts::exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, account_errc>)> then) {
  store_.scan(storage::only(tables::account_key(*bare)), storage::order::forward, 1, [then](auto rows) {
    if (!rows)
      return then(base::fail(error_of(rows.error())));
    then(!rows->empty());
  });
}

} // namespace server
