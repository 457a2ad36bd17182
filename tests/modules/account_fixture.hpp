// One host with chosen modules and one account of it, without an actor: requests in, what they ask for out. Rows live
// in a memory engine.
#pragma once
#include "modules/all.hpp"
#include "storage/memory/engine.hpp"
#include "tests/support/made.hpp"
#include "xmpp/im/block_list.hpp"
#include <deque>
#include <doctest/doctest.h>
#include <map>

namespace modules::testing {

struct some_accounts final : accounts {
  void create(const xmpp::jid_ref& bare, std::string, on_account then, storage::batch with) override {
    created.emplace_back(bare->bare());
    last = std::move(with);
    then({});
  }
  void set_password(const xmpp::jid_ref&, std::string, on_account then) override { then(base::fail(account_errc::not_found)); }
  void remove(const xmpp::jid_ref&, on_account then) override { then({}); }
  void exists(const xmpp::jid_ref& bare, std::function<void(base::result<bool, account_errc>)> then) override {
    then(std::find(there.begin(), there.end(), bare->bare()) != there.end());
  }
  std::vector<std::string> created, there;
  storage::batch last; // what was written with it
};

/// What a test sets; else numbers are 100, flags true, the rest is empty.
struct some_settings final : settings {
  std::int64_t number(std::string_view key) const override {
    auto i = numbers.find(key);
    return i == numbers.end() ? 100 : i->second;
  }
  bool flag(std::string_view key) const override { return !off.contains(key); }
  std::string text(std::string_view key) const override {
    auto i = texts.find(key);
    return i == texts.end() ? std::string{} : i->second;
  }
  std::vector<std::string> list(std::string_view key) const override {
    auto i = lists.find(key);
    return i == lists.end() ? std::vector<std::string>{} : i->second;
  }
  std::map<std::string, std::int64_t, std::less<>> numbers;
  std::map<std::string, bool, std::less<>> off;
  std::map<std::string, std::string, std::less<>> texts;
  std::map<std::string, std::vector<std::string>, std::less<>> lists;
};

using covey_tests::jid;
using covey_tests::stanza;

class account_fixture : public account_view {
public:
  some_accounts people;
  base::manual_clock clock;
  base::seeded_random random{1};
  services around{people, clock, random, {1, 2}};
  some_settings values;
  host_view view;
  std::vector<std::unique_ptr<module>> list;
  storage::memory_engine engine;
  std::vector<session_view> members;
  struct contact { xmpp::jid_ref jid; xmpp::im::subscription_state state; };
  std::vector<contact> contacts;
  std::vector<std::string> sent, delivered; // what went out, and what went to the own sessions, since taken
  bool is_roster_there = true, has_room = true;

  account_fixture() {
    view.domain = testing::jid("example.org");
    view.admins = {"admin@example.org"};
  }
  void start(std::unique_ptr<module> m) {
    registrar reg{view, std::string{m->name()}, values, around};
    m->start(reg);
    list.push_back(std::move(m));
  }
  /// What the account does when it starts: everything kept is gone, rows are read.
  void restart() {
    states_.clear();
    snapshot_ = snapshot_ref{new account_snapshot};
    effects out;
    for (auto& p : view.preloads) {
      auto rows = engine.scan(p.range(*bare_), storage::order::forward, p.limit);
      REQUIRE(rows.has_value());
      p.take(*this, *rows, out);
    }
    settle(out);
  }
  void join(std::uint64_t id, std::string_view resource, bool is_available = true) {
    session_view v;
    v.id = id;
    v.full = *xmpp::with_resource(*bare_, resource);
    v.is_available = is_available;
    v.presence = stanza("<presence/>", v.full->full(), bare_->full());
    members.push_back(std::move(v));
  }
  void leave(std::uint64_t id) {
    auto i = std::find_if(members.begin(), members.end(), [&](auto& m) { return m.id == id; });
    REQUIRE(i != members.end());
    auto gone = *i;
    members.erase(i);
    effects out;
    session_ended ev{gone, *this, out};
    (void)view.ended.run(ev);
    settle(out);
  }

  /// The answer to a request: payload or name of the error. `to` is this account's bare JID.
  std::string ask(std::string_view type, std::string_view payload, std::string_view from = "me@example.org/pc", at where = at::account) {
    auto s = stanza("<iq type='" + std::string{type} + "' id='1'>" + std::string{payload} + "</iq>", from,
                    where == at::host ? view.domain->full() : bare_->full());
    xmpp::document d;
    auto inside = d.parse(s->bytes()).first_child();
    auto& table = where == at::host ? view.host_iqs : view.account_iqs;
    auto handler = table.find(host_view::handler_key{inside.ns(), type == "set"});
    REQUIRE(handler != table.end());
    effects out;
    std::string answer = "nothing";
    auto then = [&answer](base::result<std::string, xmpp::stanza_error> r) {
      answer = r ? *r : std::string{xmpp::name_of(r.error().condition)};
    };
    iq_request r{s, inside, view, type == "set", where == at::account ? this : nullptr, &out, [&] { return then; }};
    auto reply = handler->second(r);
    settle(out);
    if (auto* xml = std::get_if<std::string>(&reply.get()))
      return *xml;
    if (auto* e = std::get_if<xmpp::stanza_error>(&reply.get()))
      return std::string{xmpp::name_of(e->condition)};
    return answer;
  }
  /// "pass", "drop", "taken" or the condition that the sender gets.
  static std::string name_of(const verdict& v) {
    using kind = verdict::kind;
    return v.what() == kind::pass ? "pass" : v.what() == kind::drop ? "drop" : v.what() == kind::taken ? "taken"
           : std::string{xmpp::name_of(v.error().condition)};
  }
  std::string receive(std::string_view xml, std::string_view from) {
    xmpp::delivery d{stanza(xml, from, bare_->full()), {}};
    effects out;
    stanza_received ev{d, *this, out};
    auto v = view.received.run(ev);
    settle(out);
    return name_of(v);
  }
  std::string enter(std::string_view xml, std::string_view to) {
    auto s = stanza(xml, "me@example.org/pc", to);
    auto sender = s->from;
    stanza_entered ev{*s, sender, view, *snapshot_};
    return name_of(view.entered.run(ev));
  }
  std::vector<std::string> take(std::vector<std::string>& from) {
    std::sort(from.begin(), from.end());
    return std::exchange(from, {});
  }

  /// Carries out what was asked, and what that asks for.
  void settle(effects& out) { settle(out, engine); }
  void settle(effects& out, storage::engine& engine) {
    std::deque<effects::item> todo;
    auto add = [&](effects& more) { std::move(more.list().begin(), more.list().end(), std::back_inserter(todo)); more.clear(); };
    for (add(out); !todo.empty();) {
      auto item = std::move(todo.front());
      todo.pop_front();
      effects more;
      if (auto* r = std::get_if<effect::route>(&item))
        sent.push_back(xmpp::to_string(r->what));
      else if (auto* d = std::get_if<effect::deliver>(&item))
        delivered.push_back(xmpp::to_string(d->what));
      else if (auto* l = std::get_if<effect::load>(&item)) {
        l->then(engine.scan(l->range, l->order, l->limit), more);
      } else if (auto* c = std::get_if<effect::commit>(&item)) {
        auto how = engine.commit({&c->what, 1}).front();
        if (c->then)
          c->then(how, more);
      }
      add(more);
    }
  }

  // --- account_view
  const xmpp::jid_ref& bare() const override { return bare_; }
  const host_view& host() const override { return view; }
  std::span<const session_view> sessions() const override { return members; }
  bool may_see_presence(const xmpp::jid& j) const override {
    return same_bare(j, *bare_) || std::any_of(contacts.begin(), contacts.end(), [&](auto& c) { return same_bare(*c.jid, j) && c.state.from; });
  }
  bool knows(const xmpp::jid& j) const override {
    return std::any_of(contacts.begin(), contacts.end(), [&](auto& c) { return same_bare(*c.jid, j); });
  }
  void for_each_contact(const on_contact& f) const override {
    for (auto& c : contacts)
      f(c.jid, c.state);
  }
  void with_roster(effects& out, std::function<void(bool, effects&)> then) override { then(is_roster_there, out); }
  std::any& state(const void* module) override { return states_[module]; }
  const snapshot_ref& snapshot() const override { return snapshot_; }
  void share(snapshot_ref fresh, effects&) override { snapshot_ = std::move(fresh); }
  void want_copies(std::uint64_t, bool, effects&) override {}
  void say(std::uint64_t session, xmpp::stanza_ref presence, effects&) override {
    for (auto& m : members)
      if (m.id == session)
        m.presence = presence;
    said.push_back(xmpp::to_string(presence));
  }
  void subscribe(const xmpp::stanza_ref& presence, effects&) override { said.push_back(xmpp::to_string(presence)); }
  void answer_request(const xmpp::stanza_ref& presence, bool is_approved, effects&) override {
    answered.push_back((is_approved ? "yes: " : "ask: ") + xmpp::to_string(presence));
  }
  bool enqueue(std::function<void(effects&)> operation, effects& out, std::uint32_t) override {
    if (!has_room)
      return false;
    operations_.push_back(std::move(operation));
    if (operations_.size() == 1)
      operations_.front()(out);
    return true;
  }
  void finish(effects& out) override {
    operations_.pop_front();
    if (!operations_.empty())
      operations_.front()(out);
  }
  bool has_arrived(base::u128 stanza_id) const override { return std::ranges::find(arrived, stanza_id) != arrived.end(); }
  void hold_messages(std::uint64_t) override {}
  void release_messages(std::uint64_t, effects&) override {}
  void expect_nothing(std::uint64_t session, effects&) override { expecting_nothing.push_back(session); }
  std::vector<std::uint64_t> expecting_nothing;
  std::vector<base::u128> arrived;   // what the account is to know
  std::vector<std::string> said;     // presence in a session's name, subscriptions in the account's
  std::vector<std::string> answered; // requests that filters took
  [[nodiscard]] bool is_at_rest() const { return operations_.empty(); }

private:
  xmpp::jid_ref bare_ = testing::jid("me@example.org");
  snapshot_ref snapshot_{new account_snapshot};
  std::map<const void*, std::any> states_;
  std::deque<std::function<void(effects&)>> operations_;
};

} // namespace modules::testing
