// The accounts of one host on its store: SCRAM keys instead of passwords, hashed off the reactors; tokens of clients.
#pragma once
#include "actors/node.hpp"
#include "actors/pool.hpp"
#include "base/metrics.hpp"
#include "modules/api/services.hpp"
#include "storage/store.hpp"
#include "storage/tables.hpp"
#include "xmpp/sasl/credentials.hpp"
#include <atomic>
#include <memory>
#include <mutex>

namespace actors { class entity; }

namespace server {

struct account_settings {
  std::string host;
  std::string fake_secret;  // for the time that a wrong name takes
  std::string token_secret; // what tokens are worked out with
  std::uint32_t iterations = 10'000;
  std::vector<base::crypto::hash> hashes; // of the keys that every account gets; SHA-1 and SHA-256 are among them
  bool has_strangers = false;             // ANONYMOUS is on offer
  std::chrono::microseconds token_lifetime{}, token_rotation{};
  std::size_t clients_with_tokens = 10;   // per account
  friend bool operator==(const account_settings&, const account_settings&) = default;
};

class stored_accounts final : public modules::accounts, public xmpp::sasl::credentials {
public:
  /// All references outlive this.
  stored_accounts(storage::store& store, actors::pool& hashing, actors::node& node, base::random& random, account_settings s)
    : store_(store), hashing_(hashing), node_(node), random_(random), host_(s.host) {
    change(std::move(s));
  }

  /// Any thread. It stays as it is as long as this.
  [[nodiscard]] const account_settings& settings() const { return *settings_.load(std::memory_order_acquire); }
  /// For passwords and tokens from now on; host and secrets are the same as before. Any thread.
  void change(account_settings s);

  /// Its rows were changed by somebody else: whoever has it in memory reads them again. Any thread.
  void has_changed(const xmpp::jid_ref& bare);

  // modules::accounts
  void create(const xmpp::jid_ref& bare, std::string password, modules::on_account then, storage::batch with = {}) override;
  void set_password(const xmpp::jid_ref& bare, std::string password, modules::on_account then) override;
  void remove(const xmpp::jid_ref& bare, modules::on_account then) override;
  void exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, modules::account_errc>)> then) override;

  // xmpp::sasl::credentials
  void find_keys(std::string local, base::crypto::hash h, std::function<void(xmpp::sasl::keys_answer)> then) override;
  void check_password(std::string local, std::string password, std::function<void(xmpp::sasl::account_answer)> then) override;
  void find_account(std::string local, std::function<void(xmpp::sasl::account_answer)> then) override;
  void add_keys(std::string local, std::uint64_t version, base::crypto::hash h, xmpp::sasl::scram_keys keys,
                std::function<void(xmpp::sasl::account_answer)> then) override;
  void find_tokens(std::string local, std::string client, std::function<void(xmpp::sasl::tokens_answer)> then) override;
  void change_tokens(xmpp::sasl::token_change what, std::function<void(xmpp::sasl::token_change_answer)> then) override;
  bool offers_scram() const override { return true; }

private:
  template <class F>
  void tell_entity(const xmpp::jid_ref& bare, F f);
  /// The row of an account that may log in, and its version.
  struct found { storage::tables::account row; std::uint64_t version; };
  void write(const xmpp::jid_ref& bare, std::string password, bool is_new, modules::on_account then, storage::batch with);
  /// The rest is server/credentials.cpp.
  void find(const std::string& local, std::function<void(base::result<found, xmpp::sasl::credentials_errc>)> then);
  void put(const std::string& local, found changed, std::function<void(xmpp::sasl::account_answer)> then);
  void add_missing_keys(const std::string& local, std::string password, found f, std::function<void(xmpp::sasl::account_answer)> then);
  void try_change(const xmpp::sasl::token_change& c, int attempts, const std::function<void(xmpp::sasl::token_change_answer)>& then);
  [[nodiscard]] std::string secret_of(const storage::tables::client_tokens::token& t, std::string_view local, std::string_view client) const;
  [[nodiscard]] std::string random_bytes(std::size_t size) const;
  [[nodiscard]] std::int64_t now_us() const;

  storage::store& store_;
  actors::pool& hashing_;
  actors::node& node_;
  base::random& random_;
  const std::string host_;
  std::mutex changing_;
  std::vector<std::unique_ptr<const account_settings>> all_settings_; // all that were ever in force: jobs refer to them
  std::atomic<const account_settings*> settings_{nullptr};
  base::metrics::counter* issued_ = &base::metrics::make_counter("covey_tokens_issued_total", "Tokens handed out (XEP-0484).");
};

} // namespace server
