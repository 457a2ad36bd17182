// XEP-0175 Best Practices for Use of SASL ANONYMOUS 1.2: who logged in without an account has no contacts, and leaves nothing.
#include "modules/all.hpp"
#include "storage/tables.hpp"
#include "xmpp/sasl/anonymous.hpp"

namespace modules {

namespace {
bool is_stranger(const xmpp::jid& j) { return j.local().starts_with(xmpp::sasl::anonymous_prefix); }

class strangers final : public module {
public:
  std::string_view name() const override { return "strangers"; }
  void start(registrar& reg) override {
    reg.filter<stanza_entered>(stage::access, [](stanza_entered& ev) {
      using enum xmpp::stanza_type;
      auto type = ev.what.type();
      bool is_subscription = type == subscribe || type == subscribed || type == unsubscribe || type == unsubscribed;
      if (is_subscription && is_stranger(*ev.sender)) // section 3, rule 3: it would have to end with the session
        return verdict::refuse(xmpp::stanza_errc::not_allowed);
      return verdict::pass();
    });
    reg.observe<session_ended>(stage::late, [](session_ended& ev) {
      if (!is_stranger(*ev.account.bare()) || !ev.account.sessions().empty())
        return;
      ev.out.load(storage::only(storage::tables::account_key(*ev.account.bare())), 1,
                  [bare = ev.account.bare(), &host = ev.account.host()](rows r, effects& out) {
                    if (!r || !r->empty()) // a real account of this name
                      return;
                    storage::batch b;
                    b.changes = storage::tables::erase_account(*bare);
                    account_removed removed{*bare, b};
                    (void)host.removed.run(removed);
                    out.commit(std::move(b));
                  });
    });
  }
};
} // namespace

std::unique_ptr<module> make_strangers() { return std::make_unique<strangers>(); }

} // namespace modules
