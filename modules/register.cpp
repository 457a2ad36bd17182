// XEP-0077 In-Band Registration 2.4: new accounts before login, password change and removal after it.
#include "modules/all.hpp"
#include <boost/unordered/unordered_flat_map.hpp>
#include <algorithm>
#include <mutex>

namespace modules {

namespace {
constexpr auto ns = "jabber:iq:register";
using xmpp::error_type;
using xmpp::stanza_errc;

xmpp::stanza_error error_of(account_errc e) {
  switch (e) {
    case account_errc::exists: return {stanza_errc::conflict, error_type::cancel, "this name is taken"};
    case account_errc::not_found: return stanza_errc::item_not_found;
    case account_errc::not_allowed: return stanza_errc::not_allowed;
    case account_errc::bad_password: return {stanza_errc::not_acceptable, error_type::modify, "this password cannot be used"};
    case account_errc::unavailable:
    case account_errc::overloaded: return {stanza_errc::resource_constraint, error_type::wait, "try again a little later"};
  }
  return stanza_errc::internal_server_error;
}

/// So many registrations an hour from one address. Bounded; any thread.
class registration_rate {
public:
  explicit registration_rate(std::int64_t per_hour) : per_hour_(per_hour) {}
  bool take(const std::string& address, base::time_point now) {
    if (per_hour_ == 0) // no limit
      return true;
    std::lock_guard guard{mutex_};
    if (until_.size() >= most && !until_.contains(address)) {
      boost::unordered::erase_if(until_, [&](auto& e) { return e.second <= now; });
      if (until_.size() >= most)
        return false;
    }
    auto step = base::duration{std::chrono::hours{1}} / per_hour_; // not in whole hours
    auto& until = until_[address];
    until = std::max(until, now);
    if (until - now > std::chrono::hours{1} - step)
      return false;
    until += step;
    return true;
  }

private:
  static constexpr std::size_t most = 65'536;
  std::int64_t per_hour_;
  std::mutex mutex_;
  boost::unordered_flat_map<std::string, base::time_point> until_;
};

on_account answer_with(responder then) {
  return [then = std::move(then)](base::result<void, account_errc> r) {
    then(r ? base::result<std::string, xmpp::stanza_error>{std::string{}} : base::fail(error_of(r.error())));
  };
}

class registration final : public module {
public:
  std::string_view name() const override { return "register"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"enabled", flag, "false", "Strangers may make accounts for themselves."},
            {"per_hour", number, "5", "Accounts that one address may make in an hour; 0: no limit."},
            {"password_change", flag, "true", "Users may change their password."},
            {"removal", flag, "true", "Users may remove their account."},
            {"shortest_password", number, "8", "Bytes that a new password needs at least."},
            {"reserved", list, R"(["admin", "administrator", "root", "postmaster", "abuse", "hostmaster", "webmaster"])",
             "Names that nobody can register."}};
  }

  void start(registrar& reg) override {
    auto& s = reg.settings();
    reg.feature(ns);
    auto own = std::make_shared<rules>(rules{reg.around(), s.flag("enabled"), s.flag("password_change"), s.flag("removal"),
                                             static_cast<std::size_t>(s.number("shortest_password")), s.list("reserved"),
                                             std::make_unique<registration_rate>(s.number("per_hour"))});
    if (own->enabled)
      reg.login_feature("<register xmlns='http://jabber.org/features/iq-register'/>");
    reg.stranger_iq(ns, [own](const xmpp::stanza_ref& what, xmpp::element payload, const host_view& host, const stranger& who, responder then) {
      on_stranger(*own, *what, payload, host, who, std::move(then));
    });
    for (auto where : {at::host, at::account}) { // to the host, or without `to`
      reg.iq_get(where, ns, [](iq_request& r) { return on_get(r); });
      reg.iq_set(where, ns, [own](iq_request& r) { return on_set(*own, r); });
    }
  }

private:
  struct rules {
    const services& around;
    bool enabled, password_change, removal;
    std::size_t shortest_password;
    std::vector<std::string> reserved;
    std::unique_ptr<registration_rate> rate;
  };

  static bool is_of(const xmpp::jid& j, const host_view& host) { return j.domain() == host.domain->domain(); }

  /// Section 3.1: what a stranger has to fill in.
  static std::string form() {
    xmpp::writer w;
    w.open("query", ns).leaf("instructions", "Choose a name and a password.");
    w.open("username").close().open("password").close().close();
    return w.take();
  }

  static void on_stranger(rules& own, const xmpp::stanza& what, xmpp::element payload, const host_view& host,
                          const stranger& who, responder then) {
    if (payload.name() != "query")
      return then(base::fail(xmpp::stanza_error{stanza_errc::bad_request}));
    if (what.type() == xmpp::stanza_type::get)
      return then(form());
    auto name = payload.child("username", ns).text(), password = payload.child("password", ns).text();
    if (name.empty() || password.empty())
      return then(base::fail(xmpp::stanza_error{stanza_errc::not_acceptable, error_type::modify, "name and password are needed"}));
    auto bare = xmpp::make_jid(name, host.domain->domain());
    if (!bare)
      return then(base::fail(xmpp::stanza_error{stanza_errc::jid_malformed}));
    bool is_reserved = std::find(own.reserved.begin(), own.reserved.end(), (*bare)->local()) != own.reserved.end()
                       || host.entities.contains((*bare)->local());
    if (is_reserved)
      return then(base::fail(xmpp::stanza_error{stanza_errc::conflict, error_type::cancel, "this name is taken"}));
    if (password.size() < own.shortest_password)
      return then(base::fail(xmpp::stanza_error{stanza_errc::not_acceptable, error_type::modify, "this password is too short"}));
    storage::batch rows;
    account_wanted ev{**bare, who, rows};
    auto v = host.wanted.run(ev);
    if (v.what() == verdict::kind::refuse)
      return then(base::fail(v.error()));
    bool is_invited = v.what() == verdict::kind::taken;
    if (!own.enabled && !is_invited)
      return then(base::fail(xmpp::stanza_error{stanza_errc::not_allowed, error_type::cancel, "an invitation is needed"}));
    if (!is_invited && !own.rate->take(std::string{who.address}, own.around.clock.now()))
      return then(base::fail(xmpp::stanza_error{stanza_errc::resource_constraint, error_type::wait,
                                                "too many new accounts from this address"}));
    own.around.accounts.create(*bare, std::move(password), answer_with(std::move(then)), std::move(rows));
  }

  static iq_reply on_get(iq_request& r) {
    if (!is_of(*r.what->from, r.host) || !r.what->from->local().size())
      return iq_reply::error(stanza_errc::service_unavailable);
    xmpp::writer w;
    w.open("query", ns).open("registered").close().leaf("username", r.what->from->local()).open("password").close().close();
    return iq_reply::payload(w.take());
  }

  /// Sections 3.2 and 3.3, for the sender's own account only.
  static iq_reply on_set(rules& own, iq_request& r) {
    auto& from = r.what->from;
    if (!is_of(*from, r.host) || from->local().empty() || (r.account && !r.is_own()))
      return iq_reply::error(stanza_errc::forbidden);
    if (r.payload.name() != "query")
      return iq_reply::error(stanza_errc::bad_request);
    auto bare = xmpp::bare_of(from);
    if (r.payload.child("remove", ns)) {
      auto second = r.payload.first_child().next_sibling();
      if (second) // section 3.2: nothing beside <remove/>
        return iq_reply::error(stanza_errc::bad_request);
      if (!own.removal)
        return iq_reply::error(stanza_errc::not_allowed);
      own.around.accounts.remove(bare, answer_with(r.later()));
      return iq_reply::later();
    }
    if (!own.password_change)
      return iq_reply::error(stanza_errc::not_allowed);
    auto name = r.payload.child("username", ns).text(), password = r.payload.child("password", ns).text();
    auto named = xmpp::make_jid(name, r.host.domain->domain());
    if (!named || password.empty())
      return iq_reply::error(stanza_errc::bad_request);
    if (!same_bare(**named, *bare)) // section 3.3: no one else's
      return iq_reply::error(stanza_errc::not_allowed);
    if (password.size() < own.shortest_password)
      return iq_reply::error({stanza_errc::not_acceptable, error_type::modify, "this password is too short"});
    own.around.accounts.set_password(bare, std::move(password), answer_with(r.later()));
    return iq_reply::later();
  }
};
} // namespace

std::unique_ptr<module> make_register() { return std::make_unique<registration>(); }

} // namespace modules
