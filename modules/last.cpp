// XEP-0012 Last Activity 2.0: how long the server runs, and how long ago an account was left, for those who may see
// its presence.
#include "modules/all.hpp"
#include "modules/stored_xml.hpp"
#include "storage/tables.hpp"
#include "xmpp/utf8.hpp"
#include <algorithm>
#include <optional>

namespace modules {

namespace {
namespace tables = storage::tables;
using xmpp::stanza_errc;
constexpr auto ns = "jabber:iq:last";
constexpr std::size_t longest_status = 512;

/// Kept with the account while it is in memory: the words of the last resource that said goodbye.
using farewell = std::string;

std::string answer(std::int64_t seconds, std::string_view status = {}) {
  xmpp::writer w;
  return w.open("query", ns).attr("seconds", std::to_string(std::max<std::int64_t>(seconds, 0))).text(status).close().take();
}

class last final : public module {
public:
  std::string_view name() const override { return "last"; }

  void start(registrar& reg) override {
    clock_ = &reg.around().clock;
    if (!since_)
      since_ = clock_->now();
    reg.feature(ns);
    reg.feature(ns, at::account);
    reg.iq_get(at::host, ns, [this](iq_request&) {
      return iq_reply::payload(answer(std::chrono::duration_cast<std::chrono::seconds>(clock_->now() - *since_).count()));
    });
    reg.iq_get(at::account, ns, [this](iq_request& r) { return on_get(r); });
    reg.filter<stanza_received>(stage::access, [](stanza_received& ev) { return judge(ev); });
    reg.observe<stanza_sent>(stage::late, [this](stanza_sent& ev) { listen(ev); });
    reg.observe<session_ended>(stage::late, [this](session_ended& ev) { remember(ev); });
  }

private:
  farewell& of(account_view& a) const { return a.state_of<farewell>(this); }

  /// Section 4: no client is asked by who may not see that it is there. The payload is read for strangers alone.
  static verdict judge(stanza_received& ev) {
    auto& s = *ev.what.what;
    if (s.kind() != xmpp::stanza_kind::iq || s.type() != xmpp::stanza_type::get || s.to->is_bare() || ev.account.may_see_presence(*s.from))
      return verdict::pass();
    thread_local xmpp::document d;
    if (d.parse(s.bytes()).first_child().ns() != ns)
      return verdict::pass();
    return verdict::refuse(stanza_errc::forbidden);
  }

  void listen(stanza_sent& ev) const {
    auto& s = *ev.what.what;
    if (s.kind() != xmpp::stanza_kind::presence || s.type() != xmpp::stanza_type::unavailable)
      return;
    thread_local xmpp::document d;
    of(ev.account) = xmpp::cut(d.parse(s.bytes()).child("status", "jabber:client").text(), longest_status);
  }

  void remember(session_ended& ev) const {
    if (!ev.account.sessions().empty())
      return;
    storage::batch b;
    b.changes.emplace_back(storage::put{tables::last_activity_key(*ev.account.bare()),
                                        tables::encode(tables::last_activity{clock_->wall().time_since_epoch().count(),
                                                                             std::exchange(of(ev.account), {})})});
    b.durability = storage::durability::relaxed; // a time that a crash forgets is no loss
    ev.out.commit(std::move(b));
  }

  /// Section 3.
  iq_reply on_get(iq_request& r) const {
    r.account->with_roster(*r.out, [this, &account = *r.account, from = r.what->from, then = r.later()](bool is_there, effects& out) {
      if (!is_there)
        return then(base::fail(error_of(storage::errc::unavailable)));
      if (!account.may_see_presence(*from))
        return then(base::fail(xmpp::stanza_error{stanza_errc::forbidden}));
      if (!account.sessions().empty())
        return then(answer(0));
      out.load(storage::only(tables::last_activity_key(*account.bare())), 1, [this, then](rows found, effects&) {
        if (!found)
          return then(base::fail(error_of(found.error())));
        if (found->empty()) // it never logged in
          return then(base::fail(xmpp::stanza_error{stanza_errc::item_not_found}));
        auto left = tables::decode_last_activity(found->front());
        if (!left)
          return then(base::fail(error_of(left.error())));
        auto us = clock_->wall().time_since_epoch().count() - left->left_us;
        then(answer(us / 1'000'000, left->status));
      });
    });
    return iq_reply::later();
  }

  const base::clock* clock_ = nullptr;
  std::optional<base::time_point> since_; // the first start: settings may be read again
};
} // namespace

std::unique_ptr<module> make_last() { return std::make_unique<last>(); }

} // namespace modules
