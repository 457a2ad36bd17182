// The accounts of one host on its store: SCRAM keys instead of passwords, hashed off the reactors.
#pragma once
#include "actors/node.hpp"
#include "actors/pool.hpp"
#include "modules/api/services.hpp"
#include "storage/store.hpp"
#include "storage/tables.hpp"
#include "xmpp/sasl/credentials.hpp"
#include <atomic>

namespace actors { class entity; }

namespace server {

class stored_accounts final : public modules::accounts, public xmpp::sasl::credentials {
public:
  /// `fake_secret`: for the time that a wrong name takes. All references outlive this.
  stored_accounts(storage::store& store, actors::pool& hashing, actors::node& node, base::random& random,
                  std::string host, std::string fake_secret, std::uint32_t iterations);

  /// Of passwords that are set from now on. Any thread.
  void set_iterations(std::uint32_t n) { iterations_ = n; }

  /// Its rows were changed by somebody else: whoever has it in memory reads them again. Any thread.
  void has_changed(const xmpp::jid_ref& bare);

  // modules::accounts
  void create(const xmpp::jid_ref& bare, std::string password, modules::on_account then) override;
  void set_password(const xmpp::jid_ref& bare, std::string password, modules::on_account then) override;
  void remove(const xmpp::jid_ref& bare, modules::on_account then) override;
  void exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, modules::account_errc>)> then) override;

  // xmpp::sasl::credentials
  void find_keys(std::string local, base::crypto::hash h, std::function<void(xmpp::sasl::keys_answer)> then) override;
  void check_password(std::string local, std::string password, std::function<void(xmpp::sasl::password_answer)> then) override;
  bool offers_scram() const override { return true; }

private:
  /// At the account's entity, if it is in memory.
  void at_entity(const xmpp::jid_ref& bare, std::function<void(actors::entity&)> f);
  /// Errors: no_such_user, disabled, unavailable.
  void find(const std::string& local, std::function<void(base::result<storage::tables::account, xmpp::sasl::credentials_errc>)> then);
  void write(const xmpp::jid_ref& bare, std::string password, bool is_new, modules::on_account then);

  storage::store& store_;
  actors::pool& hashing_;
  actors::node& node_;
  base::random& random_;
  const std::string host_, fake_secret_;
  std::atomic<std::uint32_t> iterations_;
};

} // namespace server
