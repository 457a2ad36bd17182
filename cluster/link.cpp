// Stanzas between two lives of two nodes.
#include "cluster/link.hpp"
#include <algorithm>

namespace cluster {

std::uint64_t cost(const parcel& p) {
  constexpr std::uint64_t of_control = 256;
  std::uint64_t bytes = p.what.what ? p.what.what->cost() : of_control;
  if (!p.said)
    return bytes;
  for (const auto& j : p.said->jids)
    bytes += j->full().size() + 8;
  return bytes + p.said->text.size() + 20 * p.said->ids.size();
}

bool link::is_over(const parcel& p, const base::budget_limits& most) const {
  return waiting_ + entries_.size() + 1 > most.messages || waiting_bytes_ + kept_bytes_ + cost(p) > most.bytes;
}

base::room link::send(parcel&& p) {
  bool is_over_soft = is_over(p, options_.queue);
  if (is_over(p, {options_.queue.hard_messages, options_.queue.hard_bytes, 0, 0}))
    return base::room::full;
  ++waiting_;
  waiting_bytes_ += cost(p);
  // A reply passes what waits for credit, but nothing of its own pair.
  if (p.needs_credit || waiting_by_order_.contains(p.order)) {
    ++waiting_by_order_[p.order];
    waiting_stanzas_.push_back(std::move(p));
  } else {
    waiting_replies_.push_back(std::move(p));
  }
  return is_over_soft ? base::room::over : base::room::ok;
}

bool link::may_send(const parcel& p) const {
  if (!p.needs_credit)
    return true;
  // One always fits when all before it were handled: else a stanza larger than the window would never go.
  return used_stanzas_ < allowed_.stanzas && (used_bytes_ + cost(p) <= allowed_.bytes || used_bytes_ + options_.window_bytes <= allowed_.bytes);
}

/// Gives numbers to what may go now.
void link::number_waiting() {
  auto take = [&](std::deque<parcel>& from) {
    auto& p = from.front();
    --waiting_;
    waiting_bytes_ -= cost(p);
    kept_bytes_ += cost(p);
    if (p.needs_credit) {
      ++used_stanzas_;
      used_bytes_ += cost(p);
    }
    if (&from == &waiting_stanzas_)
      if (auto i = waiting_by_order_.find(p.order); --i->second == 0)
        waiting_by_order_.erase(i);
    entries_.push_back({std::move(p), false});
    from.pop_front();
  };
  auto next = base_ + entries_.size();
  auto most = sent_ + 1 + limits::stanzas; // no more than one frame ahead: what waits can still be passed by replies
  for (; next < most && !waiting_replies_.empty(); ++next)
    take(waiting_replies_);
  for (; next < most && !waiting_stanzas_.empty() && may_send(waiting_stanzas_.front()); ++next)
    take(waiting_stanzas_);
}

void link::fill(frame& f, bool holds) {
  if (!holds) {
    number_waiting();
    std::size_t bytes = 0;
    auto end = base_ + entries_.size();
    while (sent_ + 1 < end) {
      const auto& e = entries_[sent_ + 1 - base_];
      if (!f.stanzas)
        f.stanzas = cluster::stanzas{sent_ + 1, {}};
      else if (f.stanzas->items.size() == limits::stanzas || bytes + cost(e.what) > limits::stanza_bytes)
        break;
      f.stanzas->items.push_back(e.what);
      bytes += cost(e.what);
      ++sent_;
    }
  }
  if (told_granted_.stanzas != granted_.stanzas || told_granted_.bytes != granted_.bytes)
    f.credit = told_granted_ = granted_;
  if (told_taken_ != taken_)
    f.taken = told_taken_ = taken_;
  auto end = completions_base_ + completions_.size();
  while (completions_sent_ + 1 < end) {
    if (!f.completions)
      f.completions = cluster::completions{completions_sent_ + 1, {}};
    else if (f.completions->items.size() == limits::completions)
      break;
    f.completions->items.push_back(completions_[++completions_sent_ - completions_base_]);
  }
  if (told_completions_ != completions_taken_)
    f.completions_taken = told_completions_ = completions_taken_;
}

void link::resume(std::uint64_t taken, std::uint64_t completions_taken) {
  if (taken >= confirmed_ && taken < base_ + entries_.size())
    settle(taken);
  sent_ = confirmed_; // what the peer did not take goes again
  if (completions_taken >= completions_base_ && completions_taken < completions_base_ + completions_.size()) {
    completions_.erase(completions_.begin(), completions_.begin() + static_cast<std::ptrdiff_t>(completions_taken - completions_base_ + 1));
    completions_base_ = completions_taken + 1;
  }
  completions_sent_ = completions_base_ - 1;
  told_granted_ = {}; // totals: to be told again does no harm
  told_taken_ = told_completions_ = 0;
}

void link::settle(std::uint64_t up_to) {
  for (; confirmed_ < up_to; ++confirmed_) {
    auto& e = entries_[confirmed_ + 1 - base_];
    if (!e.what.has_completion)
      e.is_ended = true;
  }
  pop_ended();
}

void link::pop_ended() {
  // Only what was taken: an outcome may come before the word that it was taken, and numbers must not be sent anew.
  while (!entries_.empty() && entries_.front().is_ended && base_ <= confirmed_) {
    kept_bytes_ -= cost(entries_.front().what);
    entries_.pop_front();
    ++base_;
  }
}

link::verdict link::receive(frame& f, link_news& out) {
  auto worst = verdict::fine;
  auto end = base_ + entries_.size();
  if (f.taken) {
    if (f.taken >= end)
      return verdict::hostile; // it cannot have what was not sent
    settle(std::max(f.taken, confirmed_));
    sent_ = std::max(sent_, f.taken); // by an earlier connection, when this one's greeting was already under way
  }
  if (f.credit) {
    if (f.credit->stanzas < allowed_.stanzas || f.credit->bytes < allowed_.bytes)
      worst = verdict::replayed;
    else
      allowed_ = *f.credit;
  }
  if (f.completions)
    worst = std::max(worst, on_completions(*f.completions, out));
  if (f.completions_taken) {
    if (f.completions_taken >= completions_base_ + completions_.size())
      return verdict::hostile;
    completions_sent_ = std::max(completions_sent_, f.completions_taken);
    for (; completions_base_ <= f.completions_taken; ++completions_base_)
      completions_.pop_front();
  }
  if (f.stanzas && worst != verdict::hostile)
    worst = std::max(worst, on_stanzas(*f.stanzas, out));
  return worst;
}

link::verdict link::on_completions(const cluster::completions& c, link_news& out) {
  if (c.first > completions_taken_ + 1)
    return verdict::hostile;
  auto seen = completions_taken_ + 1 - c.first;
  if (seen >= c.items.size())
    return verdict::replayed;
  for (auto i = seen; i < c.items.size(); ++i) {
    const auto& one = c.items[i];
    if (one.stanza >= base_ + entries_.size())
      return verdict::hostile; // an outcome of what it never got
    ++completions_taken_;
    if (one.stanza < base_)
      continue;
    auto& e = entries_[one.stanza - base_];
    if (e.is_ended || !e.what.has_completion)
      continue; // later ends are ignored
    e.is_ended = true;
    if (one.how == ending::abandoned)
      out.returned.push_back(e.what);
    else
      out.ended.push_back({e.what, one.how, one.why});
  }
  pop_ended();
  return seen > 0 ? verdict::replayed : verdict::fine;
}

link::verdict link::on_stanzas(cluster::stanzas& s, link_news& out) {
  if (s.first > taken_ + 1)
    return verdict::hostile;
  auto seen = taken_ + 1 - s.first;
  if (seen >= s.items.size())
    return verdict::replayed;
  for (auto i = seen; i < s.items.size(); ++i) {
    auto& p = s.items[i];
    if (p.needs_credit) {
      if (arrived_stanzas_ >= granted_.stanzas || arrived_bytes_ > granted_.bytes)
        return verdict::hostile; // it was not allowed to
      ++arrived_stanzas_;
      arrived_bytes_ += cost(p);
    }
    ++taken_;
    if (p.has_completion && owed_.size() + completions_.size() > 2u * options_.queue.hard_messages)
      return verdict::hostile; // no link of ours leaves so many open
    if (p.is_unreadable) [[unlikely]] {
      ++out.unreadable;
      if (p.needs_credit)
        handled(1, cost(p));
      if (p.has_completion)
        completions_.push_back({taken_, ending::unreadable});
      continue;
    }
    if (p.has_completion) {
      owed_.emplace(taken_, true);
      p.what.what->completion = {taken_, generation_, 0, 0};
    }
    out.arrived.push_back(std::move(p));
  }
  return seen > 0 ? verdict::replayed : verdict::fine;
}

void link::complete(std::uint64_t stanza, ending how, xmpp::error_ref why) {
  if (owed_.erase(stanza) > 0)
    completions_.push_back({stanza, how, std::move(why)});
}

void link::handled(std::uint64_t stanzas, std::uint64_t bytes) {
  granted_.stanzas += stanzas;
  granted_.bytes += bytes;
}

void link::close(link_news& out) {
  for (; !entries_.empty(); entries_.pop_front(), ++base_) {
    auto& e = entries_.front();
    if (!e.is_ended && (e.what.has_completion || base_ > confirmed_))
      out.returned.push_back(std::move(e.what));
  }
  // What has no number yet, in the order of each pair: a reply of a pair never waits while a stanza of it does.
  for (auto* queue : {&waiting_replies_, &waiting_stanzas_}) {
    for (auto& p : *queue)
      out.returned.push_back(std::move(p));
    queue->clear();
  }
  waiting_by_order_.clear();
  waiting_ = waiting_bytes_ = kept_bytes_ = 0;
}

} // namespace cluster
