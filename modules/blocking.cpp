// XEP-0191 Blocking Command 1.3 with the reports of XEP-0377 Blocking and Abuse Reporting 0.4. Nobody on the list
// reaches the account or is reached by it; to them it looks offline.
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "modules/all.hpp"
#include "storage/tables.hpp"
#include "xmpp/im/block_list.hpp"
#include "xmpp/im/presence.hpp"
#include "xmpp/im/roster.hpp"
#include <algorithm>

namespace modules {

namespace {
namespace tables = storage::tables;
using xmpp::im::block_list;
using xmpp::stanza_errc;
using jids = std::vector<xmpp::jid_ref>;
constexpr std::int64_t most_items = 100'000; // of the setting, so that a list that was longer once is still read whole

/// Kept with the account while it is in memory. The list itself is in its snapshot.
struct blocker {
  std::vector<std::uint64_t> interested; // sessions that have asked for the list
  std::size_t adding = 0;                // items of commits under way
  std::uint32_t pushes = 0;
  base::time_point reports_since{};
  std::int64_t reports = 0;              // in this hour
};

/// Never null.
const block_list& list_of(const account_snapshot& s) {
  static const block_list nobody;
  return s.blocked ? *s.blocked : nobody;
}

/// Section 4: never between an account's own resources. Nor from its own server, or nobody could unblock that.
bool is_free(const xmpp::jid& other, const xmpp::jid& own) {
  return same_bare(other, own) || other.full() == own.domain();
}

class blocking final : public module {
public:
  std::string_view name() const override { return "blocking"; }
  std::vector<setting_key> keys() const override {
    using enum setting_type;
    return {{"most", number, "1000", "JIDs that one account may block.", 1, most_items},
            {"reports", number, "20", "Reports of one account in an hour that are logged and sent to the administrators.", 0, 100'000}};
  }

  void start(registrar& reg) override {
    auto own = std::make_shared<rules>(rules{reg.around(), static_cast<std::size_t>(reg.settings().number("most")), reg.settings().number("reports")});
    reg.feature(std::string{xmpp::im::blocking_ns});
    reg.feature("urn:xmpp:reporting:1");
    reg.preload({tables::blocks_of, most_items, [](account_view& account, const std::vector<storage::row>& rows, effects& out) {
                   jids items;
                   for (auto& r : rows)
                     if (auto who = tables::blocked_in(r))
                       items.push_back(std::move(who));
                   if (!items.empty())
                     share(account, block_list{std::move(items)}, out);
                 }});
    std::string ns{xmpp::im::blocking_ns};
    reg.iq_get(at::account, ns, [this](iq_request& r) { return on_get(r); });
    reg.iq_set(at::account, ns, [this, own](iq_request& r) { return on_set(*own, r); });
    reg.filter<stanza_entered>(stage::privacy, [](stanza_entered& ev) { return judge_sent(ev); });
    reg.filter<stanza_received>(stage::privacy, [](stanza_received& ev) { return judge_received(ev); });
    reg.observe<session_ended>(stage::late, [this](session_ended& ev) { std::erase(of(ev.account).interested, ev.session.id); });
  }

private:
  struct rules {
    const services& around;
    std::size_t most;
    std::int64_t reports_per_hour;
  };

  blocker& of(account_view& a) const { return a.state_of<blocker>(this); }

  // --- what passes

  /// Section 3.3: what goes to a blocked JID comes back. Where it enters, so that nothing of it is done.
  static verdict judge_sent(stanza_entered& ev) {
    if (!ev.account.blocked || is_free(*ev.what.to, *ev.sender) || !ev.account.blocked->matches(*ev.what.to))
      return verdict::pass();
    return verdict::refuse(xmpp::im::blocked_error());
  }

  /// Section 3.3: messages and requests come back as from somebody who is not there, the rest vanishes.
  static verdict judge_received(stanza_received& ev) {
    auto& s = *ev.what.what;
    auto& blocked = ev.account.snapshot()->blocked;
    if (!blocked || is_free(*s.from, *ev.account.bare()) || !blocked->matches(*s.from))
      return verdict::pass();
    bool is_answered = s.kind() == xmpp::stanza_kind::message || s.is_request();
    return is_answered ? verdict::refuse(stanza_errc::service_unavailable) : verdict::drop(); // an error is not answered
  }

  // --- the list

  iq_reply on_get(iq_request& r) {
    if (!r.is_own())
      return iq_reply::error(stanza_errc::service_unavailable);
    if (r.payload.name() != "blocklist")
      return iq_reply::error(stanza_errc::bad_request);
    auto& b = of(*r.account);
    for (auto& s : r.account->sessions())
      if (*s.full == *r.what->from && std::find(b.interested.begin(), b.interested.end(), s.id) == b.interested.end())
        b.interested.push_back(s.id);
    return iq_reply::payload(xmpp::im::block_payload("blocklist", list_of(*r.account->snapshot()).items()));
  }

  iq_reply on_set(const rules& own, iq_request& r) {
    if (!r.is_own())
      return iq_reply::error(stanza_errc::service_unavailable);
    bool is_block = r.payload.name() == "block";
    if (!is_block && r.payload.name() != "unblock")
      return iq_reply::error(stanza_errc::bad_request);
    auto items = xmpp::im::parse_block_items(r.payload);
    if (!items)
      return iq_reply::error(items.error());
    if (is_block && items->empty())
      return iq_reply::error({stanza_errc::bad_request, xmpp::error_type::modify, "whom?"});
    return is_block ? block(own, std::move(*items), r) : unblock(std::move(*items), r);
  }

  iq_reply block(const rules& own, std::vector<xmpp::im::block_item> items, iq_request& r) {
    auto& account = *r.account;
    auto& now = list_of(*account.snapshot());
    auto created = own.around.clock.wall().time_since_epoch().count();
    storage::batch b;
    jids all;
    for (auto& i : items) {
      all.push_back(i.who);
      if (!now.contains(*i.who))
        b.changes.emplace_back(storage::put{tables::block_key(*account.bare(), *i.who), tables::encode(tables::block{created})});
    }
    auto added = b.changes.size();
    auto& state = of(account);
    if (now.size() + state.adding + added > own.most)
      return iq_reply::error({stanza_errc::resource_constraint, xmpp::error_type::cancel, "the block list is full"});
    state.adding += added;
    auto then = r.later();
    auto reports = [this, &own, items = std::move(items), &account](effects& out) {
      for (auto& i : items)
        if (i.report)
          report(own, *i.who, *i.report, account, out);
    };
    change(std::move(b), *r.out, [this, added, all, reports, then, &account](bool is_done, effects& out) {
      of(account).adding -= added;
      if (!is_done)
        return then(base::fail(not_stored()));
      become(account, list_of(*account.snapshot()).with(all), out);
      push("block", all, account, out);
      reports(out);
      then(std::string{});
    });
    return iq_reply::later();
  }

  iq_reply unblock(std::vector<xmpp::im::block_item> items, iq_request& r) {
    auto& account = *r.account;
    storage::batch b;
    jids all;
    for (auto& i : items) {
      all.push_back(i.who);
      b.changes.emplace_back(storage::erase{tables::block_key(*account.bare(), *i.who)});
    }
    if (items.empty()) {
      auto everybody = tables::blocks_of(*account.bare());
      b.changes.emplace_back(storage::erase_range{std::move(everybody.from), std::move(everybody.until)});
    }
    auto then = r.later();
    change(std::move(b), *r.out, [this, all, then, &account](bool is_done, effects& out) {
      if (!is_done)
        return then(base::fail(not_stored()));
      become(account, all.empty() ? block_list{} : list_of(*account.snapshot()).without(all), out);
      push("unblock", all, account, out);
      then(std::string{});
    });
    return iq_reply::later();
  }

  static xmpp::stanza_error not_stored() { return {stanza_errc::resource_constraint, xmpp::error_type::wait, "the list was not stored"}; }

  /// Commits of one account end in their order, so each may change the list as it is then.
  static void change(storage::batch b, effects& out, std::function<void(bool, effects&)> then) {
    if (b.changes.empty()) // they are on the list already
      return then(true, out);
    out.commit(std::move(b), [then = std::move(then)](storage::outcome o, effects& done) { then(o == storage::outcome::done, done); });
  }

  static void share(account_view& account, block_list list, effects& out) {
    auto fresh = base::ref<account_snapshot>{new account_snapshot};
    fresh->copies_sent = account.snapshot()->copies_sent;
    fresh->blocked = list.size() ? std::make_shared<const block_list>(std::move(list)) : nullptr;
    account.share(std::move(fresh), out);
  }

  /// The new list is in force, and each JID for which that changes something learns it: sections 3.3 and 3.4.
  static void become(account_view& account, block_list after, effects& out) {
    auto before = account.snapshot();
    auto& old = list_of(*before);
    share(account, after, out);
    jids hidden, shown, probed;
    account.for_each_contact([&](const xmpp::jid_ref& c, const xmpp::im::subscription_state& state) {
      bool was = old.matches(*c), is = after.matches(*c);
      if (was == is)
        return;
      if (state.from)
        (is ? hidden : shown).push_back(c);
      if (was && state.to)
        probed.push_back(c);
    });
    auto resources = [&](const block_list& of, const block_list& other, jids& out_list) { // of contacts that stay as they are
      for (auto& i : of.items())
        if (!i->is_bare() && !other.matches(*i) && !same_bare(*i, *account.bare()) && account.may_see_presence(*i) && !of.matches(*xmpp::bare_of(i)))
          out_list.push_back(i);
    };
    resources(after, old, hidden);
    resources(old, after, shown);
    bool is_anybody_there = false;
    for (auto& s : account.sessions())
      if (s.is_available) {
        is_anybody_there = true;
        for (auto& j : hidden)
          out.route({xmpp::im::make_unavailable(s.full, j), j});
        for (auto& j : shown)
          out.route({s.presence, j});
      }
    if (is_anybody_there)
      for (auto& j : probed) // what came meanwhile was dropped
        out.route({xmpp::im::make_presence(xmpp::stanza_type::probe, account.bare(), j), j});
  }

  void push(std::string_view what, const jids& items, account_view& account, effects& out) {
    auto& b = of(account);
    auto payload = xmpp::im::block_payload(what, items);
    for (auto& s : account.sessions()) {
      if (std::find(b.interested.begin(), b.interested.end(), s.id) == b.interested.end())
        continue;
      auto stanza = xmpp::im::make_push(payload, "block-" + std::to_string(++b.pushes));
      stanza->from = account.bare();
      stanza->to = s.full;
      out.deliver(s.id, {std::move(stanza), {}});
    }
  }

  // --- reports

  void report(const rules& own, const xmpp::jid& who, const xmpp::im::abuse_report& r, account_view& account, effects& out) {
    bool is_spam = r.reason == "urn:xmpp:reporting:spam", is_abuse = r.reason == "urn:xmpp:reporting:abuse";
    base::metrics::make_counter("covey_abuse_reports_total", "Reports of users about JIDs that they blocked.",
                                {{"reason", is_spam ? "spam" : is_abuse ? "abuse" : "other"}}).add();
    auto& b = of(account);
    auto now = own.around.clock.now();
    if (b.reports == 0 || now - b.reports_since >= std::chrono::hours{1}) {
      b.reports_since = now;
      b.reports = 0;
    }
    if (++b.reports > own.reports_per_hour)
      return;
    base::log::warning("abuse.reported", "a user blocked and reported a JID",
                       {{"jid", account.bare()->bare()}, {"about", who.full()}, {"reason", r.reason}, {"words", r.text}});
    xmpp::writer w;
    w.open("message").attr("type", "normal").leaf("subject", "Abuse report");
    w.leaf("body", std::string{account.bare()->bare()} + " reports " + std::string{who.full()} + " (" + r.reason + ")"
                       + (r.text.empty() ? "" : ":\n" + r.text));
    auto text = w.close().take();
    for (auto& admin : account.host().admins) {
      auto to = xmpp::parse_jid(admin);
      if (!to)
        continue;
      auto message = xmpp::stanza::from_xml(text);
      message->from = account.host().domain;
      message->to = *to;
      out.route({std::move(message), {}});
    }
  }
};
} // namespace

std::unique_ptr<module> make_blocking() { return std::make_unique<blocking>(); }

} // namespace modules
