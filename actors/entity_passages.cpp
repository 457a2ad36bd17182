// Order where a session goes on at another node (session_handover.cpp): what it was sent at its old place comes to the new one by
// way of that. A word goes the same way behind it and comes back; until then what is for that session waits here.
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/session.hpp"
#include <algorithm>

namespace actors {

using cluster::control;

namespace {
constexpr auto patience = std::chrono::seconds{2}; // the old place may be gone, or of a build that does not know the word
constexpr std::size_t most_waiting = 1'024;        // of one session, and
constexpr std::size_t most_bytes = 1u << 20;       // of one address: then order is worth less than that they come

auto find(auto& all, std::uint64_t session) { return std::ranges::find(all, session, [](auto& p) { return p.session; }); }
} // namespace

void entity::begin_passage(const attached& before) {
  if (passages_ && find(passages_->all, before.session) != passages_->all.end())
    return; // it has moved on already, and was sent nothing at the place between
  if (before.where.node == cluster::self)
    home_.post<session>(before.where.reactor, before.where.ref, [word = make_word(true)](session& s) { s.on_passage(cluster::self, word); });
  else if (!send_word(before, true))
    return;
  await_word(before.session);
}

/// What is for that session waits until end_passage(), or for so long.
void entity::await_word(std::uint64_t session) {
  if (passages_ && find(passages_->all, session) != passages_->all.end())
    return;
  if (!passages_)
    passages_ = std::make_unique<passages>();
  passages_->all.push_back({session, {}, {}});
  passages_->limit = home_.loop().after(patience, [this] {
    home_.guard(id(), [this] {
      while (passages_)
        end_passage(passages_->all.back().session);
    });
  });
}

/// The address lives here since a moment, and this session has yet to say whether something is on its way to it.
bool entity::may_await(std::uint64_t session) {
  if (home_.now() - begun_ >= patience)
    return false;
  await_word(session);
  return true;
}

/// The address leaves this node: behind all that the session was sent, which may still wait here.
void entity::say_last_word(const attached& to) {
  if (passages_)
    if (auto p = find(passages_->all, to.session); p != passages_->all.end())
      return void(p->owed = to);
  (void)send_word(to);
}

control entity::make_word(bool is_awaited) const {
  return {.what = control::kind::recent, .flags = static_cast<std::uint8_t>(is_awaited ? control::awaits_word : 0), .text = home_.around().peers()->own_name()};
}

/// Behind all that it was sent on its node. False: that is this one, or not there.
bool entity::send_word(const attached& to, bool is_awaited) {
  if (to.where.node == cluster::self || !home_.around().peers()->is_alive(to.where.node))
    return false;
  auto word = cluster::make_control(to.session, make_word(is_awaited), {nullptr, to.full});
  word.needs_credit = true; // it must not pass what waits for that
  home_.for_peers(to_peers::send{to.where.node, std::move(word)});
  return true;
}

/// True: it waits.
bool entity::hold_for_passage(modules::effect::deliver& e) {
  auto p = find(passages_->all, e.session);
  if (p == passages_->all.end())
    return false;
  auto cost = e.what.what->cost();
  if (p->waiting.size() == most_waiting || passages_->bytes + cost > most_bytes) {
    begun_ = {};
    end_passage(e.session);
    return false;
  }
  count_held();
  passages_->bytes += cost;
  p->waiting.push_back({std::move(e.what), home_.now()});
  return true;
}

/// What waited goes to wherever the session is now.
void entity::end_passage(std::uint64_t session) {
  if (!passages_)
    return;
  auto p = find(passages_->all, session);
  if (p == passages_->all.end())
    return;
  auto waiting = std::move(p->waiting);
  auto owed = std::move(p->owed);
  for (auto& h : waiting)
    passages_->bytes -= h.what.what->cost();
  passages_->all.erase(p);
  if (passages_->all.empty())
    passages_ = nullptr;
  for (auto& h : waiting) {
    home_.around().stamp(h.what, home_.now() - h.since);
    modules::effect::deliver again{session, std::move(h.what), {}};
    carry(again);
  }
  if (owed)
    (void)send_word(*owed);
  answer_marks();
  if (!has_work())
    rest();
}

} // namespace actors
