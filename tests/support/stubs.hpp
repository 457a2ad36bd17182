// What a node is given in tests instead of passwords, accounts and a configuration: whoever names an existing account is let in.
#pragma once
#include "modules/api/services.hpp"
#include "xmpp/sasl/credentials.hpp"

namespace actors::testing {

struct any_password final : xmpp::sasl::credentials {
  void find_keys(std::string, base::crypto::hash, std::function<void(xmpp::sasl::keys_answer)> then) override {
    then(base::fail(xmpp::sasl::credentials_errc::no_such_user));
  }
  void check_password(std::string, std::string, std::function<void(xmpp::sasl::account_answer)> then) override { then(xmpp::sasl::account_facts{}); }
  void find_account(std::string, std::function<void(xmpp::sasl::account_answer)> then) override { then(xmpp::sasl::account_facts{}); }
  void add_keys(std::string, std::uint64_t, base::crypto::hash, xmpp::sasl::scram_keys, std::function<void(xmpp::sasl::account_answer)> then) override {
    then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  }
  void find_tokens(std::string, std::string, std::function<void(xmpp::sasl::tokens_answer)> then) override { then(xmpp::sasl::client_tokens{}); }
  void change_tokens(xmpp::sasl::token_change, std::function<void(xmpp::sasl::token_change_answer)> then) override {
    then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  }
  [[nodiscard]] bool offers_scram() const override { return false; }
};

struct no_accounts final : modules::accounts {
  void create(const xmpp::jid_ref&, std::string, modules::on_account then, storage::batch) override { refuse(then); }
  void set_password(const xmpp::jid_ref&, std::string, modules::on_account then) override { refuse(then); }
  void remove(const xmpp::jid_ref&, modules::on_account then) override { refuse(then); }
  void exists(const xmpp::jid_ref&, std::function<void(base::result<bool, modules::account_errc>)> then) override { then(true); }
  static void refuse(const modules::on_account& then) { then(base::fail(modules::account_errc::not_allowed)); }
};

struct plain_settings final : modules::settings {
  std::int64_t number(std::string_view key) const override { return key.ends_with("size") ? 1 << 20 : key == "keep" ? 0 : 1'000; } // what is stored does not expire
  bool flag(std::string_view) const override { return false; }
  std::string text(std::string_view) const override { return {}; }
  std::vector<std::string> list(std::string_view) const override { return {}; }
};

} // namespace actors::testing
