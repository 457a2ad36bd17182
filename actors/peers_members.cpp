// Who is there and what that means: for accounts and sessions of this node, for services, for commands.
#include "actors/at_entity.hpp"
#include "actors/peers.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"
#include <algorithm>
#include <future>

namespace actors {

using cluster::peer_number;
using cluster::peer_state;

namespace {
constexpr std::size_t most_gone = 65'536; // sessions that are looked for once more
constexpr std::size_t most_written = 65'536; // accounts; beyond, what is stored waits for the next login
constexpr std::size_t most_former = 8;    // lists of candidates
constexpr auto remembered = std::chrono::seconds{60};
constexpr auto tell_after = std::chrono::milliseconds{100};
} // namespace

std::string_view to_text(cluster::peer_state s) {
  switch (s) {
    case peer_state::known: return "known";
    case peer_state::alive: return "alive";
    case peer_state::suspected: return "suspected";
    case peer_state::dead: return "dead";
    case peer_state::left: return "left";
  }
  return {};
}

void peers::update_candidates() {
  if (!former_.empty() && now_ >= former_.front().until) {
    std::lock_guard guard{candidates_mutex_};
    former_.pop_front();
    if (former_.empty())
      candidates_version_.store(0, std::memory_order_relaxed);
  }
  auto fresh = mesh_.candidates();
  std::vector<peer_number> alive;
  for (std::size_t n = 1; n < mesh_.members().peers().size(); ++n)
    if (auto s = mesh_.members().at(static_cast<peer_number>(n)).state; s == peer_state::alive || s == peer_state::suspected)
      alive.push_back(static_cast<peer_number>(n));
  auto name = [this](peer_number n) -> const std::string& { return mesh_.members().at(n).who.name; };
  auto is_same_candidate = [](auto& a, auto& b) { return a.node == b.node && a.number == b.number && a.reactors == b.reactors; };
  bool are_names_same = alive == alive_ && std::ranges::all_of(alive, [&](auto n) { return names_[n] == name(n); });
  if (are_names_same && std::ranges::equal(fresh, *candidates_, is_same_candidate))
    return; // nearly always: each tick looks
  auto shown = std::make_shared<const std::vector<cluster::candidate>>(std::move(fresh));
  decltype(names_) names(mesh_.members().peers().size());
  decltype(by_name_) by_name;
  for (auto n : alive)
    by_name[names[n] = name(n)] = n;
  std::lock_guard guard{candidates_mutex_};
  names_ = std::move(names);
  by_name_ = std::move(by_name);
  if (former_.size() == most_former)
    former_.pop_front();
  former_.push_back({std::exchange(candidates_, std::move(shown)), now_ + cluster::table::move_age * tick_every});
  candidates_version_.store(++last_version_, std::memory_order_relaxed); // seen with them: both under the lock
  alive_ = std::move(alive);
}

/// Who sends over a link with too much in it is not read; what is beyond that for lack of a way to know him, or because there are so
/// many of them, is bounded for all links together, and then nobody is.
void peers::look_at_links() {
  auto is_crowded = [this](peer_number n) {
    const auto* l = mesh_.link_to(n);
    return l && l->is_congested();
  };
  bool has_room = std::erase_if(crowded_, [&](auto n) {
    if (is_crowded(n))
      return false;
    around_.set_link_crowded(n, false); // also where it is gone
    return true;
  }) > 0;
  for (auto n : alive_)
    if (is_crowded(n) && !around_.is_link_crowded(n)) {
      crowded_.push_back(n);
      around_.set_link_crowded(n, true);
    }
  bool was_full = around_.are_links_full(), is_full = are_links_full();
  if (is_full != was_full)
    around_.set_links_full(is_full);
  if (is_full && now_ >= links_full_told_ + std::chrono::seconds{10}) { // it may come and go
    links_full_told_ = now_;
    base::log::warning("cluster.links_full", "too much waits for other nodes: for a moment no client is read", {{"unsent", std::to_string(unsent_.size())}});
  }
  if (has_room || (was_full && !is_full))
    for (auto* h : around_.homes())
      h->post_from_anywhere([](home& at) { at.on_link_room(); });
}

bool peers::are_links_full() const {
  if (unsent_.size() > link_limits_.messages || unsent_bytes_ > link_limits_.bytes)
    return true;
  auto bytes = unsent_bytes_;
  for (auto n : alive_)
    if (const auto* l = mesh_.link_to(n))
      bytes += l->waiting_bytes();
  return bytes > 2 * std::uint64_t{link_limits_.hard_bytes};
}

void peers::look_whether_joined() {
  if (alive_.empty() || !std::ranges::all_of(alive_, [this](auto n) { return mesh_.rows().is_synced(n); }))
    return;
  std::lock_guard guard{mutex_};
  has_joined_ = true;
  joined_.notify_all();
}

/// For health alone: new clients do better with the larger part of a split. Nothing else here waits for a majority.
void peers::look_whether_minority() {
  auto now = mesh_.members().reachable();
  if (now.is_minority() == is_in_minority())
    return;
  is_in_minority_.store(now.is_minority(), std::memory_order_relaxed);
  auto reached = std::to_string(now.reached), missing = std::to_string(now.missing);
  if (now.is_minority())
    base::log::warning("cluster.minority", "more nodes are silent than answer: /readyz is red, new clients are for the others if these are there",
                       {{"reached", reached}, {"missing", missing}});
  else
    base::log::info("cluster.minority_over", "enough nodes answer again, or are known to be gone", {{"reached", reached}, {"missing", missing}});
}

bool peers::wait_until_joined(base::duration at_most) {
  std::unique_lock guard{mutex_};
  return joined_.wait_for(guard, at_most, [this] { return has_joined_; });
}

std::vector<peer_number> peers::hashed_lately(const xmpp::jid& bare) const {
  std::vector<candidates_ref> lists;
  {
    std::shared_lock guard{candidates_mutex_};
    lists.push_back(candidates_);
    for (auto& f : former_)
      lists.push_back(f.candidates);
  }
  std::vector<peer_number> all;
  for (auto& list : lists)
    if (auto n = cluster::table::hashed(bare, *list).node; std::ranges::find(all, n) == all.end())
      all.push_back(n);
  return all;
}

std::optional<cluster::move> peers::moved_by_hashing(const xmpp::jid& bare, std::optional<cluster::move> by_rows) const {
  constexpr int version_bits = 40; // above the number of the rows' moves
  auto version = std::uint64_t{candidates_version_.load(std::memory_order_relaxed)};
  if (rows_.home_of(bare) || hashed_lately(bare).size() == 1)
    return by_rows;
  auto both = by_rows.value_or(cluster::move{});
  both.number |= version << version_bits;
  both.was_hashed = true;
  return both;
}

bool peers::has_successor() const {
  auto all = candidates();
  return std::ranges::any_of(*all, [](auto& c) { return c.number != cluster::self; });
}

std::vector<peer_number> peers::alive() const {
  std::shared_lock guard{candidates_mutex_};
  return alive_;
}

bool peers::is_alive(peer_number n) const {
  std::shared_lock guard{candidates_mutex_};
  return std::ranges::find(alive_, n) != alive_.end();
}

std::vector<peers::told_names> peers::told_lately() const {
  std::shared_lock guard{candidates_mutex_};
  return {told_.begin(), told_.end()};
}

std::optional<peer_number> peers::find(std::string_view name) const {
  if (name == own_name())
    return cluster::self;
  std::shared_lock guard{candidates_mutex_};
  auto i = by_name_.find(name);
  return i == by_name_.end() ? std::nullopt : std::optional{i->second};
}

std::optional<peer_number> peers::service_owner(const xmpp::jid& name) const {
  if (owned_.fence(name))
    return cluster::self;
  auto there = rows_.route_of(name);
  return there && there->node != cluster::self ? std::optional{there->node} : std::nullopt;
}

std::size_t peers::services_without_owner() const {
  auto all = ownership::services_of(around_);
  return static_cast<std::size_t>(std::ranges::count_if(all, [this](auto& name) { return !service_owner(*name); }));
}

/// By hashing over those that are well: whoever is only silent still has its lease, and who is next begins to watch that.
bool peers::shall_own(const xmpp::jid& name) const {
  auto all = mesh_.candidates();
  std::erase_if(all, [this](auto& c) { return c.number != cluster::self && mesh_.members().at(c.number).state != peer_state::alive; });
  return !mesh_.members().is_draining() && rows_.owner_of(name, all).node == cluster::self;
}

void peers::show_service(const xmpp::jid_ref& name, std::uint64_t epoch, bool is_ours) {
  cluster::row r;
  r.name = name;
  r.kind = cluster::row_kind::route;
  r.clock = epoch; // a later owner's row is above an earlier one's
  r.epoch = static_cast<std::uint32_t>(epoch);
  if (is_ours)
    mesh_.publish(r, now_, todo_);
  else
    mesh_.withdraw(r, now_, todo_);
}

void peers::carry(const cluster::effects::peer_change& e) {
  const auto& who = mesh_.members().at(e.peer).who;
  if (e.is_process_gone)
    owned_.process_gone(who.node, e.life);
  if (e.state == peer_state::alive)
    base::log::info("cluster.peer_up", "another node is there", {{"node", who.name}, {"address", who.address}});
  else
    base::log::warning("cluster.peer_down", "another node is not there", {{"node", who.name}, {"address", who.address}, {"state", to_text(e.state)}});
  if (e.state != peer_state::dead && e.state != peer_state::left)
    return;
  for (auto* h : around_.homes())
    h->post_from_anywhere([n = e.peer](home& at) {
      at.table().for_each([&](light& l) {
        if (auto* s = dynamic_cast<session*>(&l))
          at.post<session>(at.index(), s->id(), [n](session& one) { one.on_peer_lost(n); });
        else if (auto* x = dynamic_cast<entity*>(&l))
          at.post<entity>(at.index(), x->id(), [n](entity& one) { one.on_peer_lost(n); });
      });
    });
}

/// Whoever of this account is here finds out where it lives now.
void peers::check(const xmpp::jid_ref& bare) {
  rows_.sessions_of(*bare, [this](std::string_view, const cluster::entry& e) {
    if (e.node == cluster::self && e.reactor < around_.homes().size())
      around_.homes()[e.reactor]->post_from_anywhere<session>(e.ref, [](session& s) { s.check_account(); });
  });
  at_entity(around_, *bare, [](entity& e) { e.check_owner(); });
}

void peers::carry(cluster::news& n) {
  auto is_route = [](const cluster::news::about& a) { return a.row.kind == cluster::row_kind::route; };
  for (auto* list : {&n.appeared, &n.left, &n.lost, &n.returned})
    std::erase_if(*list, is_route); // nobody keeps anything by them
  for (auto& a : n.appeared) {
    around_.see_bind_clock(a.row.clock);
    auto bare = xmpp::bare_of(a.row.name);
    check(bare);
    tell_what_is_written(bare);
  }
  for (auto& a : n.left) {
    check(xmpp::bare_of(a.row.name));
    if (gone_.size() < most_gone)
      gone_.push_back({xmpp::bare_of(a.row.name), a.row.session, a.node, now_ + std::chrono::seconds{2}, false});
  }
  for (auto& r : n.conflicts)
    if (auto i = sessions_.find(r.session); i != sessions_.end())
      around_.homes()[i->second.reactor]->post_from_anywhere<session>(i->second.ref, [](session& s) {
        s.close(xmpp::stream_errc::conflict, "replaced by a new session with this resource");
      });
  if (lost_.empty() && found_.empty())
    tell_at_ = now_ + tell_after;
  for (auto& a : n.returned)
    found_.push_back(a.row.name);
  for (auto& a : n.lost) {
    lost_.push_back(a.row.name);
    check(xmpp::bare_of(a.row.name));
    if (gone_.size() < most_gone)
      gone_.push_back({xmpp::bare_of(a.row.name), a.row.session, a.node, now_, true});
  }
}

namespace {
to_peers::send have_it_looked_for(peer_number who, const xmpp::jid_ref& bare) {
  return {who, cluster::make_control(0, {.what = cluster::control::kind::look_again}, {nullptr, bare})};
}
} // namespace

void peers::remember_written(const xmpp::jid_ref& bare) {
  post([this, bare] {
    if (written_.size() < most_written)
      written_.insert_or_assign(bare->hash(), now_ + remembered);
    if (rows_.home_of(*bare)) // it has come meanwhile
      tell_what_is_written(bare);
  });
}

void peers::tell_what_is_written(const xmpp::jid_ref& bare) {
  if (written_.erase(bare->hash()) == 0)
    return;
  auto there = rows_.home_of(*bare);
  if (!there || there->node == cluster::self)
    return at_entity(around_, *bare, [](entity& e) { e.look_again(0); });
  auto word = have_it_looked_for(there->node, bare);
  carry(word);
}

/// A mark is answered. The session's row may not be here yet, and what waits for the answer is said behind what was written.
void peers::tell_who_asks(const xmpp::jid_ref& bare, peer_number who) {
  if (!written_.contains(bare->hash()))
    return;
  auto word = have_it_looked_for(who, bare);
  carry(word);
}

/// What is on the way to a node, or waits there, holds up what is behind it as long as it may still come: where that node says nothing,
/// and nothing is on the way, only for a moment.
void peers::watch_mark(const to_peers::send& i) {
  constexpr std::size_t most = 65'536;
  const auto& bare = *i.what.what.to;
  const auto* l = mesh_.link_to(i.to);
  auto waits = [&](const unsent& u) { return u.to == i.to && u.what.is_for(bare); };
  bool is_on_way = (l && l->has_for(bare)) || std::ranges::any_of(unsent_, waits);
  if (marks_.size() < most)
    return marks_.push_back({i.what.said->clock, i.to, is_on_way, now_});
  end_mark(i.what.said->clock);
}

void peers::end_mark(std::uint64_t id) {
  around_.homes()[0]->post_from_anywhere([id](home& at) { move_keeper::tell(at, id); });
}

void peers::look_for_marks() {
  constexpr auto longest = std::chrono::seconds{15}; // then it is given up, or has been heard; no store takes longer, either
  constexpr auto shortest = std::chrono::seconds{1};
  std::erase_if(marks_, [&](auto& m) {
    auto state = mesh_.members().at(m.at).state;
    bool is_lost = state == peer_state::dead || state == peer_state::left;
    bool has_come_back = std::exchange(m.is_lost, is_lost) && is_lost; // what was on its way there, a tick ago: it has been routed again
    bool may_come = !has_come_back && (m.is_on_way || state == peer_state::alive);
    if (now_ - m.since < (may_come ? longest : shortest))
      return false;
    end_mark(m.id);
    return true;
  });
}

/// As long as somebody is away, so are sessions that may have something here.
void peers::forget_written() {
  if (now_ < forget_at_ || mesh_.misses_somebody())
    return;
  forget_at_ = now_ + std::chrono::seconds{10};
  std::erase_if(written_, [this](auto& w) { return w.second <= now_; });
}

void peers::forget_told() {
  constexpr std::size_t most = 64; // lists
  std::lock_guard guard{candidates_mutex_};
  while (!told_.empty() && (told_.size() >= most || told_.front().when + remembered <= now_))
    told_.pop_front();
}

/// One list for what comes up in a moment, for each goes to every account that has sessions here: a node that dies is many slices
/// of rows, a split that heals thousands of frames.
void peers::tell_names() {
  if (now_ < tell_at_ || (lost_.empty() && found_.empty()))
    return;
  auto tell = [this](std::vector<xmpp::jid_ref>& all, void (entity::*how)(std::shared_ptr<const std::vector<xmpp::jid_ref>>)) {
    if (all.empty())
      return;
    auto names = std::make_shared<std::vector<xmpp::jid_ref>>(std::exchange(all, {}));
    std::sort(names->begin(), names->end(), [](auto& a, auto& b) { return a->hash() < b->hash(); });
    {
      std::lock_guard guard{candidates_mutex_};
      told_.push_back({now_, how == &entity::on_lost, names});
    }
    for (auto* h : around_.homes())
      h->post_from_anywhere([how, names](home& at) {
        at.table().for_each([&](light& l) {
          if (auto* x = dynamic_cast<entity*>(&l); x && x->has_sessions())
            at.post<entity>(at.index(), x->id(), [how, names](entity& one) { (one.*how)(names); });
        });
      });
  };
  forget_told();
  std::erase_if(lost_, [this](auto& name) { return rows_.find(*name).has_value(); }); // he may have come back elsewhere before his node was missed
  tell(lost_, &entity::on_lost);
  tell(found_, &entity::on_found_again);
}

/// A session whose row is gone, and that its account has not heard of: the word was lost with a life of its node.
void peers::look_for_ghosts() {
  while (!gone_.empty() && gone_.front().due <= now_) {
    auto g = std::move(gone_.front());
    gone_.pop_front();
    bool is_there = false; // at another node, or again
    rows_.sessions_of(*g.bare, [&](std::string_view, const cluster::entry& e) { is_there |= e.session == g.session; });
    if (is_there)
      continue;
    at_entity(around_, *g.bare, [g](entity& e) { e.on_row_gone(g.node, g.session, g.is_silent); });
  }
  if (!attach_again_at_ || now_ < *attach_again_at_)
    return;
  attach_again_at_.reset();
  for (auto& [id, where] : sessions_)
    around_.homes()[where.reactor]->post_from_anywhere<session>(where.ref, [](session& s) { s.attach_again(); });
}

void peers::changed(const xmpp::jid_ref& bare, bool is_removed) {
  post([this, bare, is_removed] {
    using c = cluster::control;
    auto p = cluster::make_control(0, {.what = c::kind::changed, .flags = static_cast<std::uint8_t>(is_removed ? c::is_full : 0)}, {nullptr, bare});
    for (auto n : alive()) {
      p.sender = n;
      to_peers::send one{n, p};
      carry(one);
    }
  });
}

bool peers::is_new(std::uint64_t broadcast) {
  constexpr std::size_t most = 1'024;
  std::lock_guard guard{mutex_};
  if (std::ranges::find(broadcasts_, broadcast) != broadcasts_.end())
    return false;
  broadcasts_.push_back(broadcast);
  if (broadcasts_.size() > most)
    broadcasts_.pop_front();
  return true;
}

/// A turn sends what it was given when it ends: so the second one comes behind all that the first one was given.
void peers::changed_behind(const xmpp::jid_ref& bare, bool is_removed) {
  auto left = std::make_shared<std::atomic<std::size_t>>(around_.homes().size());
  for (auto* h : around_.homes())
    h->post_from_anywhere([this, left, bare, is_removed, h](home&) {
      h->post_from_anywhere([this, left, bare, is_removed](home&) {
        if (left->fetch_sub(1) == 1)
          changed(bare, is_removed);
      });
    });
}

void peers::remove_account(peer_number at, const xmpp::jid_ref& bare, on_removal then) {
  post([this, at, bare, then = std::move(then)] {
    constexpr auto patience = std::chrono::seconds{10};
    auto n = ++last_question_;
    if (mesh_.send(at, cluster::make_control(0, {.what = cluster::control::kind::remove, .clock = n}, {nullptr, bare}), now_, todo_) == base::room::full)
      return then(base::fail(storage::errc::unavailable));
    questions_.emplace(n, question{then, now_ + patience});
  });
}

void peers::on_removed(std::uint64_t n, std::uint8_t code) {
  post([this, n, code] {
    if (auto asked = questions_.extract(n))
      asked.mapped().then(code == 0 ? base::result<void, storage::errc>{} : base::fail(static_cast<storage::errc>(code - 1)));
  });
}

void peers::look_for_answers() {
  while (!questions_.empty() && questions_.begin()->second.until <= now_) {
    auto asked = questions_.extract(questions_.begin());
    asked.mapped().then(base::fail(storage::errc::unavailable));
  }
}

void peers::close_session(peer_number at, std::uint64_t session, xmpp::stream_errc why, const std::string& text) {
  post([this, at, session, why, text] {
    (void)mesh_.send(at, cluster::make_control(session, {.what = cluster::control::kind::close, .code = static_cast<std::uint8_t>(why), .text = text}), now_, todo_);
  });
}

std::string peers::name_of(peer_number n) const {
  std::shared_lock guard{candidates_mutex_};
  return n < names_.size() ? names_[n] : std::string{};
}

void peers::drain() {
  post([this] {
    mesh_.drain(now_, todo_);
    owned_.release_all(now_);
    update_candidates();
  });
}

std::optional<cluster_status> peers::status() {
  auto answer = std::make_shared<std::promise<cluster_status>>();
  auto told = answer->get_future();
  post([this, answer] {
    cluster_status s{mesh_.members().own(), mesh_.members().is_draining(), rows_.session_count(cluster::self), mesh_.rows().count().divergences, {}};
    for (std::size_t i = 1; i < mesh_.members().peers().size(); ++i) {
      auto n = static_cast<peer_number>(i);
      const auto& p = mesh_.members().at(n);
      bool is_succeeded = p.state == peer_state::left && (p.who.name == s.own.name || by_name_.contains(p.who.name));
      if (is_succeeded)
        continue; // the node of that name is there, with another data folder
      const auto* l = mesh_.link_to(n);
      s.peers.push_back({p.who.name, p.who.address, p.release, p.state, p.is_draining, rows_.session_count(n), mesh_.rows().lag(n), l ? l->open_count() : 0});
    }
    answer->set_value(std::move(s));
  });
  if (told.wait_for(std::chrono::seconds{1}) != std::future_status::ready)
    return std::nullopt;
  return told.get();
}

} // namespace actors
