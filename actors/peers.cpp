// The thread of the mesh: its connections, its clock, its disk, and mail for the reactors.
#include "actors/peers.hpp"
#include "actors/entity.hpp"
#include "actors/home.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"
#include "base/log.hpp"
#include "cluster/worker.hpp"
#include "storage/store.hpp"
#include <algorithm>
#include <map>

namespace actors {

using cluster::peer_number;
using cluster::peer_state;
namespace wire = cluster::wire;

namespace {
constexpr auto longest_round = std::chrono::milliseconds{10}; // of jobs, before the reactors get what has come
constexpr std::size_t most_unsent = 65'536;
constexpr std::uint64_t most_cost = 12u << 20;
constexpr std::uint8_t most_hops = UINT8_MAX;
constexpr std::size_t most_spare = 8, most_spare_items = 1'024; // batches whose memory is kept, and of each

/// Not for one address there: nobody asks for it again.
bool is_for_node(const cluster::parcel& p) {
  return p.said && (p.said->what == cluster::control::kind::broadcast || p.said->what == cluster::control::kind::changed);
}

std::string_view words_of(cluster::refusal r) {
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

peers::peers(node& around, cluster::member own, cluster::mesh_options o, storage::store* rows, clock now)
  : around_(around), random_(around.random()), link_limits_(o.stanzas.queue), mesh_(own, random_.number(), std::move(o), rows_, random_),
    owned_(around, own.node, own.life,
           {now,
            [this](std::function<void(base::time_point)> f) { post([this, f = std::move(f)] { f(now_); }); },
            [this](auto& name, std::uint64_t epoch, bool is_ours) { show_service(name, epoch, is_ours); },
            [this](const xmpp::jid& name) { return shall_own(name); }}),
    disk_(rows),
    clock_(std::move(now)),
    candidates_(std::make_shared<const std::vector<cluster::candidate>>()) {
  mail_.resize(around.homes().size());
  update_candidates();
}

peers::~peers() { stop(); }

base::result<void, std::string> peers::start(const make_transport& make) {
  if (auto ok = open(make); !ok)
    return ok;
  begin();
  auto* there = transport_->thread();
  if (!there) {
    own_thread_ = cluster::make_worker("covey-peers");
    there = own_thread_.get();
  }
  {
    std::lock_guard guard{mutex_};
    thread_ = there;
  }
  there->start([this] { return run(); });
  return {};
}

base::result<void, std::string> peers::start_stepped(const make_transport& make) {
  if (auto ok = open(make); !ok)
    return ok;
  begin();
  return {};
}

base::result<void, std::string> peers::open(const make_transport& make) {
  if (disk_)
    load_rows();
  auto made = make([this](std::function<void()> f) { post(std::move(f)); }, *this);
  if (!made)
    return base::fail(made.error());
  transport_ = std::move(*made);
  return {};
}

void peers::stop() {
  if (!thread_)
    return;
  post([this] { leave(); });
  std::this_thread::sleep_for(std::chrono::milliseconds{50}); // for the goodbye to be written
  thread_->stop();
  {
    std::lock_guard guard{mutex_};
    thread_ = nullptr;
  }
  while (waking_.load(std::memory_order_acquire) > 0)
    std::this_thread::yield();
  own_thread_ = nullptr;
  while (has_jobs())
    step();
  transport_->stop();
}

void peers::leave() {
  owned_.release_all(now_);
  mesh_.leave(now_, todo_);
  carry();
}

// --- the thread

void peers::post(std::function<void()> f) {
  auto now = clock_();
  (void)post({std::move(f), now}, now);
}

peer_batch peers::post(job j, base::time_point due) {
  peer_batch spare;
  cluster::wire::worker* sleeper = nullptr;
  {
    std::lock_guard guard{mutex_};
    if (!j.f && !spare_.empty()) {
      spare = std::move(spare_.back());
      spare_.pop_back();
    }
    jobs_.push_back(std::move(j));
    due_ = std::min(due_, due);
    if (thread_ && sleeps_until_ && *sleeps_until_ > due) {
      sleeper = thread_;
      sleeps_until_.reset();
      waking_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (sleeper) {
    sleeper->wake(); // without the lock, at which he would stop at once
    waking_.fetch_sub(1, std::memory_order_release);
  }
  return spare;
}

void peers::begin() {
  now_ = last_tick_ = clock_();
  mesh_.start(now_, todo_);
  carry();
}

/// Does what there is to do. How long there will be nothing, unless something is posted.
std::chrono::nanoseconds peers::run() {
  auto wanted = [this] {
    auto at = std::min(mesh_.wanted_at(), last_tick_ + tick_every);
    return lost_.empty() && found_.empty() ? at : std::min(at, tell_at_);
  };
  {
    std::lock_guard guard{mutex_};
    sleeps_until_.reset();
    take_jobs();
  }
  if (!doing_.empty() || wanted() <= clock_())
    do_round();
  auto now = clock_();
  std::lock_guard guard{mutex_};
  auto until = std::min(wanted(), due_);
  if (until > now)
    sleeps_until_ = until;
  return std::max(until - now, base::duration{});
}

void peers::take_jobs() {
  doing_.swap(jobs_);
  for (; !spent_.empty() && spare_.size() < most_spare; spent_.pop_back())
    spare_.push_back(std::move(spent_.back()));
  due_ = base::time_point::max();
}

bool peers::has_jobs() {
  std::lock_guard guard{mutex_};
  return !jobs_.empty();
}

void peers::step() {
  {
    std::lock_guard guard{mutex_};
    take_jobs();
  }
  do_round();
}

void peers::do_round() {
  look_at_time(doing_.empty() ? clock_() : doing_.front().came);
  for (auto& j : doing_) {
    look_at_time(j.came);
    j.f ? j.f() : carry(j.batch);
    carry();
  }
  doing_.clear();
  if (doing_.capacity() > most_spare_items)
    doing_ = {};
  end_round();
}

/// Before each thing that is handled, for there may be seconds of work: the clock, and what it asks for. All that came before
/// `came` has been handled, so it is as of then that others are silent.
void peers::look_at_time(base::time_point came) {
  now_ = clock_();
  came_ = came;
  mesh_.behind(std::max(now_ - came, base::duration{}));
  if (now_ - last_tick_ >= tick_every)
    tick();
  if (now_ - round_ended_ >= longest_round)
    end_round();
}

/// Asks for writes that something waits for. True: some are done already.
bool peers::hear_of_writes() {
  bool is_any = false;
  for (auto c : mesh_.waiting_for_writes())
    if (auto i = links_.find(c); i != links_.end() && transport_->is_written(i->second)) {
      mesh_.written(c, now_, todo_);
      is_any = true;
    }
  return is_any;
}

/// What has gathered goes where it is for, and what is left to do goes on.
void peers::end_round() {
  now_ = round_ended_ = clock_();
  if (mesh_.wanted_at() <= now_) {
    mesh_.go_on(now_, todo_);
    carry();
  }
  tell_names();
  send_unsent();
  hear_of_writes();
  mesh_.flush(now_, todo_);
  carry();
  if (hear_of_writes()) // else it is said when they are done
    post([] {});
  deliver_mail();
  write_rows();
  look_at_links();
  if (!has_joined_)
    look_whether_joined();
}

void peers::tick() {
  last_tick_ = now_;
  mesh_.tick(now_, todo_);
  update_candidates(); // former ones are forgotten
  owned_.tick(now_);
  carry();
  look_for_ghosts();
  look_for_answers();
  look_for_marks();
  rows_.age_moves();
  forget_written();
  forget_told();
  look_whether_minority();
  if (mesh_.misses_somebody())
    around_.set_together_since(around_.clock().now());
  divergences_.store(mesh_.rows().count().divergences, std::memory_order_relaxed);
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
    if (is_for_node(p)) { // its link has ended; it may be there again in a moment, and must hear of it
      if (unsent_.size() < most_unsent && p.what.hops < most_hops)
        wait_for_link(static_cast<peer_number>(p.sender), std::move(p), std::chrono::seconds{15});
      continue;
    }
    auto& address = p.receiver();
    mail_of(address ? around_.reactor_of(*address) : 0).returned.push_back(std::move(p));
  }
  auto changed = std::exchange(todo_.peers, {});
  if (std::exchange(todo_.are_candidates_new, false) || !changed.empty())
    update_candidates();
  for (auto& e : changed)
    carry(e);
  auto rows = std::exchange(todo_.rows, {});
  carry(rows);
  for (auto& r : std::exchange(todo_.refused, {}))
    base::log::warning("cluster.turned_away", r.by_us ? "a node was turned away" : "another node turned this one away",
                       {{"node", r.who}, {"error", words_of(r.why)}});
  if (auto n = std::exchange(todo_.unreadable, 0))
    base::log::error("cluster.unreadable", "another node sent what this one does not understand; it was dropped", {{"count", std::to_string(n)}});
  if (auto life = std::exchange(todo_.reborn, std::nullopt)) {
    owned_.reborn(*life, now_);
    around_.set_together_since(around_.clock().now());
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

void peers::carry(cluster::effects::write& e) {
  auto i = links_.find(e.c);
  if (i == links_.end())
    return;
  auto link = i->second;
  if (transport_->send(link, std::move(e.bytes)) == wire::sent::ok)
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
    look_at_time(came_); // they may be many
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

/// The thread is not woken for answers, which wait for company anyway.
peer_batch peers::take(peer_batch batch) {
  const cluster::pace_options pace;
  auto now = clock_(), due = now + pace.totals;
  for (auto& i : batch)
    if (auto* e = std::get_if<to_peers::ended>(&i); e && (e->how == modules::outcome::acknowledged || e->how == modules::outcome::stored))
      due = std::min(due, now + pace.answers);
    else if (!std::holds_alternative<to_peers::handled>(i))
      due = now;
  return post({{}, now, std::move(batch)}, due);
}

void peers::carry(peer_batch& batch) {
  for (auto& i : batch)
    std::visit([this](auto& one) { carry(one); }, i);
  batch.clear();
  if (batch.capacity() <= most_spare_items && spent_.size() < most_spare)
    spent_.push_back(std::move(batch));
}

void peers::carry(to_peers::send& i) {
  if (cost(i.what) > most_cost) { // no frame holds it
    i.what.what.hops = most_hops;
    return todo_.returned.push_back(std::move(i.what));
  }
  constexpr auto patience = std::chrono::seconds{2};
  if (i.what.said && i.what.said->what == cluster::control::kind::passing)
    watch_mark(i);
  if (i.what.said && i.what.said->what == cluster::control::kind::passed)
    tell_who_asks(i.what.what.to, i.to);
  if (!unsent_orders_.contains(i.what.order) && mesh_.send(i.to, std::move(i.what), now_, todo_) != base::room::full)
    return;
  bool is_control = i.what.kind == cluster::parcel_kind::control; // which nobody would say again
  auto most = is_control ? 2 * most_unsent : most_unsent;
  if (unsent_.size() >= most || (!is_control && unsent_bytes_ >= link_limits_.hard_bytes)) { // what has gone round already ends sooner
    i.what.what.hops = most_hops;
    return todo_.returned.push_back(std::move(i.what));
  }
  wait_for_link(i.to, std::move(i.what), patience); // it is as it was
}

void peers::wait_for_link(peer_number to, cluster::parcel&& p, base::duration at_most) {
  ++unsent_orders_[p.order];
  unsent_bytes_ += cost(p);
  unsent_.push_back({to, std::move(p), now_ + at_most});
}

/// What found no link goes by the same peer's next one, before anything that was said later; where the peer is gone it goes its way anew.
void peers::send_unsent() {
  if (unsent_.empty())
    return;
  std::deque<unsent> left;
  std::unordered_map<std::uint64_t, std::uint32_t> orders;
  unsent_bytes_ = 0;
  for (auto& u : std::exchange(unsent_, {})) {
    auto order = u.what.order;
    auto state = mesh_.members().at(u.to).state;
    bool may_wait = state == peer_state::alive || state == peer_state::suspected || is_for_node(u.what);
    if (now_ >= u.until && is_for_node(u.what))
      continue; // it has nobody to hear it
    if (!may_wait || now_ >= u.until) {
      if (may_wait && u.what.kind == cluster::parcel_kind::outbound) // what is for an address is counted where it is routed
        ++u.what.what.hops;
      todo_.returned.push_back(std::move(u.what));
    } else if (orders.contains(order) || mesh_.send(u.to, std::move(u.what), now_, todo_) == base::room::full) {
      ++orders[order];
      unsent_bytes_ += cost(u.what);
      left.push_back(std::move(u));
    }
  }
  unsent_ = std::move(left);
  unsent_orders_ = std::move(orders);
  carry();
}

void peers::carry(to_peers::ended& i) { mesh_.complete(i.id.node, i.id, static_cast<cluster::ending>(i.how), now_, todo_, std::move(i.why)); }
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
  bool is_for_session = p.kind == cluster::parcel_kind::to_session || (p.kind == cluster::parcel_kind::control && p.said->is_for_session());
  cluster::place to;
  if (is_for_session) {
    if (auto i = sessions_.find(p.session); i != sessions_.end())
      to = i->second;
  } else if (auto& address = p.receiver(); address) {
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
    mail_[n].arrivals.reserve(all.arrivals.size()); // the next round is mostly like this one
    mail_[n].ended.reserve(all.ended.size());
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
          if (e.how == cluster::ending::unreadable) {
            bounce(at, *s, xmpp::stanza_errc::internal_server_error);
            continue;
          }
          if (e.how == cluster::ending::acknowledged)
            e.what.what.settle();
          at.complete(s->completion, static_cast<modules::outcome>(e.how), std::move(e.why));
        }
      for (auto& p : all.returned)
        at.contain(0, [&] { on_returned(at, std::move(p)); });
      for (auto& [from, sum] : done)
        at.for_peers(sum);
    });
  }
}

} // namespace actors
