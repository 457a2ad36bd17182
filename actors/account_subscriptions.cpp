// Subscriptions of an account: what the owner sends and what comes for him (RFC 6121 section 3, appendix A).
#include "actors/account_change.hpp"
#include <algorithm>

namespace actors {

using xmpp::stanza_errc;
using xmpp::stanza_type;
using xmpp::im::presence_due;

namespace {
const xmpp::im::subscription_state stranger;
}

/// What the owner wants of a contact, before it is routed there.
struct account::outbound_subscription final : account::change {
  explicit outbound_subscription(const xmpp::stanza_ref& what) : change(xmpp::bare_of(what->to), what) {}

  base::result<bool, xmpp::stanza_error> decide(account& self, const contact* known) override {
    auto& before = known ? known->state : stranger;
    decision = xmpp::im::outbound(before, cause->type());
    becomes_listed = cause->type() == stanza_type::subscribe && (!known || !known->is_listed);
    if (!known && becomes_listed && self.contacts_.size() >= self.host_->max_roster)
      return base::fail(xmpp::stanza_error{stanza_errc::resource_constraint, xmpp::error_type::cancel, "the roster is full"});
    return !(decision.next == before) || becomes_listed;
  }
  void apply(rows::stored_item& row) const override {
    row.item.state = decision.next;
    row.item.is_listed |= becomes_listed || (cause->type() == stanza_type::subscribed && decision.next.from);
  }
  void done(account& self, const std::string& version, effects& out) override {
    if (is_written && row.item.is_listed && (decision.push || becomes_listed))
      self.push(xmpp::im::roster_push(row.item, version), out);
    if (decision.route)
      out.route({cause, {}});
    else
      out.complete(cause->completion, modules::outcome::refused);
    if (decision.presence == presence_due::current)
      self.send_current(cause->to, out);
    else if (decision.presence == presence_due::unavailable)
      self.send_unavailable(cause->to, out);
  }
  void refused(account& self, const xmpp::stanza_error& why, effects& out) override { self.refuse(*cause, why, out); }

  xmpp::im::outbound_decision decision;
  bool becomes_listed = false;
};

/// What a contact, or a stranger, wants.
struct account::inbound_subscription final : account::change {
  explicit inbound_subscription(const xmpp::stanza_ref& what) : change(xmpp::bare_of(what->from), what) {}

  base::result<bool, xmpp::stanza_error> decide(account& self, const contact* known) override {
    auto& before = known ? known->state : stranger;
    decision = xmpp::im::inbound(before, cause->type());
    if (!known && decision.next.pending_in && self.contacts_.size() >= self.host_->max_roster * 2) // strangers fill it
      return base::fail(xmpp::stanza_error{stanza_errc::resource_constraint});
    return !(decision.next == before);
  }
  void apply(rows::stored_item& row) const override {
    row.item.state = decision.next;
    if (cause->type() == stanza_type::subscribe)
      row.request = xmpp::to_string(cause); // as it came (section 3.1.3)
  }
  void done(account& self, const std::string& version, effects& out) override {
    self.forget_change(*who);
    if (is_written && row.item.is_listed && decision.push)
      self.push(xmpp::im::roster_push(row.item, version), out);
    out.complete(cause->completion, modules::outcome::stored);
    if (decision.reply)
      out.route({xmpp::im::make_presence(*decision.reply, self.bare_, who), {}});
    if (decision.deliver)
      for (auto& m : self.members_)
        if (cause->type() == stanza_type::subscribe ? m.view.is_available : m.view.is_interested)
          out.deliver(m.view.id, {cause, {}});
    if (decision.presence == presence_due::current)
      self.send_current(who, out);
    else if (decision.presence == presence_due::unavailable)
      self.send_unavailable(who, out);
  }
  void refused(account& self, const xmpp::stanza_error& why, effects& out) override {
    self.forget_change(*who);
    out.bounce(*cause, why);
  }

  xmpp::im::inbound_decision decision;
};

void account::on_outbound_subscription(const xmpp::stanza_ref& what, effects& out) {
  if (same_bare(*what->to, *bare_)) // nobody subscribes to himself
    return out.complete(what->completion, modules::outcome::refused);
  make_change(std::make_shared<outbound_subscription>(what), out);
}

void account::on_inbound_subscription(const xmpp::stanza_ref& what, effects& out) {
  if (same_bare(*what->from, *bare_))
    return out.complete(what->completion, modules::outcome::refused);
  changing_.push_back(what->from);
  make_change(std::make_shared<inbound_subscription>(what), out);
}

void account::forget_change(const xmpp::jid& contact) {
  auto i = std::find_if(changing_.begin(), changing_.end(), [&](auto& j) { return same_bare(*j, contact); });
  if (i != changing_.end())
    changing_.erase(i);
}

/// Requests that came while nobody was there, each as it came (section 3.1.3). Those that cannot be read now are
/// shown to the next session.
void account::deliver_requests(std::uint64_t session, effects& out) {
  (void)enqueue([this, session](effects& o) {
    o.load(rows::roster_range(*bare_), most_rows(), [this, session](modules::rows r, effects& o1) {
      auto stored = rows::decode_items(*bare_, r);
      if (stored)
        for (auto& s : *stored) {
          if (!s.item.state.pending_in)
            continue;
          auto request = s.request.empty() ? xmpp::im::make_presence(stanza_type::subscribe, s.item.contact, bare_)
                                           : xmpp::stanza::from_xml(s.request);
          request->from = s.item.contact;
          request->to = bare_;
          o1.deliver(session, {std::move(request), {}});
        }
      finish(o1);
    });
  }, out);
}

} // namespace actors
