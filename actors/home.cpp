// A turn of the lane, its crash boundary, and the batches between reactors.
#include "actors/home.hpp"
#include "actors/connection.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"

namespace actors {

constinit thread_local home* home::current_ = nullptr;

namespace {
home::counters make_counters(std::uint16_t index) {
  using base::metrics::make_counter;
  base::metrics::labels l{{"reactor", std::to_string(index)}};
  return {&make_counter("covey_stanzas_received_total", "Stanzas received from clients.", l),
          &make_counter("covey_stanzas_sent_total", "Stanzas written to clients.", l),
          &make_counter("covey_bytes_received_total", "Bytes received from clients, after decryption.", l),
          &make_counter("covey_bytes_sent_total", "Bytes sent to clients, before encryption.", l),
          &make_counter("covey_actor_crashes_total", "Light actors that ended by an exception.", l),
          &make_counter("covey_reactor_turns_total", "Turns of the reactor's loop.", l)};
}
} // namespace

home::home(actors::node& around, std::uint16_t index, net::loop& loop)
  : read_buffer(64 * 1024), write_buffer(shared_buffer), node_(around), index_(index), loop_(loop),
    counters_(make_counters(index)) {
  node_.admit(*this);
}

home::~home() {
  as_current([this] { // actors may still name each other while they go
    lane_.clear();
    table_.for_each([this](light& a) { end(a); });
    graveyard_.clear();
  });
}

void home::end(light& actor) {
  if (auto gone = table_.remove(actor.id()))
    graveyard_.push_back(std::move(gone));
}

void home::pass_to_entity(cluster::address& to, xmpp::delivery&& what) {
  push(to.reactor, {&entity_thunk, reinterpret_cast<std::uint64_t>(&to), std::move(what), nullptr});
}

void home::pass_outbound(cluster::address& to, const cluster::place& from, std::uint64_t session, xmpp::delivery&& what) {
  post_to_entity(to, [from, session, d = std::move(what)](entity& e) mutable {
    auto& at = *current_;
    struct restore { home& at; ~restore() { at.cause_ = {}; } } after{at};
    at.cause_ = {nullptr, &from};
    e.on_outbound(from, session, std::move(d));
  });
}

void home::entity_thunk(home& at, lane_item& i) {
  auto& to = *reinterpret_cast<cluster::address*>(i.target);
  auto& e = entity::at(at, to);
  at.running_ = e.id();
  auto cost = i.what.what->cost();
  auto at_fault = i.what.what; // should it throw, the sender hears of it
  struct release { // also when it throws; the charge has kept the row alive
    home& at;
    cluster::address& to;
    std::uint32_t cost;
    ~release() {
      to.limit.release(cost);
      at.cause_ = {};
    }
  } after{at, to, cost};
  at.cause_ = {at_fault.get(), nullptr};
  try {
    e.on_stanza(std::move(i.what));
  } catch (const std::exception&) {
    bounce(at, *at_fault, xmpp::stanza_errc::internal_server_error);
    throw;
  }
}

void home::entity_task_thunk(home& at, lane_item& i) {
  auto& to = *reinterpret_cast<cluster::address*>(i.target);
  auto& e = entity::at(at, to);
  at.running_ = e.id();
  struct release {
    cluster::address& to;
    ~release() { to.limit.release(control_cost); }
  } after{to};
  i.boxed->run(at, e.id());
}

void home::return_to_router(xmpp::delivery&& what) {
  route_again(*this, std::move(what));
}

void home::push_far(std::uint16_t reactor, lane_item&& i) {
  if (outboxes_.size() <= reactor)
    outboxes_.resize(node_.homes().size());
  outboxes_[reactor].items.push_back(std::move(i));
}

void home::push_from_anywhere(lane_item&& i) {
  if (current_ == this) // a pool that had the answer at once
    return lane_.push_back(std::move(i));
  in_inbox_.fetch_add(1, std::memory_order_relaxed);
  if (inbox_.push(std::move(i)) == decltype(inbox_)::result::first)
    loop_.post([this] { take_inbox(); });
}

void home::take_inbox() {
  inbox_.take(taken_);
  in_inbox_.fetch_sub(taken_.size(), std::memory_order_relaxed);
  if (lane_.empty()) {
    lane_.swap(taken_);
  } else {
    std::move(taken_.begin(), taken_.end(), std::back_inserter(lane_));
    taken_.clear();
  }
  in_lane_.store(lane_.size() - head_, std::memory_order_relaxed);
}

void home::complete(const xmpp::completion_id& id, modules::outcome how, xmpp::error_ref why) {
  if (!id)
    return;
  if (id.node != cluster::self)
    return for_peers(to_peers::ended{id, how, std::move(why)});
  if (id.reactor == index_) {
    done_.push_back({id, how, std::move(why)});
    return;
  }
  if (outboxes_.size() <= id.reactor)
    outboxes_.resize(node_.homes().size());
  outboxes_[id.reactor].completions.push_back({id, how, std::move(why)});
}

void home::run_item(lane_item& i) {
  running_ = 0;
  try {
    i.call(*this, i);
  } catch (const std::exception& e) {
    on_crash(e);
  }
}

void home::on_crash(const std::exception& e) {
  counters_.crashes->add();
  auto who = running_;
  auto* victim = table_.find(who);
  base::log::error("actor.crashed", "an exception ended one actor; no other is touched",
                   {{"stream", std::to_string(victim ? victim->log_id() : 0)}, {"what", e.what()}});
  if (!victim)
    return;
  try {
    victim->on_crash(e.what());
  } catch (const std::exception&) { // it cannot even end itself
    if (auto* still = table_.find(who))
      end(*still);
  }
}

void home::run_lane() {
  auto until = head_ + items_per_turn;
  while (head_ < lane_.size() && head_ < until) { // grows while it runs
    auto item = std::move(lane_[head_++]);
    run_item(item);
  }
  if (head_ == lane_.size()) {
    lane_.clear();
    if (lane_.capacity() > 2 * items_per_turn) // a burst is over: its room is worth more elsewhere
      lane_.shrink_to_fit();
    head_ = 0;
  } else { // what is left keeps its place
    lane_.erase(lane_.begin(), lane_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
  in_lane_.store(lane_.size(), std::memory_order_relaxed);
}

void home::apply_completions() {
  applying_.swap(done_);
  for (auto& c : applying_)
    guard(c.id.session, [&] { table_.find(c.id.session)->on_completed(c.id.number, c.how, c.why); });
  applying_.clear();
}

void home::flush_dirty() {
  flushing_.swap(dirty_);
  for (auto id : flushing_)
    guard(id, [&] { find<connection>(id)->flush(); });
  flushing_.clear();
}

void home::flush_outboxes() {
  for (std::size_t to = 0; to < outboxes_.size(); ++to) {
    auto& box = outboxes_[to];
    if (!box.completions.empty())
      box.items.push_back({&task_thunk, 0, {}, home::box<home>([batch = std::move(box.completions)](home& at) {
                             at.done_.insert(at.done_.end(), batch.begin(), batch.end());
                           })});
    box.completions.clear();
    if (box.items.empty())
      continue;
    auto& target = *node_.homes()[to];
    target.in_inbox_.fetch_add(box.items.size(), std::memory_order_relaxed);
    if (target.inbox_.push_all(box.items) == decltype(inbox_)::result::first)
      target.loop_.post([&target] { target.take_inbox(); });
    box.items.clear();
    watch_outbox(box, target);
  }
}

/// Where too much waits, a mark goes behind it and comes back when all before it has been handled: until then this
/// reactor's clients are not read.
void home::watch_outbox(outbox& box, home& target) {
  auto waits = target.in_inbox_.load(std::memory_order_relaxed) + target.in_lane_.load(std::memory_order_relaxed);
  if (box.is_crowded || waits <= items_per_turn)
    return;
  box.is_crowded = true;
  ++crowded_;
  target.push_from_anywhere({&task_thunk, 0, {}, home::box<home>([from = index_](home& at) {
                               at.post(from, [to = at.index_](home& back) {
                                 back.outboxes_[to].is_crowded = false;
                                 --back.crowded_;
                               });
                             })});
}

void home::flush_peers() {
  if (auto* others = node_.peers())
    for_peers_ = others->take(std::move(for_peers_));
  else
    for_peers_.clear();
}

void home::to_peer(cluster::peer_number to, cluster::parcel&& p) {
  if (node_.has_crowded_links()) [[unlikely]]
    hold_sender(to, p);
  for_peers_.push_back(to_peers::send{to, std::move(p)});
}

/// The session that says it here and now, else whose stanza or word is being handled, else who is named as its sender; all of an
/// account's sessions where only that is named. Nobody, where that one is on another node: then the bounds of the link count.
void home::hold_sender(cluster::peer_number to, const cluster::parcel& p) {
  bool is_its_own = p.kind != cluster::parcel_kind::spool && p.kind != cluster::parcel_kind::control; // else it has not asked for it
  if (!is_its_own || !node_.is_link_crowded(to))
    return;
  if (cause_.session)
    return hold(*cause_.session, to);
  if (auto* s = dynamic_cast<session*>(table_.find(running_)))
    return s->wait_for_link(to);
  const auto* said = cause_.what ? cause_.what : p.what.is_copy ? nullptr : p.what.what.get(); // a copy names the account that has it made
  if (!said || !said->from)
    return;
  auto& rows = node_.peers()->rows();
  if (auto there = said->from->is_bare() ? std::nullopt : rows.find(*said->from))
    return hold({there->node, there->reactor, there->ref}, to);
  if (said->from->is_bare())
    rows.sessions_of(*said->from, [&](std::string_view, const cluster::entry& e) { hold({e.node, e.reactor, e.ref}, to); });
}

void home::hold(const cluster::place& one, cluster::peer_number to) {
  if (one.node != cluster::self || one.reactor >= node_.homes().size())
    return;
  if (one.reactor != index_) {
    if (!(std::exchange(held_, one) == one))
      post<session>(one.reactor, one.ref, [to](session& s) { s.wait_for_link(to); });
  } else if (auto* s = find<session>(one.ref)) {
    s->wait_for_link(to);
  }
}

/// Not all at once: what the first ones send may fill it again.
void home::read_senders() {
  constexpr std::size_t most = 64;
  has_link_room_ = false;
  std::size_t n = 0;
  for (auto& w : std::exchange(waiting_, {})) {
    bool may_go_on = !node_.is_link_crowded(w.to);
    if (may_go_on && n < most) {
      ++n;
      guard(w.who, [&] { find<connection>(w.who)->on_link_room(); });
    } else {
      has_link_room_ |= may_go_on;
      waiting_.push_back(w);
    }
  }
}

bool home::is_congested() const { return crowded_ > 0 || lane_.size() - head_ > items_per_turn || node_.are_links_full(); }

bool home::end_of_turn() {
  return as_current([this] {
    counters_.turns->add();
    run_lane();
    flush_dirty();
    apply_completions();
    if (!paused_.empty() && !is_congested()) {
      auto again = std::exchange(paused_, {});
      for (auto& p : again)
        guard(p.who, [&] { p.resume(*table_.find(p.who)); });
    }
    if (has_link_room_) [[unlikely]]
      read_senders();
    flush_outboxes();
    if (!for_peers_.empty())
      flush_peers();
    held_ = {};
    graveyard_.clear();
    return !lane_.empty() || !dirty_.empty() || !done_.empty() || has_link_room_;
  });
}

} // namespace actors
