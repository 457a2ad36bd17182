// The start of an account: whether it exists, and the rows that modules need before anything is handled for it
// (DESIGN: entities load what enabled modules declare; stanzas wait meanwhile).
#include "actors/account.hpp"
#include "actors/account_rows.hpp"
#include "actors/node.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;

namespace {
constexpr std::size_t most_waiting = 10'000; // stanzas
constexpr auto read_again_after = std::chrono::seconds{1};
}

// --- is there such an account at all?

/// One read, then everything that waited is handled or bounced.
void account::wait_for_account(xmpp::delivery&& what, effects& out) {
  if (exists_ == presence_of_rows::absent && node_.absent().contains(*bare_, now_)) // else it may have been created meanwhile
    return refuse_absent(*what.what, out);
  if (waiting_.size() >= most_waiting)
    return out.bounce(*what.what, stanza_errc::resource_constraint);
  waiting_.push_back(std::move(what));
  if (std::exchange(exists_, presence_of_rows::loading) == presence_of_rows::loading)
    return;
  out.load(rows::account_range(*bare_), 1, [this](modules::rows r, effects& o) { on_account_row(std::move(r), o); });
}

void account::on_account_row(modules::rows r, effects& out) {
  auto waiting = std::exchange(waiting_, {});
  if (!r) {
    exists_ = presence_of_rows::unknown;
    for (auto& d : waiting)
      out.bounce(*d.what, rows::error_of(r.error()));
    return;
  }
  if (exists_ != presence_of_rows::known)
    exists_ = r->empty() ? presence_of_rows::absent : presence_of_rows::known;
  if (exists_ == presence_of_rows::absent)
    node_.absent().insert(*bare_, now_);
  for (auto& d : waiting) {
    if (exists_ == presence_of_rows::known) {
      modules::entity_event ev{modules::event::stanza{std::move(d)}};
      step(ev, now_, out);
    } else {
      refuse_absent(*d.what, out);
    }
  }
}

// --- the rows of its modules

/// A stanza first asks whether the account exists, so that names that do not exist cost one read; it overtakes none that
/// has asked already.
bool account::must_wait(const modules::entity_event& ev) const {
  bool is_stanza = std::holds_alternative<modules::event::stanza>(ev);
  return !is_stanza || exists_ == presence_of_rows::known || (start_ == start::reading && waiting_.empty());
}

void account::wait_for_rows(modules::entity_event&& ev, effects& out) {
  auto* in = std::get_if<modules::event::stanza>(&ev);
  if (in && early_.size() >= most_waiting)
    return out.bounce(*in->what.what, stanza_errc::resource_constraint);
  early_.push_back(std::move(ev));
  if (std::exchange(start_, start::reading) != start::cold)
    return;
  if (!node_.absent().contains(*bare_, now_))
    return read_next(0, out);
  // whoever logs in knew the password just now, but meanwhile the account may have been removed, or created again
  out.load(rows::account_range(*bare_), 1, [this](modules::rows r, effects& o) {
    if (!r)
      return on_rows_unreadable(r.error(), o);
    is_removed_ = r->empty();
    read_next(0, o);
  });
}

void account::read_next(std::size_t n, effects& out) {
  auto& all = host_->view.preloads;
  if (n == all.size())
    return host_->view.needs_roster ? with_roster(out, [this](bool is_there, effects& o) {
      is_there ? on_rows_read(o) : on_rows_unreadable(storage::errc::unavailable, o);
    }) : on_rows_read(out);
  out.load(all[n].range(*bare_), all[n].limit, [this, n](modules::rows r, effects& o) {
    if (!r)
      return on_rows_unreadable(r.error(), o);
    host_->view.preloads[n].take(*this, *r, o);
    read_next(n + 1, o);
  });
}

void account::on_rows_read(effects& out) {
  start_ = start::done;
  while (!early_.empty()) { // one by one: where one throws, take_held() finds the others
    auto ev = std::move(early_.front());
    early_.pop_front();
    step(ev, now_, out);
  }
}

/// Fails closed: nothing is handled by half an account. Whoever comes next tries again, and so do, in a moment, sessions that have
/// been let in elsewhere: an account that moves while the store is away must not cost them their streams.
void account::on_rows_unreadable(storage::errc why, effects& out) {
  start_ = start::cold;
  auto error = rows::error_of(why);
  auto failed = std::exchange(early_, {});
  auto has_left = [&](std::uint64_t session) {
    return std::ranges::any_of(failed, [&](auto& ev) {
      auto* gone = std::get_if<modules::event::detach>(&ev);
      return gone && gone->session == session;
    });
  };
  for (auto& ev : failed) {
    if (auto* in = std::get_if<modules::event::stanza>(&ev))
      out.bounce(*in->what.what, error);
    else if (auto* said = std::get_if<modules::event::outbound>(&ev))
      out.bounce(*said->what.what, error);
    else if (auto* who = std::get_if<modules::event::attach>(&ev)) {
      if (!who->who.before)
        out.refuse(who->who.session, error);
      else if (!has_left(who->who.session))
        early_.push_back(std::move(ev));
    } else if (auto* end = std::get_if<modules::event::remove>(&ev))
      end->then(base::fail(why));
    else
      std::visit([&](auto& e) { on(e, out); }, ev);
  }
  if (!early_.empty())
    out.set_timer(read_again, read_again_after);
}

} // namespace actors
