// An account and what its sessions' clients acknowledge (XEP-0198): what is stored meanwhile, and what need not be.
#include "actors/account.hpp"
#include <algorithm>

namespace actors {

void account::remember_given(const xmpp::delivery& what) {
  constexpr std::size_t most = 64;
  if (!given_)
    given_ = std::make_unique<std::deque<given>>();
  if (given_->size() >= most)
    given_->pop_front();
  given_->push_back({what.what->stanza_id, what.shared});
}

/// A client of this account has acknowledged it: another one of those that were given it, or the same one, whose session has gone on
/// at another node, from where the word came faster.
bool account::has_arrived(base::u128 id) const {
  if (arrived_ && std::ranges::find(*arrived_, id) != arrived_->end())
    return true;
  return given_ && std::ranges::any_of(*given_, [&](auto& g) { return g.id == id && g.share->is_settled.load(std::memory_order_relaxed); });
}

void account::know_arrived(const std::vector<base::u128>& stanza_ids) {
  constexpr std::size_t most = 128;
  if (stanza_ids.empty())
    return;
  if (!arrived_)
    arrived_ = std::make_unique<std::deque<base::u128>>();
  std::ranges::copy_if(stanza_ids, std::back_inserter(*arrived_), [this](auto& id) { return id && !has_arrived(id); });
  while (arrived_->size() > most)
    arrived_->pop_front();
}

std::vector<base::u128> account::arrived_lately() const {
  std::vector<base::u128> all;
  if (arrived_)
    all.assign(arrived_->begin(), arrived_->end());
  if (given_)
    for (auto& g : *given_)
      if (g.share->is_settled.load(std::memory_order_relaxed))
        all.push_back(g.id);
  return all;
}

void account::on(modules::event::sent& e, effects& out) {
  modules::message_sent ev{e.session, e.what, *this, out};
  (void)host_->view.shown.run(ev);
}

void account::on(modules::event::spool& e, effects& out) {
  for (auto& d : e.what) {
    if (has_arrived(d.what->stanza_id)) {
      out.complete(d.what->completion, modules::outcome::acknowledged);
      continue;
    }
    modules::message_unacknowledged ev{e.session, d, *this, out};
    auto v = host_->view.unacknowledged.run(ev);
    if (v.what() != modules::verdict::kind::taken) // nobody keeps messages here: its sender need not wait
      out.complete(d.what->completion, modules::outcome::refused);
  }
}

void account::on(modules::event::settled& e, effects& out) {
  know_arrived(e.stanza_ids);
  modules::message_settled ev{e.session, e.stanza_ids, *this, out, has_begun_anew_};
  (void)host_->view.settled.run(ev);
}

void account::on(modules::event::arrived& e, effects& out) {
  if (given_)
    for (auto& g : *given_)
      if (std::ranges::find(e.stanza_ids, g.id) != e.stanza_ids.end())
        g.share->is_settled.store(true, std::memory_order_relaxed);
  modules::message_settled ev{0, e.stanza_ids, *this, out, e.may_be_stored};
  (void)host_->view.settled.run(ev);
}

} // namespace actors
