// XEP-0077 In-Band Registration 2.4: new accounts before login, password change and removal after it.
#include "base/network.hpp"
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

/// So many an hour of one name: an address, an account. Bounded; any thread.
class hourly_rate {
public:
  explicit hourly_rate(std::int64_t per_hour) : per_hour_(per_hour) {}
  bool take(const std::string& name, base::time_point now) {
    if (per_hour_ == 0) // no limit
      return true;
    std::lock_guard guard{mutex_};
    if (until_.size() >= most && !until_.contains(name)) {
      boost::unordered::erase_if(until_, [&](auto& e) { return e.second <= now; });
      if (until_.size() >= most)
        return false;
    }
    auto step = base::duration{std::chrono::hours{1}} / per_hour_; // not in whole hours
    auto& until = until_[name];
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
            {"allow_from", list, "[]", "Networks from which strangers may make accounts; none: from everywhere.", 0, INT64_MAX, {},
             [](const std::string& s) { return base::parse_network(s).has_value(); }, R"(networks like "192.0.2.0/24", "2001:db8::/32", or single addresses)", "127.0.0.0/8"},
            {"changes_per_hour", number, "10", "Password changes of one account in an hour; 0: no limit."},
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
                                             {}, std::make_unique<hourly_rate>(s.number("per_hour")),
                                             std::make_unique<hourly_rate>(s.number("changes_per_hour"))});
    for (auto& text : s.list("allow_from"))
      if (auto n = base::parse_network(text)) { // the configuration has refused others
        if (!n->is_v4())
          n->bits = std::min(n->bits, 64u); // so much of an IPv6 address names a peer
        own->allowed.push_back(*n);
      }
    if (own->enabled) {
      reg.login_feature("<register xmlns='http://jabber.org/features/iq-register'/>");
      reg.stranger_iq(ns, [own](const xmpp::stanza_ref& what, xmpp::element payload, const host_view& host,
                                std::string_view address, responder then) {
        on_stranger(*own, *what, payload, host, address, std::move(then));
      });
    }
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
    std::vector<base::network> allowed; // empty: all
    std::unique_ptr<hourly_rate> rate, changes;
  };

  static bool may_register(const rules& own, std::string_view address) {
    return own.allowed.empty() || std::any_of(own.allowed.begin(), own.allowed.end(), [&](auto& n) { return n.contains(std::string{address}); });
  }

  static bool is_of(const xmpp::jid& j, const host_view& host) { return j.domain() == host.domain->domain(); }

  /// Section 3.1: what a stranger has to fill in.
  static std::string form() {
    xmpp::writer w;
    w.open("query", ns).leaf("instructions", "Choose a name and a password.");
    w.open("username").close().open("password").close().close();
    return w.take();
  }

  static void on_stranger(rules& own, const xmpp::stanza& what, xmpp::element payload, const host_view& host,
                          std::string_view address, responder then) {
    if (payload.name() != "query")
      return then(base::fail(xmpp::stanza_error{stanza_errc::bad_request}));
    if (what.type() == xmpp::stanza_type::get)
      return may_register(own, address) ? then(form()) : then(base::fail(xmpp::stanza_error{stanza_errc::forbidden}));
    auto name = payload.child("username", ns).text(), password = payload.child("password", ns).text();
    auto answer = [then = std::move(then), jid = name + '@' + std::string{host.domain->domain()}, peer = std::string{address}](auto r) {
      if (!r)
        base::log::info("register.refused", "a stranger got no account",
                        {{"jid", jid}, {"peer", peer}, {"error", xmpp::name_of(r.error().condition)}, {"cause", r.error().text}});
      then(std::move(r));
    };
    auto bare = xmpp::make_jid(name, host.domain->domain());
    if (auto why = objection(own, name, password, bare, host, address))
      return answer(base::result<std::string, xmpp::stanza_error>{base::fail(*why)});
    own.around.accounts.create(*bare, std::move(password), answer_with(answer));
  }

  static std::optional<xmpp::stanza_error> objection(rules& own, const std::string& name, const std::string& password,
                                                     const base::result<xmpp::jid_ref, xmpp::jid_errc>& bare, const host_view& host,
                                                     std::string_view address) {
    if (!may_register(own, address))
      return xmpp::stanza_error{stanza_errc::forbidden, error_type::auth, "not from this network"};
    if (name.empty() || password.empty())
      return xmpp::stanza_error{stanza_errc::not_acceptable, error_type::modify, "name and password are needed"};
    if (!bare)
      return xmpp::stanza_error{stanza_errc::jid_malformed};
    if (std::find(own.reserved.begin(), own.reserved.end(), (*bare)->local()) != own.reserved.end() || host.entities.contains((*bare)->local()))
      return xmpp::stanza_error{stanza_errc::conflict, error_type::cancel, "this name is taken"};
    if (password.size() < own.shortest_password)
      return xmpp::stanza_error{stanza_errc::not_acceptable, error_type::modify, "this password is too short"};
    if (!own.rate->take(std::string{address}, own.around.clock.now()))
      return xmpp::stanza_error{stanza_errc::resource_constraint, error_type::wait, "too many new accounts from this address"};
    return std::nullopt;
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
    if (!own.changes->take(std::string{bare->bare()}, own.around.clock.now()))
      return iq_reply::error({stanza_errc::resource_constraint, error_type::wait, "too many password changes"});
    own.around.accounts.set_password(bare, std::move(password), answer_with(r.later()));
    return iq_reply::later();
  }
};
} // namespace

std::unique_ptr<module> make_register() { return std::make_unique<registration>(); }

} // namespace modules
