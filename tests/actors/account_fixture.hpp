// The account machine without an actor: events in, what it asks for out, as lines of text. Rows live in a memory engine
// that can be made to fail, and are read and written when the test says so.
#pragma once
#include "actors/account.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include "modules/all.hpp"
#include "storage/memory/engine.hpp"
#include "storage/tables.hpp"
#include "tests/support/made.hpp"
#include <deque>
#include <doctest/doctest.h>

namespace actors::testing {

using covey_tests::jid;
using covey_tests::stanza;

class account_fixture {
public:
  using lines = std::vector<std::string>;
  base::manual_clock clock;
  base::seeded_random random{1};
  node around;
  std::shared_ptr<host> at = std::make_shared<host>();
  storage::memory_engine engine;
  bool is_prompt = true; // false: storage waits for run_storage()

  explicit account_fixture(const node_settings& settings = {}) : around(settings, clock, random) {
    at->view.domain = jid("b");
    start_again();
    write_account();
  }
  ~account_fixture() { base::log::flush(); }

  /// As after a crash: nothing but the rows is left.
  void start_again() { machine_ = std::make_unique<account>(bare, at, around); }
  void write_account() {
    storage::batch b;
    b.changes.emplace_back(storage::put{storage::tables::account_key(*bare), storage::tables::encode(storage::tables::account{})});
    REQUIRE(engine.commit({&b, 1}).front() == storage::outcome::done);
  }
  /// A contact as it was left by an earlier life.
  void write_contact(std::string_view contact, xmpp::im::subscription_state state, std::string name = {}, std::vector<std::string> groups = {}) {
    storage::tables::roster_row row;
    row.item.contact = jid(contact);
    row.item.state = state;
    row.item.name = std::move(name);
    row.item.groups = std::move(groups);
    put(storage::tables::roster_key(*bare, *row.item.contact), storage::tables::encode(row));
  }
  void put(std::string key, std::string value) {
    storage::batch b;
    b.changes.emplace_back(storage::put{std::move(key), std::move(value)});
    REQUIRE(engine.commit({&b, 1}).front() == storage::outcome::done);
  }
  /// "name [group, …] subscription" of a contact's row, or "none".
  std::string row_of(std::string_view contact) {
    auto r = engine.get(storage::tables::roster_key(*bare, *jid(contact)));
    REQUIRE(r.has_value());
    if (!*r)
      return "none";
    auto item = storage::tables::decode_roster(**r);
    REQUIRE(item.has_value());
    std::string groups;
    for (auto& g : item->item.groups)
      groups += (groups.empty() ? "" : ", ") + g;
    return item->item.name + " [" + groups + "] " + std::string{xmpp::im::name_of(item->item.state)};
  }

  // --- events; each returns what came of it
  lines attach(std::uint64_t session, std::string_view resource) {
    return step(modules::event::attach{{session, *xmpp::with_resource(*bare, resource), {}, session, {}}});
  }
  lines detach(std::uint64_t session) { return step(modules::event::detach{session}); }
  lines receive(std::string_view xml, std::string_view from, std::string_view to = "a@b") {
    return step(modules::event::stanza{{stanza(xml, from, to), {}}});
  }
  /// What a session's client says; `to` as the session would have filled it in.
  lines say(std::uint64_t session, std::string_view xml, std::string_view to = "a@b", std::string_view from = "a@b/" ) {
    auto s = xmpp::stanza::from_xml(xml);
    s->to = jid(to);
    s->from = from == "a@b/" ? *xmpp::with_resource(*bare, "r" + std::to_string(session)) : jid(from);
    return step(modules::event::outbound{session, {s, {}}});
  }
  lines step(modules::entity_event ev) {
    modules::effects out;
    machine_->step(ev, clock.now(), out);
    carry_out(out);
    return take();
  }
  /// One operation of the storage, in the order they were asked for.
  bool run_one() {
    if (storage_.empty())
      return false;
    auto next = std::move(storage_.front());
    storage_.pop_front();
    modules::effects more;
    if (auto* l = std::get_if<modules::effect::load>(&next)) {
      l->then(engine.scan(l->range, l->order, l->limit), more);
    } else {
      auto& c = std::get<modules::effect::commit>(next);
      auto how = engine.commit({&c.what, 1}).front();
      if (c.then)
        c.then(how, more);
    }
    carry_out(more);
    return true;
  }
  lines run_storage() {
    while (run_one()) {
    }
    return take();
  }
  lines take() { return std::exchange(lines_, {}); }
  [[nodiscard]] std::size_t waiting() const { return storage_.size(); }
  [[nodiscard]] account& machine() { return *machine_; }

  const xmpp::jid_ref bare = jid("a@b");

private:
  void carry_out(modules::effects& out) {
    auto todo = std::move(out.list());
    out.clear();
    for (auto& item : todo)
      std::visit([this](auto& e) { carry(e); }, item);
    if (is_prompt)
      while (run_one()) {
      }
  }
  void carry(modules::effect::route& e) { lines_.push_back("-> " + xmpp::to_string(e.what)); }
  void carry(modules::effect::deliver& e) { lines_.push_back(std::to_string(e.session) + ": " + xmpp::to_string(e.what)); }
  void carry(modules::effect::load& e) { storage_.emplace_back(std::move(e)); }
  void carry(modules::effect::commit& e) { storage_.emplace_back(std::move(e)); }
  void carry(modules::effect::accept& e) { lines_.push_back("accept " + std::to_string(e.session) + ' ' + std::string{e.full->full()}); }
  void carry(modules::effect::refuse& e) { lines_.push_back("refuse " + std::to_string(e.session) + ' ' + std::string{xmpp::name_of(e.why.condition)}); }
  void carry(modules::effect::end_session& e) { lines_.push_back("end " + std::to_string(e.session) + ' ' + std::string{xmpp::name_of(e.why)}); }
  void carry(modules::effect::complete& e) { lines_.push_back("complete " + std::to_string(static_cast<int>(e.how))); }
  void carry(modules::effect::publish&) {}
  void carry(modules::effect::share&) {}
  void carry(modules::effect::unspooled&) {}
  void carry(modules::effect::set_timer&) {}
  void carry(modules::effect::broadcast&) {}

  std::unique_ptr<account> machine_;
  std::deque<std::variant<modules::effect::load, modules::effect::commit>> storage_;
  lines lines_;
};

/// Whether one of the lines has all of `words`.
template <class... Words>
bool has(const account_fixture::lines& all, const Words&... words) {
  return std::any_of(all.begin(), all.end(), [&](const std::string& line) { return ((line.find(words) != std::string::npos) && ...); });
}
template <class... Words>
std::ptrdiff_t count(const account_fixture::lines& all, const Words&... words) {
  return std::count_if(all.begin(), all.end(), [&](const std::string& line) { return ((line.find(words) != std::string::npos) && ...); });
}

} // namespace actors::testing
