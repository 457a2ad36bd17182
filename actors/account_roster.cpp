// The roster and the subscriptions of an account. Operations run one at a time, each from its reads to
// its commit: two devices that change the roster at once see every change, in one order.
#include "actors/account.hpp"
#include "actors/account_rows.hpp"
#include "actors/node.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_type;

// --- the queue of operations

void account::enqueue(operation op, effects& out) {
  constexpr std::size_t most_operations = 20'000; // the entity's own bound refuses before
  if (operations_.size() >= most_operations)
    return;
  operations_.push_back(std::move(op));
  if (is_busy_)
    return;
  is_busy_ = true;
  auto first = std::move(operations_.front());
  operations_.erase(operations_.begin());
  first(out);
}

/// Each operation ends here, whatever became of it.
void account::finish(effects& out) {
  if (operations_.empty()) {
    is_busy_ = false;
    std::vector<operation>{}.swap(operations_);
    return;
  }
  auto next = std::move(operations_.front());
  operations_.erase(operations_.begin());
  next(out);
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
  contacts_.insert(at, {std::move(j), item.state, item.is_listed});
}

/// Reads head and items once; `then` runs as an operation of its own, with the contacts in memory.
void account::load_roster(effects& out, operation then) {
  enqueue([this, then = std::move(then)](effects& o) {
    if (has_roster_) {
      then(o);
      return finish(o);
    }
    o.load(rows::head_range(*bare_), 1, [this, then](modules::rows head, effects& o1) {
      auto h = head ? rows::decode_head(*head) : base::result<rows::head, storage::errc>{base::fail(head.error())};
      if (!h)
        return finish(o1); // presence is not shared while the store is away; the next one tries again
      head_version_ = h->row_version;
      roster_version_ = h->roster_version;
      o1.load(rows::roster_range(*bare_), host_->max_roster * 2 + 16, [this, then](modules::rows items, effects& o2) {
        if (items) {
          contacts_.clear();
          contacts_.reserve(items->size());
          for (auto& row : *items)
            if (auto item = rows::decode_item(row))
              contacts_.push_back({xmpp::pooled(item->item.contact), item->item.state, item->item.is_listed});
          std::sort(contacts_.begin(), contacts_.end(), [](auto& a, auto& b) { return a.jid->hash() < b.jid->hash(); });
          has_roster_ = true;
          then(o2);
        }
        finish(o2);
      });
    });
  }, out);
}

void account::with_roster(effects& out, std::function<void(bool, effects&)> then) {
  if (has_roster_)
    return then(true, out);
  load_roster(out, [](effects&) {});
  enqueue([this, then = std::move(then)](effects& o) { // a failed load leaves has_roster_ false
    then(has_roster_, o);
    finish(o);
  }, out);
}

/// `then` gets the row of one contact as it is. Called inside an operation; a failed read ends it.
void account::with_item(const xmpp::jid_ref& contact, effects& out,
                        std::function<void(std::optional<xmpp::im::roster_item>, std::string request, effects&)> then) {
  if (!find_contact(*contact))
    return then(std::nullopt, {}, out);
  out.load(rows::roster_item_range(*bare_, *contact), 1, [then = std::move(then)](modules::rows r, effects& o) {
    std::optional<xmpp::im::roster_item> item;
    std::string request;
    if (r && !r->empty())
      if (auto decoded = rows::decode_item(r->front())) {
        item = std::move(decoded->item);
        request = std::move(decoded->request);
      }
    then(std::move(item), std::move(request), o);
  });
}

void account::write_item(const xmpp::im::roster_item& item, bool removes, std::string request,
                         effects& out, on_written then) {
  rows::stored_item stored{item, item.state.pending_in ? std::move(request) : std::string{}};
  auto batch = rows::change(*bare_, stored, removes, {head_version_, roster_version_});
  out.commit(std::move(batch), [this, item, then = std::move(then)](storage::outcome o, effects& o1) {
    if (o == storage::outcome::done) {
      ++head_version_;
      ++roster_version_;
      remember(item);
    } else if (o == storage::outcome::conflict) {
      has_roster_ = false; // somebody else wrote: read again before anything else
    }
    then(o == storage::outcome::done, std::to_string(roster_version_), o1);
  });
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
  load_roster(out, [this, session, what, wanted](effects& o) {
    if (auto* m = find_member(session))
      m->view.is_interested = true;
    if (wanted && !wanted->empty() && *wanted == std::to_string(roster_version_)) // section 2.6.3: nothing new
      answer(session, xmpp::make_result(*what), o);
  });
  // A failed load leaves has_roster_ false; the answer then says so.
  enqueue([this, session, what, wanted](effects& o) {
    if (!has_roster_) {
      refuse(*what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the storage does not answer"}, o);
      return finish(o);
    }
    if (wanted && !wanted->empty() && *wanted == std::to_string(roster_version_))
      return finish(o);
    o.load(rows::roster_range(*bare_), host_->max_roster * 2 + 16, [this, session, what, wanted](modules::rows r, effects& o1) {
      if (!r) {
        refuse(*what, rows::error_of(r.error()), o1);
        return finish(o1);
      }
      std::vector<xmpp::im::roster_item> items;
      for (auto& row : *r)
        if (auto item = rows::decode_item(row); item && item->item.is_listed)
          items.push_back(std::move(item->item));
      auto ver = wanted ? std::to_string(roster_version_) : std::string{};
      answer(session, xmpp::make_result(*what, xmpp::im::roster_result(items, ver)), o1);
      finish(o1);
    });
  }, out);
}

void account::on_roster_set(std::uint64_t session, const xmpp::stanza_ref& what, effects& out) {
  xmpp::document parser;
  auto change = xmpp::im::parse_roster_set(parser.parse(what->bytes()).first_child(), *bare_);
  if (!change)
    return refuse(*what, change.error(), out);
  load_roster(out, [](effects&) {});
  enqueue([this, session, what, change = *change](effects& o) {
    if (!has_roster_) {
      refuse(*what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the storage does not answer"}, o);
      return finish(o);
    }
    auto* known = find_contact(*change.contact);
    if (change.is_removal && (!known || !known->is_listed)) {
      refuse(*what, stanza_errc::item_not_found, o); // section 2.5.3
      return finish(o);
    }
    if (!known && contacts_.size() >= host_->max_roster) {
      refuse(*what, {stanza_errc::resource_constraint, xmpp::error_type::cancel, "the roster is full"}, o);
      return finish(o);
    }
    with_item(change.contact, o, [this, session, what, change](std::optional<xmpp::im::roster_item> before, std::string request, effects& o1) {
      auto after = xmpp::im::merge(change, before ? &*before : nullptr);
      xmpp::im::removal_decision removal;
      if (change.is_removal) {
        removal = xmpp::im::on_removal(before ? before->state : xmpp::im::subscription_state{});
        after = before ? *before : after;
        after.name.clear();
        after.groups.clear();
        after.state = removal.next;
        after.is_listed = false;
      }
      bool gone = !after.is_listed && after.state.is_none();
      write_item(after, gone, std::move(request), o1, [=, this](bool ok, const std::string& version, effects& o2) {
        if (!ok) {
          refuse(*what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the change was not stored"}, o2);
          return finish(o2);
        }
        if (change.is_removal) {
          push(xmpp::im::roster_push_removed(*change.contact, version), o2);
          if (removal.presence == xmpp::im::presence_due::unavailable)
            send_unavailable(change.contact, o2);
          if (removal.unsubscribe)
            o2.route({xmpp::im::make_presence(stanza_type::unsubscribe, bare_, change.contact), {}});
          if (removal.unsubscribed)
            o2.route({xmpp::im::make_presence(stanza_type::unsubscribed, bare_, change.contact), {}});
        } else {
          push(xmpp::im::roster_push(after, version), o2);
        }
        answer(session, xmpp::make_result(*what), o2);
        finish(o2);
      });
    });
  }, out);
}

// --- subscriptions

/// To the session that asked: the stanza itself came in the account's name. Session 0: nobody did.
void account::refuse_subscription(std::uint64_t session, const xmpp::stanza& what, const xmpp::stanza_error& why, effects& out) {
  out.complete(what.completion, modules::outcome::bounced);
  if (auto* m = find_member(session)) {
    auto error = xmpp::make_error(what, why);
    error->to = m->view.full;
    answer(session, std::move(error), out);
  }
}

void account::on_outbound_subscription(std::uint64_t session, const xmpp::stanza_ref& what, effects& out) {
  if (same_bare(*what->to, *bare_)) // nobody subscribes to himself
    return out.complete(what->completion, modules::outcome::refused);
  load_roster(out, [](effects&) {});
  enqueue([this, session, what](effects& o) {
    auto wait_error = xmpp::stanza_error{stanza_errc::resource_constraint, xmpp::error_type::wait, "the storage does not answer"};
    if (!has_roster_) {
      refuse_subscription(session, *what, wait_error, o);
      return finish(o);
    }
    auto* known = find_contact(*what->to);
    auto before = known ? known->state : xmpp::im::subscription_state{};
    auto decision = xmpp::im::outbound(before, what->type());
    bool becomes_listed = (what->type() == stanza_type::subscribe || decision.next.approved) && (!known || !known->is_listed);
    if (!known && becomes_listed && contacts_.size() >= host_->max_roster) {
      refuse_subscription(session, *what, {stanza_errc::resource_constraint, xmpp::error_type::cancel, "the roster is full"}, o);
      return finish(o);
    }
    auto after_commit = [this, what, decision](effects& o1) {
      if (decision.route)
        o1.route({what, {}});
      else
        o1.complete(what->completion, modules::outcome::refused);
      if (decision.presence == xmpp::im::presence_due::current)
        send_current(what->to, o1);
      else if (decision.presence == xmpp::im::presence_due::unavailable)
        send_unavailable(what->to, o1);
      finish(o1);
    };
    if (decision.next == before && !becomes_listed)
      return after_commit(o);
    with_item(what->to, o, [=, this](std::optional<xmpp::im::roster_item> row, std::string request, effects& o1) {
      xmpp::im::roster_item item = row ? std::move(*row) : xmpp::im::roster_item{xmpp::bare_of(what->to), {}, {}, {}, false};
      item.state = decision.next;
      item.is_listed = item.is_listed || becomes_listed || (what->type() == stanza_type::subscribed && decision.next.from);
      bool gone = !item.is_listed && item.state.is_none();
      write_item(item, gone, std::move(request), o1, [=, this](bool ok, const std::string& version, effects& o2) {
        if (!ok) {
          refuse_subscription(session, *what, wait_error, o2);
          return finish(o2);
        }
        if (item.is_listed && (decision.push || becomes_listed))
          push(xmpp::im::roster_push(item, version), o2);
        after_commit(o2);
      });
    });
  }, out);
}

void account::forget_change(const xmpp::jid& contact) {
  auto i = std::find_if(changing_.begin(), changing_.end(), [&](auto& j) { return same_bare(*j, contact); });
  if (i != changing_.end())
    changing_.erase(i);
}

void account::on_inbound_subscription(const xmpp::stanza_ref& what, effects& out) {
  if (same_bare(*what->from, *bare_))
    return out.complete(what->completion, modules::outcome::refused);
  changing_.push_back(what->from);
  load_roster(out, [](effects&) {});
  enqueue([this, what](effects& o) {
    if (!has_roster_)
      return give_back(*what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the storage does not answer"}, o);
    if (what->type() == stanza_type::subscribe && !host_->view.asked.empty()) {
      modules::subscription_asked ev{what, *this, o};
      auto v = host_->view.asked.run(ev);
      if (v.what() == modules::verdict::kind::taken) // goes on in answer_request()
        return;
      if (v.what() == modules::verdict::kind::refuse)
        return give_back(*what, v.error(), o);
    }
    answer_request(what, false, o);
  }, out);
}

/// The end of an inbound subscription that cannot be handled.
void account::give_back(const xmpp::stanza& what, const xmpp::stanza_error& why, effects& out) {
  forget_change(*what.from);
  out.bounce(what, why);
  finish(out);
}

void account::answer_request(const xmpp::stanza_ref& what, bool is_approved, effects& out) {
  auto contact_jid = xmpp::bare_of(what->from);
  auto* known = find_contact(*contact_jid);
  auto before = known ? known->state : xmpp::im::subscription_state{};
  auto asked = before;
  asked.approved = before.approved || (is_approved && (known || contacts_.size() < host_->max_roster));
  auto decision = xmpp::im::inbound(asked, what->type());
  if (!known && decision.next.pending_in && contacts_.size() >= host_->max_roster * 2) // strangers fill it
    return give_back(*what, stanza_errc::resource_constraint, out);
  auto after_commit = [this, what, contact_jid, decision](effects& o1) {
    forget_change(*what->from);
    o1.complete(what->completion, modules::outcome::stored);
    if (decision.reply)
      o1.route({xmpp::im::make_presence(*decision.reply, bare_, contact_jid), {}});
    if (decision.deliver)
      for (auto& m : members_)
        if (what->type() == stanza_type::subscribe ? m.view.is_available : m.view.is_interested)
          o1.deliver(m.view.id, {what, {}});
    if (decision.presence == xmpp::im::presence_due::current)
      send_current(contact_jid, o1);
    else if (decision.presence == xmpp::im::presence_due::unavailable)
      send_unavailable(contact_jid, o1);
    finish(o1);
  };
  if (decision.next == before)
    return after_commit(out);
  bool becomes_listed = asked.approved && decision.next.from;
  with_item(contact_jid, out, [=, this](std::optional<xmpp::im::roster_item> row, std::string request, effects& o1) {
    xmpp::im::roster_item item = row ? std::move(*row) : xmpp::im::roster_item{contact_jid, {}, {}, {}, false};
    item.state = decision.next;
    item.is_listed = item.is_listed || becomes_listed;
    bool gone = !item.is_listed && item.state.is_none();
    if (what->type() == stanza_type::subscribe)
      request = xmpp::to_string(what); // as it came (section 3.1.3)
    write_item(item, gone, std::move(request), o1, [=, this](bool ok, const std::string& version, effects& o2) {
      if (!ok)
        return give_back(*what, {stanza_errc::resource_constraint, xmpp::error_type::wait, "the change was not stored"}, o2);
      if (item.is_listed && decision.push)
        push(xmpp::im::roster_push(item, version), o2);
      after_commit(o2);
    });
  });
}

/// Requests that came while nobody was there, each as it came (RFC 6121 section 3.1.3).
void account::deliver_requests(std::uint64_t session, effects& out) {
  enqueue([this, session](effects& o) {
    o.load(rows::roster_range(*bare_), host_->max_roster * 2 + 16, [this, session](modules::rows r, effects& o1) {
      if (r)
        for (auto& row : *r) {
          auto item = rows::decode_item(row);
          if (!item || !item->item.state.pending_in)
            continue;
          auto request = item->request.empty()
                             ? xmpp::im::make_presence(stanza_type::subscribe, item->item.contact, bare_)
                             : xmpp::stanza::from_xml(item->request);
          request->from = item->item.contact;
          request->to = bare_;
          o1.deliver(session, {std::move(request), {}});
        }
      finish(o1);
    });
  }, out);
}

} // namespace actors
