// The thread of the mesh: its connections, its clock, its disk, and mail for the reactors.
#include "actors/peers.hpp"
#include "actors/entity.hpp"
#include "actors/home.hpp"
#include "actors/node.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"
#include "storage/store.hpp"
#include <algorithm>
#include <map>
#include <ctime>
#include <future>

namespace actors {

using cluster::peer_number;
using cluster::peer_state;
namespace wire = cluster::wire;

namespace {
constexpr auto tick_every = std::chrono::milliseconds{250};
constexpr std::size_t most_unsent = 65'536;
constexpr std::uint64_t most_cost = 12u << 20;
constexpr std::uint8_t most_hops = UINT8_MAX;

/// Goes on while the machine is suspended, unlike the monotonic clock: then peers have given this node up.
base::time_point boot_time() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return base::time_point{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
}

std::string_view name_of(cluster::refusal r) {
  using enum cluster::refusal;
  switch (r) {
    case none: return "none";
    case wrong_cluster: return "wrong cluster";
    case incompatible: return "incompatible version";
    case declared_dead: return "declared dead";
    case duplicate_identity: return "another node has this identity";
    case duplicate_name: return "another node has this name";
    case busy: return "busy";
    case leaving: return "leaving";
    case full: return "too many nodes";
    case malformed: return "malformed";
  }
  return {};
}
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
peers::peers(node& around, cluster::member own, cluster::mesh_options o, storage::store* rows)
  : around_(around), random_(around.random()), mesh_(own, random_.number(), std::move(o), rows_, random_), disk_(rows),
    candidates_(std::make_shared<const std::vector<cluster::candidate>>()) {
  mail_.resize(around.homes().size());
  update_candidates();
}

peers::~peers() { stop(); }

base::result<void, std::string> peers::start(const make_transport& make) {
  if (disk_)
    load_rows();
  auto made = make([this](job j) { post(std::move(j)); }, *this);
  if (!made)
    return base::fail(made.error());
  transport_ = std::move(*made);
  thread_ = std::thread{[this] { run(); }};
  return {};
}

void peers::stop() {
  if (!thread_.joinable())
    return;
  post([this] {
    mesh_.leave(now_, todo_);
    carry();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds{50}); // for the goodbye to be written
  {
    std::lock_guard guard{mutex_};
    is_over_ = true;
    wake_.notify_one();
  }
  thread_.join();
  transport_->stop();
}

// --- the thread

void peers::post(job j) {
  std::lock_guard guard{mutex_};
  jobs_.push_back(std::move(j));
  if (jobs_.size() == 1)
    wake_.notify_one();
}

void peers::run() {
  std::vector<job> now;
  now_ = last_tick_ = boot_time();
  mesh_.start(now_, todo_);
  carry();
  for (;;) {
    {
      std::unique_lock guard{mutex_};
      wake_.wait_for(guard, tick_every, [this] { return !jobs_.empty() || is_over_; });
      if (is_over_ && jobs_.empty())
        return;
      now.swap(jobs_);
    }
    now_ = boot_time();
    if (now_ - last_tick_ >= tick_every) {
      last_tick_ = now_;
      mesh_.tick(now_, todo_);
      auto again = std::exchange(unsent_, {});
      std::move(again.begin(), again.end(), std::back_inserter(todo_.returned));
      carry();
      look_for_ghosts();
      divergences_.store(mesh_.rows().count().divergences, std::memory_order_relaxed);
    }
    for (auto& j : now) {
      j();
      carry();
    }
    now.clear();
    deliver_mail();
    write_rows();
    look_at_links();
    if (!has_joined_)
      look_whether_joined();
  }
}

void peers::load_rows() {
  using storage::key_range;
  std::string from{cluster::replica::disk_prefix}, until = from + '\xff';
  for (;;) {
    constexpr std::size_t page = 4'096;
    auto r = disk_->blocking().scan({from, until}, storage::order::forward, page);
    if (!r || r->empty())
      return; // what is missing is found by digests
    for (auto& row : *r)
      (void)mesh_.load(row);
    if (r->size() < page)
      return;
    from = r->back().key + '\0';
  }
}

void peers::write_rows() {
  auto changes = mesh_.take_writes();
  if (changes.empty())
    return;
  if (!disk_)
    return mesh_.written_to_disk(true);
  storage::batch b;
  b.changes = std::move(changes);
  b.durability = storage::durability::relaxed;
  disk_->submit(std::move(b), [this](storage::outcome how) { post([this, how] { mesh_.written_to_disk(how == storage::outcome::done); }); });
}

void peers::carry() {
  carry_net();
  for (auto& a : std::exchange(todo_.arrived, {}))
    carry(a);
  for (auto& e : std::exchange(todo_.ended, {})) {
    auto reactor = e.what.what.what ? e.what.what.what->completion.reactor : std::uint16_t{0};
    mail_of(e.what.what.what && e.what.what.what->completion.node != cluster::self ? 0 : reactor).ended.push_back(std::move(e));
  }
  for (auto& p : std::exchange(todo_.returned, {})) {
    auto& address = p.what.to || !p.what.what ? p.what.to : p.what.what->to;
    mail_of(address ? around_.reactor_of(*address) : 0).returned.push_back(std::move(p));
  }
  auto changed = std::exchange(todo_.peers, {});
  if (!changed.empty())
    update_candidates();
  for (auto& e : changed)
    carry(e);
  auto rows = std::exchange(todo_.rows, {});
  carry(rows);
  for (auto& r : std::exchange(todo_.refused, {}))
    base::log::warning("cluster.turned_away", r.by_us ? "a node was turned away" : "another node turned this one away",
                       {{"node", r.who}, {"error", name_of(r.why)}});
  if (auto life = std::exchange(todo_.reborn, std::nullopt)) {
    attach_again_at_ = now_ + std::chrono::seconds{2}; // others may have let our sessions go
    base::log::warning("cluster.reborn", "this node was away for so long that the others may have given it up; it joins again", {{"life", std::to_string(*life)}});
  }
}

void peers::carry_net() {
  while (!todo_.net.empty())
    for (auto& e : std::exchange(todo_.net, {}))
      std::visit([this](auto& one) { carry(one); }, e);
}

void peers::carry(const cluster::effects::dial& e) {
  auto link = transport_->dial(e.address, {});
  links_[e.c] = link;
  lines_[link] = {e.c, false};
}

void peers::carry(const cluster::effects::write& e) {
  auto i = links_.find(e.c);
  if (i == links_.end())
    return;
  auto link = i->second;
  if (transport_->send(link, e.bytes) == wire::sent::ok)
    return;
  links_.erase(i); // more waits than it may, or it is over
  lines_.erase(link);
  transport_->close(link, {wire::refusal_code::leaving, "too slow"});
  mesh_.broken(e.c, now_, todo_);
}

void peers::carry(const cluster::effects::close& e) {
  auto i = links_.find(e.c);
  if (i == links_.end())
    return;
  auto link = i->second;
  links_.erase(i);
  lines_.erase(link);
  transport_->close(link, {wire::refusal_code::leaving, "not wanted any more"});
}

void peers::connected(wire::link_id link, const wire::hello&, std::uint32_t) {
  auto i = lines_.find(link);
  if (i != lines_.end()) {
    i->second.is_open = true;
    return mesh_.dialled(i->second.c, now_, todo_);
  }
  auto c = ++accepted_;
  links_[c] = link;
  lines_[link] = {c, true};
  mesh_.accepted(c, now_, todo_);
}

void peers::received(wire::link_id link, std::vector<std::string> frames) {
  for (auto& f : frames) {
    auto i = lines_.find(link);
    if (i == lines_.end())
      return;
    mesh_.received(i->second.c, f, now_, todo_);
    carry();
  }
}

void peers::written(wire::link_id link) {
  if (auto i = lines_.find(link); i != lines_.end())
    mesh_.written(i->second.c, now_, todo_);
}

void peers::closed(wire::link_id link, const wire::closing& how) {
  auto i = lines_.find(link);
  if (i == lines_.end())
    return; // by us
  auto [c, is_open] = i->second;
  lines_.erase(i);
  links_.erase(c);
  if (is_open)
    mesh_.broken(c, now_, todo_);
  else
    mesh_.dial_failed(c, how.cause == wire::close_cause::connection_refused, now_, todo_);
}

// --- from the reactors

void peers::take(peer_batch batch) {
  post([this, all = std::move(batch)]() mutable {
    for (auto& i : all)
      std::visit([this](auto& one) { carry(one); }, i);
  });
}

void peers::carry(to_peers::send& i) {
  if (cost(i.what) > most_cost) { // no frame holds it
    i.what.what.hops = most_hops;
    return todo_.returned.push_back(std::move(i.what));
  }
  if (mesh_.send(i.to, std::move(i.what), now_, todo_) != base::room::full)
    return;
  if (unsent_.size() >= most_unsent) // what has gone round already ends sooner
    i.what.what.hops = most_hops;
  unsent_.push_back(std::move(i.what)); // it is as it was, and goes its way again in a moment
}

void peers::carry(to_peers::ended& i) { mesh_.complete(i.id.node, i.id, static_cast<cluster::ending>(i.how), now_, todo_); }
void peers::carry(to_peers::handled& i) { mesh_.handled(i.from, i.stanzas, i.bytes, now_, todo_); }

void peers::carry(to_peers::row& i) {
  auto& r = i.what;
  if (i.is_removal) {
    if (auto there = sessions_.find(r.session); there != sessions_.end() && there->second.ref == r.ref && there->second.reactor == r.reactor)
      sessions_.erase(there);
    mesh_.withdraw(r, now_, todo_);
  } else {
    sessions_[r.session] = {cluster::self, r.reactor, r.ref};
    mesh_.publish(r, now_, todo_);
  }
  check(xmpp::bare_of(r.name));
}

void peers::carry(to_peers::relocated& i) {
  if (!i.to) { // unless another one has it
    if (auto there = sessions_.find(i.session); there != sessions_.end() && there->second == i.from)
      sessions_.erase(there);
    return;
  }
  sessions_[i.session] = i.to;
  if (!i.from)
    return;
  mail_of(i.from.reactor);
  deliver_mail(); // what is for the old one goes before
  around_.homes()[i.from.reactor]->post_from_anywhere<session>(i.from.ref, [](session& s) { s.on_moved(true); });
}

// --- to the reactors

peers::mail& peers::mail_of(std::uint16_t reactor) {
  has_mail_ = true;
  return mail_[reactor < mail_.size() ? reactor : 0];
}

void peers::carry(cluster::effects::arrival& a) {
  auto& p = a.what;
  bool is_control = p.kind == cluster::parcel_kind::control;
  using kind = cluster::control::kind;
  bool is_for_session = p.kind == cluster::parcel_kind::to_session || (is_control && p.said->what >= kind::accepted && p.said->what <= kind::adopted);
  cluster::place to;
  if (is_for_session) {
    if (auto i = sessions_.find(p.session); i != sessions_.end())
      to = i->second;
  } else if (auto& address = p.what.to ? p.what.to : p.what.what ? p.what.what->to : p.what.to; address) {
    to.reactor = around_.reactor_of(*address);
  }
  mail_of(to.reactor).arrivals.push_back({a.from, std::move(p), to});
}

void peers::deliver_mail() {
  if (!std::exchange(has_mail_, false))
    return;
  for (std::size_t n = 0; n < mail_.size(); ++n) {
    auto all = std::exchange(mail_[n], {});
    if (all.arrivals.empty() && all.ended.empty() && all.returned.empty())
      continue;
    around_.homes()[n]->post_from_anywhere([all = std::move(all)](home& at) mutable {
      std::map<peer_number, to_peers::handled> done;
      for (auto& a : all.arrivals) {
        if (a.what.needs_credit) {
          auto& sum = done.try_emplace(a.from, to_peers::handled{a.from, 0, 0}).first->second;
          ++sum.stanzas;
          sum.bytes += cost(a.what);
        }
        at.contain(a.to.ref, [&] { arrive(at, a.from, a.to, std::move(a.what)); });
      }
      for (auto& e : all.ended)
        if (auto& s = e.what.what.what) {
          if (e.how == cluster::ending::acknowledged)
            e.what.what.settle();
          at.complete(s->completion, static_cast<modules::outcome>(e.how));
        }
      for (auto& p : all.returned)
        at.contain(0, [&] { on_returned(at, std::move(p)); });
      for (auto& [from, sum] : done)
        at.for_peers(sum);
    });
  }
}

// --- who is there

void peers::update_candidates() {
  auto fresh = std::make_shared<const std::vector<cluster::candidate>>(mesh_.candidates());
  std::vector<peer_number> alive;
  for (std::size_t n = 1; n < mesh_.members().peers().size(); ++n)
    if (auto s = mesh_.members().at(static_cast<peer_number>(n)).state; s == peer_state::alive || s == peer_state::suspected)
      alive.push_back(static_cast<peer_number>(n));
  std::lock_guard guard{candidates_mutex_};
  candidates_ = std::move(fresh);
  alive_ = std::move(alive);
}

void peers::look_at_links() {
  bool is_full = std::ranges::any_of(alive_, [this](auto n) {
    const auto* l = mesh_.link_to(n);
    return l && l->is_congested();
  });
  if (is_full == around_.are_links_full())
    return;
  around_.set_links_full(is_full);
  if (!is_full)
    for (auto* h : around_.homes())
      h->post_from_anywhere([](home&) {}); // a turn, in which clients are read again
}

void peers::look_whether_joined() {
  if (alive_.empty() || !std::ranges::all_of(alive_, [this](auto n) { return mesh_.rows().is_synced(n); }))
    return;
  std::lock_guard guard{mutex_};
  has_joined_ = true;
  joined_.notify_all();
}

bool peers::wait_until_joined(base::duration at_most) {
  std::unique_lock guard{mutex_};
  return joined_.wait_for(guard, at_most, [this] { return has_joined_; });
}

std::vector<peer_number> peers::alive() const {
  std::shared_lock guard{candidates_mutex_};
  return alive_;
}

void peers::carry(const cluster::effects::peer_change& e) {
  const auto& who = mesh_.members().at(e.peer).who;
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
  if (auto f = around_.registry().charge(*bare, home::control_cost); f.at) {
    if (f.room == base::room::full)
      f.at->limit.charge_always(home::control_cost);
    around_.homes()[f.at->reactor]->post_from_anywhere([at = f.at](home& h) { h.post_to_entity(*at, [](entity& e) { e.check_owner(); }); });
  }
}

void peers::carry(cluster::news& n) {
  for (auto& a : n.appeared) {
    around_.see_bind_clock(a.row.clock);
    check(xmpp::bare_of(a.row.name));
  }
  for (auto& a : n.left) {
    check(xmpp::bare_of(a.row.name));
    if (gone_.size() < most_unsent)
      gone_.push_back({xmpp::bare_of(a.row.name), a.row.session, a.node, now_ + std::chrono::seconds{2}, false});
  }
  for (auto& r : n.conflicts)
    if (auto i = sessions_.find(r.session); i != sessions_.end())
      around_.homes()[i->second.reactor]->post_from_anywhere<session>(i->second.ref, [](session& s) {
        s.close(xmpp::stream_errc::conflict, "replaced by a new session with this resource");
      });
  auto tell = [this](const std::vector<cluster::news::about>& all, void (entity::*how)(std::shared_ptr<const std::vector<xmpp::jid_ref>>)) {
    if (all.empty())
      return;
    auto names = std::make_shared<std::vector<xmpp::jid_ref>>();
    for (auto& a : all)
      if (a.row.kind == cluster::row_kind::session)
        names->push_back(a.row.name);
    std::sort(names->begin(), names->end(), [](auto& a, auto& b) { return a->hash() < b->hash(); });
    for (auto* h : around_.homes())
      h->post_from_anywhere([how, names](home& at) {
        at.table().for_each([&](light& l) {
          if (auto* x = dynamic_cast<entity*>(&l); x && x->has_sessions())
            at.post<entity>(at.index(), x->id(), [how, names](entity& one) { (one.*how)(names); });
        });
      });
  };
  tell(n.lost, &entity::on_lost);
  tell(n.returned, &entity::on_found_again);
  for (auto& a : n.lost) {
    check(xmpp::bare_of(a.row.name));
    if (gone_.size() < most_unsent)
      gone_.push_back({xmpp::bare_of(a.row.name), a.row.session, a.node, now_, true});
  }
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
    if (auto f = around_.registry().charge(*g.bare, home::control_cost); f.at) {
      if (f.room == base::room::full)
        f.at->limit.charge_always(home::control_cost);
      around_.homes()[f.at->reactor]->post_from_anywhere([at = f.at, g](home& h) {
        h.post_to_entity(*at, [g](entity& e) { e.on_row_gone(g.node, g.session, g.is_silent); });
      });
    }
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
    cluster::parcel p;
    p.kind = cluster::parcel_kind::control;
    p.needs_credit = false;
    p.said = std::make_shared<const c>(c{.what = c::kind::changed, .flags = static_cast<std::uint8_t>(is_removed ? c::is_full : 0)});
    p.what.to = bare;
    for (auto n : alive())
      (void)mesh_.send(n, cluster::parcel{p}, now_, todo_);
  });
}

void peers::drain() {
  post([this] {
    mesh_.drain(now_, todo_);
    update_candidates();
  });
}

std::optional<cluster_status> peers::status() {
  auto answer = std::make_shared<std::promise<cluster_status>>();
  auto told = answer->get_future();
  post([this, answer] {
    cluster_status s{mesh_.members().own(), mesh_.members().is_draining(), rows_.size(cluster::self), mesh_.rows().count().divergences, {}};
    for (std::size_t i = 1; i < mesh_.members().peers().size(); ++i) {
      auto n = static_cast<peer_number>(i);
      const auto& p = mesh_.members().at(n);
      const auto* l = mesh_.link_to(n);
      s.peers.push_back({p.who.name, p.who.address, p.state, p.is_draining, rows_.size(n), mesh_.rows().lag(n), l ? l->open_count() : 0});
    }
    answer->set_value(std::move(s));
  });
  if (told.wait_for(std::chrono::seconds{1}) != std::future_status::ready)
    return std::nullopt;
  return told.get();
}

} // namespace actors
