// The end of an account: its contacts hear of it as if its owner had said goodbye and cancelled every subscription (RFC
// 6121 sections 3.2 and 3.3), then its rows go. So no roster keeps a subscription that the next owner of the name would
// inherit.
#include "actors/account.hpp"
#include "actors/account_rows.hpp"
#include "actors/node.hpp"

namespace actors {

using xmpp::stanza_type;

void account::on(modules::event::remove& e, effects& out) {
  if (!enqueue([this, then = e.then](effects& o) { erase(0, then, o); }, out))
    e.then(base::fail(storage::errc::overloaded));
}

/// Before the rows go: where it ends in between, the account is still there and can be removed again.
void account::take_leave(effects& out) {
  for (auto& m : members_)
    if (m.view.is_available)
      become_unavailable(m, nullptr, out);
  for (auto& c : contacts_) {
    if (c.state.to || c.state.pending_out)
      out.route({xmpp::im::make_presence(stanza_type::unsubscribe, bare_, c.jid), {}});
    if (c.state.from || c.state.pending_in)
      out.route({xmpp::im::make_presence(stanza_type::unsubscribed, bare_, c.jid), {}});
  }
}

void account::erase(int attempts, const on_removed& then, effects& out) {
  constexpr int most_attempts = 5;
  auto give_up = [this, then](storage::errc why, effects& o) {
    then(base::fail(why));
    finish(o);
  };
  read_roster(out, [this, attempts, then, give_up](std::optional<storage::errc> failed, effects& o) {
    if (failed)
      return give_up(*failed, o);
    take_leave(o);
    auto batch = rows::removal(*bare_, head_version_);
    modules::account_removed ev{*bare_, batch};
    (void)host_->view.removed.run(ev);
    o.commit(std::move(batch), [this, attempts, then, give_up](storage::outcome how, effects& o1) {
      has_roster_ = false;
      if (how == storage::outcome::conflict && attempts + 1 < most_attempts) // somebody else wrote
        return erase(attempts + 1, then, o1);
      if (how != storage::outcome::done)
        return give_up(how == storage::outcome::conflict ? storage::errc::conflict : storage::errc::unavailable, o1);
      is_removed_ = true;
      contacts_.clear();
      node_.absent().insert(*bare_, now_);
      then({});
      finish(o1);
    });
  });
}

} // namespace actors
