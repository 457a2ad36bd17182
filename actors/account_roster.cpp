// The operations of an account on its rows, one at a time, each from its reads to its commit: two devices that change
// the roster at once see every change, in one order. The roster itself; subscriptions have a file of their own.
#include "actors/account_change.hpp"
#include "actors/node.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_type;

// --- the queue of operations

bool account::enqueue(operation op, effects& out, std::uint32_t bytes) {
  auto& most = node_.settings().entity_limits; // as much as may be in flight to it; one always fits
  if (!operations_.empty() && (operations_.size() >= most.messages || operation_bytes_ + bytes > most.bytes))
    return false;
  operation_bytes_ += bytes;
  operations_.push_back({std::move(op), bytes});
  run_operations(out);
  return true;
}

void account::finish(effects& out) {
  is_busy_ = false;
  run_operations(out);
}

/// A loop, not each calling the next: thousands that need no disk must not pile up on the stack.
void account::run_operations(effects& out) {
  if (is_running_)
    return;
  is_running_ = true;
  while (!is_busy_ && !operations_.empty()) {
    is_busy_ = true;
    auto next = std::move(operations_.front());
    operations_.pop_front();
    operation_bytes_ -= next.bytes;
    next.run(out);
  }
  is_running_ = false;
}

// --- contacts in memory

account::contact* account::find_contact(const xmpp::jid& j) {
  return const_cast<contact*>(std::as_const(*this).find_contact(j));
}

const account::contact* account::find_contact(const xmpp::jid& j) const {
  auto i = std::lower_bound(contacts_.begin(), contacts_.end(), j.hash(),
                            [](auto& c, std::uint64_t hash) { return c.jid->hash() < hash; });
  for (; i != contacts_.end() && i->jid->hash() == j.hash(); ++i)
    if (i->jid->bare() == j.bare())
      return &*i;
  return nullptr;
}

void account::remember(const xmpp::im::roster_item& item) {
  bool keep = item.is_listed || !item.state.is_none();
  if (auto* c = find_contact(*item.contact)) {
    if (keep) {
      c->state = item.state;
      c->is_listed = item.is_listed;
    } else {
      contacts_.erase(contacts_.begin() + (c - contacts_.data()));
    }
    return;
  }
  if (!keep)
    return;
  auto j = xmpp::pooled(item.contact);
  auto at = std::lower_bound(contacts_.begin(), contacts_.end(), j->hash(),
                             [](auto& c, std::uint64_t hash) { return c.jid->hash() < hash; });
  auto place = at - contacts_.begin();
  if (contacts_.size() == contacts_.capacity())
    contacts_.reserve(contacts_.size() + 8); // not twice as many: there are many accounts
  contacts_.insert(contacts_.begin() + place, {std::move(j), item.state, item.is_listed});
}

void account::read_roster(effects& out, on_roster then) {
  if (is_removed_)
    return then(storage::errc::conflict, out);
  if (has_roster_)
    return then({}, out);
  out.load(rows::head_range(*bare_), 1, [this, then = std::move(then)](modules::rows head, effects& o) {
    auto h = rows::decode_head(*bare_, head);
    if (!h)
      return then(h.error(), o);
    head_version_ = h->row_version;
    roster_version_ = h->roster_version;
    o.load(rows::roster_range(*bare_), most_rows(), [this, then](modules::rows r, effects& o1) {
      auto items = rows::decode_items(*bare_, r);
      if (!items)
        return then(items.error(), o1);
      contacts_.clear();
      contacts_.reserve(items->size());
      for (auto& i : *items)
        contacts_.push_back({xmpp::pooled(i.item.contact), i.item.state, i.item.is_listed});
      std::sort(contacts_.begin(), contacts_.end(), [](auto& a, auto& b) { return a.jid->hash() < b.jid->hash(); });
      has_roster_ = true;
      then({}, o1);
    });
  });
}

bool account::load_roster(effects& out, operation then) {
  return enqueue([this, then = std::move(then)](effects& o) {
    read_roster(o, [this, then](std::optional<storage::errc> failed, effects& o1) {
      if (!failed)
        then(o1);
      finish(o1);
    });
  }, out);
}

void account::with_roster(effects& out, std::function<void(bool, effects&)> then) {
  if (has_roster_)
    return then(true, out);
  auto read = [this, then](effects& o) {
    read_roster(o, [this, then](std::optional<storage::errc> failed, effects& o1) {
      then(!failed, o1);
      finish(o1);
    });
  };
  if (!enqueue(read, out))
    then(false, out);
}

// --- changes

void account::make_change(const change_ref& c, effects& out) {
  if (!enqueue([this, c](effects& o) { attempt(c, o); }, out, c->cause->cost() + least_operation))
    c->refused(*this, too_many_changes(), out);
}

void account::attempt(const change_ref& c, effects& out) {
  read_roster(out, [this, c](std::optional<storage::errc> failed, effects& o) {
    if (failed)
      return give_up(c, rows::error_of(*failed), o);
    auto* known = find_contact(*c->who);
    auto writes = c->decide(*this, known);
    if (!writes)
      return give_up(c, writes.error(), o);
    if (!*writes) {
      c->done(*this, {}, o);
      return finish(o);
    }
    if (!known) {
      c->row = {{c->who, {}, {}, {}, false}, {}};
      return write(c, o);
    }
    o.load(rows::roster_item_range(*bare_, *c->who), 1, [this, c](modules::rows r, effects& o1) {
      if (!r)
        return give_up(c, rows::error_of(r.error()), o1);
      if (r->empty()) // somebody else removed it
        return again(c, o1);
      auto row = rows::decode_item(*bare_, r->front());
      if (!row)
        return give_up(c, rows::error_of(row.error()), o1);
      c->row = std::move(*row);
      write(c, o1);
    });
  });
}

void account::write(const change_ref& c, effects& out) {
  c->apply(c->row);
  if (!c->row.item.state.pending_in)
    c->row.request.clear();
  bool gone = !c->row.item.is_listed && c->row.item.state.is_none();
  out.commit(rows::change(*bare_, c->row, gone, {head_version_, roster_version_}), [this, c](storage::outcome how, effects& o) {
    if (how == storage::outcome::conflict)
      return again(c, o);
    if (how != storage::outcome::done) {
      has_roster_ = false; // it may have been written all the same: what is in memory is worth nothing
      return give_up(c, rows::error_of(how), o);
    }
    ++head_version_;
    ++roster_version_;
    remember(c->row.item);
    c->is_written = true;
    c->done(*this, std::to_string(roster_version_), o);
    finish(o);
  });
}

/// Somebody else wrote: everything is read and decided anew.
void account::again(const change_ref& c, effects& out) {
  constexpr int most_attempts = 5;
  has_roster_ = false;
  if (++c->attempts == most_attempts)
    return give_up(c, rows::error_of(storage::errc::conflict), out);
  attempt(c, out);
}

void account::give_up(const change_ref& c, const xmpp::stanza_error& why, effects& out) {
  c->refused(*this, why, out);
  finish(out);
}

/// To every resource that asked for the roster (RFC 6121 section 2.1.6).
void account::push(const std::string& payload, effects& out) {
  for (auto& m : members_) {
    if (!m.view.is_interested)
      continue;
    auto stanza = xmpp::im::make_push(payload, "push-" + std::to_string(++push_ids_));
    stanza->from = bare_;
    stanza->to = m.view.full;
    out.deliver(m.view.id, {std::move(stanza), {}});
  }
}

// --- jabber:iq:roster

void account::on_roster_get(std::uint64_t session, const xmpp::stanza_ref& what, effects& out) {
  xmpp::document parser;
  auto wanted = xmpp::im::parse_roster_get(parser.parse(what->bytes()).first_child());
  auto answer_it = [this, session, what, wanted](std::optional<storage::errc> failed, effects& o) {
    if (failed) {
      refuse(*what, rows::error_of(*failed), o);
      return finish(o);
    }
    if (auto* m = find_member(session); m && !std::exchange(m->view.is_interested, true) && node_.peers())
      o.publish(m->view);
    auto version = std::to_string(roster_version_);
    if (wanted && *wanted == version) { // section 2.6.3: nothing new
      answer(session, xmpp::make_result(*what), o);
      return finish(o);
    }
    o.load(rows::roster_range(*bare_), most_rows(), [this, session, what, ver = wanted ? version : std::string{}](modules::rows r, effects& o1) {
      auto stored = rows::decode_items(*bare_, r);
      if (!stored) {
        refuse(*what, rows::error_of(stored.error()), o1);
        return finish(o1);
      }
      std::vector<xmpp::im::roster_item> items;
      for (auto& s : *stored)
        if (s.item.is_listed)
          items.push_back(std::move(s.item));
      answer(session, xmpp::make_result(*what, xmpp::im::roster_result(items, ver)), o1);
      finish(o1);
    });
  };
  if (!enqueue([this, answer_it](effects& o) { read_roster(o, answer_it); }, out, what->cost() + least_operation))
    refuse(*what, too_many_changes(), out);
}

/// Sections 2.3 to 2.5.
struct account::roster_set final : account::change {
  roster_set(std::uint64_t from, const xmpp::stanza_ref& what, xmpp::im::roster_change c)
    : change(c.contact, what), session(from), wish(std::move(c)) {}

  base::result<bool, xmpp::stanza_error> decide(account& self, const contact* known) override {
    if (wish.is_removal) {
      if (!known || !known->is_listed)
        return base::fail(xmpp::stanza_error{stanza_errc::item_not_found}); // section 2.5.3
      removal = xmpp::im::on_removal(known->state);
    } else if (!known && self.contacts_.size() >= self.host_->max_roster) {
      return base::fail(xmpp::stanza_error{stanza_errc::resource_constraint, xmpp::error_type::cancel, "the roster is full"});
    }
    return true;
  }
  void apply(rows::stored_item& row) const override {
    row.item = xmpp::im::merge(wish, &row.item);
    if (!wish.is_removal)
      return;
    row.item.state = removal.next;
    row.item.is_listed = false;
  }
  void done(account& self, const std::string& version, effects& out) override {
    if (wish.is_removal) {
      self.push(xmpp::im::roster_push_removed(*who, version), out);
      if (removal.presence == xmpp::im::presence_due::unavailable)
        self.send_unavailable(who, out);
      if (removal.unsubscribe)
        out.route({xmpp::im::make_presence(stanza_type::unsubscribe, self.bare_, who), {}});
      if (removal.unsubscribed)
        out.route({xmpp::im::make_presence(stanza_type::unsubscribed, self.bare_, who), {}});
    } else {
      self.push(xmpp::im::roster_push(row.item, version), out);
    }
    self.answer(session, xmpp::make_result(*cause), out);
  }
  void refused(account& self, const xmpp::stanza_error& why, effects& out) override { self.refuse(*cause, why, out); }

  const std::uint64_t session;
  const xmpp::im::roster_change wish;
  xmpp::im::removal_decision removal;
};

void account::on_roster_set(std::uint64_t session, const xmpp::stanza_ref& what, effects& out) {
  xmpp::document parser;
  auto wish = xmpp::im::parse_roster_set(parser.parse(what->bytes()).first_child(), *bare_);
  if (!wish)
    return refuse(*what, wish.error(), out);
  make_change(std::make_shared<roster_set>(session, what, std::move(*wish)), out);
}

} // namespace actors
