// XEP-0401 Easy User Onboarding 0.5, XEP-0379 Pre-Authenticated Roster Subscription 0.3 and XEP-0445 Pre-Authenticated
// In-Band Registration 0.2: tokens that an operator gives away, each good once and for a while.
#include "modules/all.hpp"
#include "modules/stored_xml.hpp"
#include "storage/tables.hpp"
#include "xmpp/im/presence.hpp"
#include <algorithm>

namespace modules {

namespace {
namespace tables = storage::tables;
using xmpp::error_type;
using xmpp::stanza_errc;
using xmpp::stanza_type;
constexpr auto ns = "urn:xmpp:pars:0";
constexpr std::size_t most_rows = 100'000, longest_token = 64;

/// What a stream keeps when its token was good: it may be used after it has ended (XEP-0445 section 4).
struct pass {
  std::string host, key;
  storage::version version = 0;
  tables::invitation invitation;
};

/// RFC 5122 section 2.2: all but unreserved characters and the separator as %XX.
std::string in_uri(std::string_view jid) {
  std::string out;
  for (unsigned char c : jid) {
    bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view{"-._~@"}.find(static_cast<char>(c)) != std::string_view::npos;
    constexpr char digits[] = "0123456789ABCDEF";
    if (is_plain)
      out += static_cast<char>(c);
    else
      (out += '%') += {digits[c >> 4], digits[c & 15]};
  }
  return out;
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  if (auto at = text.find(what); at != text.npos)
    text.replace(at, what.size(), by);
  return text;
}

class invites final : public module {
public:
  std::string_view name() const override { return "invites"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"life", duration, "7d", "How long an invitation is good.", 60'000},
            {"most", number, "1000", "Invitations of a host that are good at a time.", 1, static_cast<std::int64_t>(most_rows / 4)},
            {"registers", flag, "true", "Who is invited as a contact may make an account here."},
            {"landing", text, "", "Page that explains an invitation: https://example.org/invite/#{token}; {uri} is the address without xmpp:."}};
  }

  void start(registrar& reg) override {
    auto& s = reg.settings();
    if (!reg.around().rows)
      return;
    auto own = std::make_shared<rules>(rules{reg.around(), std::string{reg.host().domain->domain()}, std::chrono::milliseconds{s.number("life")},
                                             static_cast<std::size_t>(s.number("most")), s.flag("registers"), s.text("landing")});
    reg.login_feature("<register xmlns='urn:xmpp:ibr-token:0'/><register xmlns='urn:xmpp:invite'/>"); // the second: of earlier versions
    reg.stranger_iq(ns, [own](const xmpp::stanza_ref& what, xmpp::element payload, const host_view&, const stranger& who, responder then) {
      on_token(*own, *what, payload, who, std::move(then));
    });
    reg.filter<account_wanted>(stage::access, [own](account_wanted& ev) { return let_in(*own, ev); });
    reg.filter<subscription_asked>(stage::late, [own](subscription_asked& ev) { return on_request(*own, ev); });
    reg.observe<session_ready>(stage::late, [](session_ready& ev) { meet(ev); });
    reg.invitations([own](const xmpp::jid_ref& whom, on_invitation then) { issue(own, whom, std::move(then)); });
    forget_old(own, [](auto&&) {});
  }

private:
  struct rules {
    const services& around;
    std::string host;
    base::duration life;
    std::size_t most;
    bool registers;
    std::string landing;
    [[nodiscard]] std::int64_t now_us() const { return around.clock.wall().time_since_epoch().count(); }
    [[nodiscard]] std::int64_t end_us() const { return now_us() + std::chrono::duration_cast<std::chrono::microseconds>(life).count(); }
  };
  using shared_rules = std::shared_ptr<const rules>;

  // --- issued

  /// Erases what has ended; `then` learns how many tokens are still good.
  static void forget_old(const shared_rules& own, std::function<void(base::result<std::size_t, storage::errc>)> then) {
    own->around.rows->scan(tables::invitations_of(own->host), storage::order::forward, most_rows, [own, then = std::move(then)](auto rows) {
      if (!rows)
        return then(base::fail(rows.error()));
      storage::batch b;
      b.durability = storage::durability::relaxed; // what comes back is old all the same
      std::size_t good = 0;
      auto tokens = tables::invitation_key(own->host, {}, {});
      tokens.resize(tokens.size() - 2); // what the keys of all tokens begin with
      for (auto& r : *rows) {
        auto i = tables::decode_invitation(r);
        if (!i || i->expires_us <= own->now_us())
          b.changes.emplace_back(storage::erase{r.key});
        else
          good += r.key.starts_with(tokens);
      }
      if (b.changes.empty())
        return then(good);
      own->around.rows->submit(std::move(b), [then, good](storage::outcome) { then(good); });
    });
  }

  /// To the host: an account of any name. To an account that is there: to become its contact. Else: to make this account.
  static void issue(const shared_rules& own, const xmpp::jid_ref& whom, on_invitation then) {
    if (whom->is_domain())
      return keep(own, whom, {{}, {}, own->end_us(), true}, then);
    own->around.accounts.exists(whom, [own, whom, then](base::result<bool, account_errc> is_there) {
      if (!is_there)
        return then(base::fail(std::string{"the storage does not answer"}));
      if (*is_there)
        keep(own, whom, {std::string{whom->bare()}, {}, own->end_us(), own->registers}, then);
      else
        keep(own, whom, {{}, std::string{whom->local()}, own->end_us(), true}, then);
    });
  }

  static void keep(const shared_rules& own, const xmpp::jid_ref& whom, tables::invitation i, on_invitation then) {
    forget_old(own, [own, whom, i = std::move(i), then](base::result<std::size_t, storage::errc> good) {
      if (!good)
        return then(base::fail(std::string{"the storage does not answer"}));
      if (*good >= own->most)
        return then(base::fail(std::to_string(*good) + " invitations are open; the oldest ends by itself (modules.invites.most)"));
      auto token = own->around.random.hex(16);
      storage::batch b;
      auto key = tables::invitation_key(own->host, {}, token);
      b.preconditions.push_back({key, 0});
      b.changes.emplace_back(storage::put{std::move(key), tables::encode(i)});
      if (!i.name.empty())
        b.changes.emplace_back(storage::put{tables::invitation_key(own->host, i.name, {}), tables::encode(i)});
      own->around.rows->submit(std::move(b), [own, whom, i, token, then](storage::outcome o) {
        if (o != storage::outcome::done)
          return then(base::fail(std::string{"the invitation was not stored"}));
        then(say(*own, *whom, i, token));
      });
    });
  }

  static invitation say(const rules& own, const xmpp::jid& whom, const tables::invitation& i, const std::string& token) {
    auto address = in_uri(whom.bare()) + (i.inviter.empty() ? "?register;preauth=" : "?roster;preauth=") + token
                   + (!i.inviter.empty() && i.registers ? ";ibr=y" : "");
    return {"xmpp:" + address, replaced(replaced(own.landing, "{token}", token), "{uri}", address),
            base::wall_time{std::chrono::microseconds{i.expires_us}}};
  }

  // --- used before login

  static xmpp::stanza_error not_good() {
    return {stanza_errc::item_not_found, error_type::cancel, "this invitation is unknown, used or has ended"};
  }

  static void on_token(const rules& own, const xmpp::stanza& what, xmpp::element payload, const stranger& who, responder then) {
    auto token = payload.attr_or("token", {});
    if (what.type() != stanza_type::set || payload.name() != "preauth" || token.empty())
      return then(base::fail(xmpp::stanza_error{stanza_errc::bad_request}));
    if (token.size() > longest_token)
      return then(base::fail(not_good()));
    auto key = tables::invitation_key(own.host, {}, token);
    own.around.rows->scan(storage::only(key), storage::order::forward, 1, [&own, key, memory = who.memory, then](auto rows) {
      if (!rows)
        return then(base::fail(error_of(rows.error())));
      auto i = rows->empty() ? base::result<tables::invitation, storage::errc>{base::fail(storage::errc::conflict)}
                             : tables::decode_invitation(rows->front());
      if (!i || !i->registers || i->expires_us <= own.now_us())
        return then(base::fail(not_good()));
      *memory = pass{own.host, key, rows->front().version, std::move(*i)};
      then(std::string{});
    });
  }

  /// The token goes with the batch that makes the account: it is used once, and not at all if that fails.
  static verdict let_in(const rules& own, account_wanted& ev) {
    auto& b = ev.rows;
    auto reserved = tables::invitation_key(own.host, ev.bare.local(), {});
    auto* p = std::any_cast<pass>(ev.who.memory.get());
    if (!p || p->host != own.host) {
      b.preconditions.push_back({std::move(reserved), 0}); // XEP-0445 section 5: kept for somebody
      return verdict::pass();
    }
    auto& i = p->invitation;
    if (i.name.empty()) {
      b.preconditions.push_back({std::move(reserved), 0});
    } else {
      if (i.name != ev.bare.local())
        return verdict::refuse({stanza_errc::not_acceptable, error_type::modify, "this invitation is for " + i.name});
      b.changes.emplace_back(storage::erase{std::move(reserved)});
    }
    b.preconditions.push_back({p->key, p->version});
    b.changes.emplace_back(storage::erase{p->key});
    if (auto inviter = i.inviter.empty() ? nullptr : xmpp::parse_jid(i.inviter).value_or(nullptr)) { // they become contacts
      tables::roster_row contact;
      contact.item.contact = inviter;
      contact.item.state.pending_out = contact.item.state.approved = true;
      b.changes.emplace_back(storage::put{tables::roster_key(ev.bare, *inviter), tables::encode(contact)});
      b.changes.emplace_back(storage::put{tables::invitation_key(own.host, inviter->local(), ev.bare.bare()),
                                          tables::encode(tables::invitation{i.inviter, {}, own.end_us(), false})});
    }
    return verdict::taken();
  }

  // --- used by accounts

  /// The new account asks its inviter, whom it has approved before it could speak. Until it has an answer: the inviter's
  /// note may be there later (RFC 6121 section 3.1.2 lets a server ask again).
  static void meet(session_ready& ev) {
    ev.account.with_roster(ev.out, [&account = ev.account](bool is_there, effects& out) {
      std::vector<xmpp::jid_ref> asked;
      if (is_there)
        account.for_each_contact([&](const xmpp::jid_ref& c, const xmpp::im::subscription_state& s) {
          if (s.approved && s.pending_out)
            asked.push_back(c);
        });
      for (auto& c : asked)
        account.subscribe(xmpp::im::make_presence(stanza_type::subscribe, account.bare(), c), out);
    });
  }

  /// XEP-0379 section 3.5, done by the server: a request with a good token of this account, or of somebody who has used
  /// one to get an account, is approved, and answered by one in return.
  static verdict on_request(const rules& own, subscription_asked& ev) {
    auto& s = ev.what;
    thread_local xmpp::document d;
    auto preauth = d.parse(s->bytes()).child("preauth", ns);
    auto& account = ev.account;
    if (!preauth && s->from->domain() != own.host) // only accounts of this host have notes
      return verdict::pass();
    auto key = preauth ? tables::invitation_key(own.host, {}, preauth.attr_or("token", {}).substr(0, longest_token))
                       : tables::invitation_key(own.host, account.bare()->local(), s->from->bare());
    ev.out.load(storage::only(key), 1, [&own, &account, s, key](rows found, effects& out) {
      auto i = !found || found->empty() ? base::result<tables::invitation, storage::errc>{base::fail(storage::errc::conflict)}
                                        : tables::decode_invitation(found->front());
      if (!i || i->inviter != account.bare()->bare() || i->expires_us <= own.now_us())
        return account.answer_request(s, false, out);
      storage::batch b;
      b.preconditions.push_back({key, found->front().version});
      b.changes.emplace_back(storage::erase{key});
      out.commit(std::move(b), [&account, s](storage::outcome o, effects& done) {
        account.answer_request(s, o == storage::outcome::done, done);
        if (o == storage::outcome::done)
          account.subscribe(xmpp::im::make_presence(stanza_type::subscribe, account.bare(), s->from), done);
      });
    });
    return verdict::taken();
  }
};
} // namespace

std::unique_ptr<module> make_invites() { return std::make_unique<invites>(); }

} // namespace modules
