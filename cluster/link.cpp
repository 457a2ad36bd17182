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

namespace {
/// What a frame says beside the XML, which cost() does not count: the names are shared here, but long ones could make a frame larger
/// than a packet may be.
std::size_t names_size(const parcel& p) {
  auto size = [](const xmpp::jid_ref& j) { return j ? j->full().size() : 0; };
  const auto* s = p.what.what.get();
  return size(p.what.to) + (s ? size(s->from) + size(s->to) + size(s->stanza_id_by) : 0);
}
} // namespace

bool link::is_over(std::uint64_t bytes, std::size_t most_stanzas, std::size_t most_bytes) const {
  return waiting_ + entries_.size() + 1 > most_stanzas || waiting_bytes_ + kept_bytes_ + bytes > most_bytes;
}

base::room link::send(parcel&& p) {
  auto bytes = cost(p);
  const auto& most = options_.queue;
  bool is_over_soft = is_over(bytes, most.messages, most.bytes);
  if (is_over(bytes, most.hard_messages, most.hard_bytes))
    return base::room::full;
  auto room = is_over_soft ? base::room::over : base::room::ok;
  if (waiting_ == 0 && !is_held_ && has_number() && may_send(p, bytes)) { // mostly
    number(std::move(p), bytes);
    return room;
  }
  ++waiting_;
  waiting_bytes_ += bytes;
  // A reply passes what waits for credit, but nothing of its own pair.
  if (p.needs_credit || waiting_by_order_.contains(p.order)) {
    ++waiting_by_order_[p.order];
    waiting_stanzas_.push_back({std::move(p), bytes});
  } else {
    waiting_replies_.push_back({std::move(p), bytes});
  }
  return room;
}

bool link::has_for(const xmpp::jid& bare) const {
  auto is_for_it = [&](const entry& e) { return !e.is_ended && e.what.is_for(bare); };
  return std::ranges::any_of(waiting_stanzas_, is_for_it) || std::ranges::any_of(entries_, is_for_it);
}

bool link::may_send(const parcel& p, std::uint64_t bytes) const {
  if (!p.needs_credit)
    return true;
  // One always fits when all before it were handled: else a stanza larger than the window would never go.
  return used_stanzas_ < allowed_.stanzas && (used_bytes_ + bytes <= allowed_.bytes || used_bytes_ + options_.window_bytes <= allowed_.bytes);
}

void link::number(parcel&& p, std::uint64_t bytes) {
  kept_bytes_ += bytes;
  if (p.needs_credit) {
    ++used_stanzas_;
    used_bytes_ += bytes;
  }
  entries_.push_back({std::move(p), bytes});
}

/// Gives numbers to what may go now.
void link::number_waiting() {
  auto take = [&](queue& from) {
    auto& e = from.front();
    --waiting_;
    waiting_bytes_ -= e.bytes;
    if (&from == &waiting_stanzas_)
      if (auto i = waiting_by_order_.find(e.what.order); --i->second == 0)
        waiting_by_order_.erase(i);
    number(std::move(e.what), e.bytes);
    from.pop_front();
  };
  while (has_number() && !waiting_replies_.empty())
    take(waiting_replies_);
  while (has_number() && !waiting_stanzas_.empty() && may_send(waiting_stanzas_.front()))
    take(waiting_stanzas_);
}

link::urgency link::wants_to_say(bool holds) const {
  constexpr std::uint64_t many_outcomes = 128, many_totals = limits::stanzas; // of more, what they settle has gone cold
  bool is_full = !has_number();
  bool has_stanzas = sent_ + 1 < base_ + entries_.size() || !waiting_replies_.empty()
                     || (!waiting_stanzas_.empty() && may_send(waiting_stanzas_.front()));
  auto more_stanzas = granted_.stanzas - told_granted_.stanzas, more_bytes = granted_.bytes - told_granted_.bytes;
  auto more_taken = taken_ - told_taken_, more_heard = completions_taken_ - told_completions_;
  auto more_completions = completions_base_ + completions_.size() - 1 - completions_sent_;
  if ((is_full && !holds) || more_completions >= many_outcomes || more_taken >= many_totals || more_heard >= many_totals)
    return urgency::now;
  bool needs_credit = more_stanzas > options_.window_stanzas / 4 || more_bytes > options_.window_bytes / 4;
  if ((has_stanzas && !holds) || urgent_completion_ > completions_sent_ || needs_credit)
    return urgency::soon;
  if (more_completions != 0)
    return urgency::may_wait;
  return (more_stanzas | more_bytes | more_taken | more_heard) != 0 ? urgency::may_wait_long : urgency::nothing;
}

void link::fill(frame& f, bool holds) {
  is_held_ = holds;
  if (!holds) {
    number_waiting();
    std::size_t bytes = 0;
    auto end = base_ + entries_.size();
    while (sent_ + 1 < end) {
      const auto& e = entries_[sent_ + 1 - base_];
      auto more = e.bytes + names_size(e.what);
      if (!f.stanzas)
        f.stanzas = cluster::stanzas{sent_ + 1, {}};
      else if (f.stanzas->lent.size() == most_stanzas_ || bytes + more > limits::stanza_bytes)
        break;
      f.stanzas->lent.push_back(&e.what);
      bytes += more;
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
    kept_bytes_ -= entries_.front().bytes;
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
      out.returned.push_back(std::move(e.what));
    else
      out.ended.push_back({std::move(e.what), one.how, one.why});
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
  out.arrived.reserve(out.arrived.size() + s.items.size() - seen);
  for (auto i = seen; i < s.items.size(); ++i) {
    auto& p = s.items[i];
    if (p.needs_credit) {
      if (arrived_stanzas_ >= granted_.stanzas || arrived_bytes_ > granted_.bytes)
        return verdict::hostile; // it was not allowed to
      ++arrived_stanzas_;
      arrived_bytes_ += cost(p);
    }
    ++taken_;
    if (owed_.size() + completions_.size() > 2u * options_.queue.hard_messages)
      return verdict::hostile; // no link of ours leaves so many open
    if (p.is_unreadable) [[unlikely]] {
      ++out.unreadable;
      if (p.needs_credit)
        handled(1, cost(p));
      owe(false);
      if (p.has_completion)
        add_completion(taken_, ending::unreadable);
      continue;
    }
    owe(p.has_completion);
    if (p.has_completion) {
      p.what.what->completion = {taken_, generation_, 0, 0};
    }
    out.arrived.push_back(std::move(p));
  }
  return seen > 0 ? verdict::replayed : verdict::fine;
}

void link::complete(std::uint64_t stanza, ending how, xmpp::error_ref why) {
  if (stanza < owed_base_ || stanza - owed_base_ >= owed_.size() || !std::exchange(owed_[stanza - owed_base_], false))
    return;
  add_completion(stanza, how, std::move(why));
  for (; !owed_.empty() && !owed_.front(); ++owed_base_)
    owed_.pop_front();
}

/// Of the peer's stanza `taken_`.
void link::owe(bool is) {
  if (is || !owed_.empty())
    owed_.push_back(is);
  else
    owed_base_ = taken_ + 1;
}

void link::add_completion(std::uint64_t stanza, ending how, xmpp::error_ref why) {
  completions_.push_back({stanza, how, std::move(why)});
  if (how != ending::acknowledged && how != ending::stored)
    urgent_completion_ = completions_base_ + completions_.size() - 1;
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
    for (auto& e : *queue)
      out.returned.push_back(std::move(e.what));
    queue->clear();
  }
  waiting_by_order_.clear();
  waiting_ = waiting_bytes_ = kept_bytes_ = 0;
}

} // namespace cluster
