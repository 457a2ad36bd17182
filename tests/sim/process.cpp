// One life of one node's process: the shell around the mesh. The model of sessions is in model.cpp.
#include "tests/sim/process.hpp"
#include <algorithm>

namespace sim {

namespace {
cluster::mesh_options mesh_options(std::vector<std::string> seeds) {
  cluster::mesh_options o;
  o.members.cluster = "sim";
  o.members.seeds = std::move(seeds);
  o.rows.most_log = 200; // small enough to be overrun
  o.rows.frame_bytes = 2'000;
  o.rows.most_unwritten = 64;
  o.rows.purge_slice = 4;
  o.pace.frames = 40; // so that frames gather
  o.pace.of_peer = 5;
  o.pace.burst = 30;
  o.stanzas.window_stanzas = 32; // so that credit runs out
  o.stanzas.window_bytes = 16 * 1024;
  return o;
}
} // namespace

process::process(surroundings s, std::size_t index, const std::string& address, std::vector<std::string> seeds, disk& folder,
                 std::uint64_t salt)
  : s_(s), index_(index), life_(salt), disk_(folder), random_(salt),
    mesh_({folder.node, folder.boots << 20, "node" + std::to_string(index), address, 2}, salt, mesh_options(std::move(seeds)), table_, random_),
    leases_(folder.node, folder.boots << 20, random_) {
  last_session_ = salt << 20; // unique in the cluster's life
}

process::~process() { *lives_ = false; }

void process::start() {
  for (auto& [key, value] : disk_.rows)
    mesh_.load({key, value, 1});
  with_mesh([&](auto& out) { mesh_.start(s_.w.now(), out); });
  start_leases();
  tick();
}

void process::pause() {
  is_paused_ = true;
  s_.w.trace("node%zu paused", index_);
}

void process::go_on() {
  is_paused_ = false;
  s_.w.trace("node%zu goes on", index_);
  bool is_new = false;
  auto before = mesh_.members().own().life;
  with_mesh([&](auto& out) { mesh_.tick(s_.w.now(), out); });
  is_new = mesh_.members().own().life != before;
  auto waiting = std::exchange(inbox_, {});
  for (auto& [from, f] : waiting)
    if (!is_new || from != source::net) { // what its links had not read is thrown away
      if (is_paused_)
        inbox_.emplace_back(from, std::move(f));
      else
        f();
    }
}

void process::post(source from, std::function<void()> f) {
  if (is_paused_)
    inbox_.emplace_back(from, std::move(f));
  else
    f();
}

void process::on_dialled(connection c) {
  post(source::net, [this, c] { with_mesh([&](auto& out) { mesh_.dialled(c, s_.w.now(), out); }); });
}
void process::on_dial_failed(connection c, bool is_refused) {
  post(source::net, [this, c, is_refused] { with_mesh([&](auto& out) { mesh_.dial_failed(c, is_refused, s_.w.now(), out); }); });
}
void process::on_accepted(connection c) {
  post(source::net, [this, c] { with_mesh([&](auto& out) { mesh_.accepted(c, s_.w.now(), out); }); });
}
void process::on_broken(connection c) {
  post(source::net, [this, c] { with_mesh([&](auto& out) { mesh_.broken(c, s_.w.now(), out); }); });
}
void process::on_bytes(connection c, const std::string& bytes) {
  post(source::net, [this, c, bytes] { with_mesh([&](auto& out) { mesh_.received(c, bytes, s_.w.now(), out); }); });
}
void process::on_written(connection c) {
  post(source::net, [this, c] { with_mesh([&](auto& out) { mesh_.written(c, s_.w.now(), out); }); });
}

/// As the shell does, when the mesh says so.
void process::step_on() {
  auto at = mesh_.wanted_at();
  if (at == time_point::max() || std::exchange(is_stepping_, true))
    return;
  s_.w.after(std::max(at - s_.w.now(), base::duration{1ms}), [this, lives = lives_] {
    if (!*lives)
      return;
    is_stepping_ = false;
    if (!is_paused_)
      with_mesh([&](auto& out) { mesh_.go_on(s_.w.now(), out); });
  });
}

void process::tick() {
  s_.w.after(250ms, [this, lives = lives_] {
    if (!*lives)
      return;
    if (!is_paused_) {
      with_mesh([&](auto& out) { mesh_.tick(s_.w.now(), out); });
      if (!*lives)
        return;
      tick_leases();
      check_waits();
      write_rows();
    }
    tick();
  });
}

void process::write_rows() {
  auto changes = mesh_.take_writes();
  if (changes.empty())
    return;
  s_.w.after(disk_.latency, [this, lives = lives_, changes = std::move(changes)] {
    if (!*lives)
      return; // it died with the write under way
    bool is_done = !disk_.is_full;
    for (const auto& c : changes) {
      if (!is_done)
        break;
      if (const auto* p = std::get_if<storage::put>(&c))
        disk_.rows[p->key] = p->value;
      else if (const auto* e = std::get_if<storage::erase>(&c))
        disk_.rows.erase(e->key);
      else if (const auto* r = std::get_if<storage::erase_range>(&c))
        disk_.rows.erase(disk_.rows.lower_bound(r->from), disk_.rows.lower_bound(r->until));
    }
    post(source::other, [this, is_done] { mesh_.written_to_disk(is_done); });
  });
}

void process::carry(cluster::effects&& todo) {
  if (todo.reborn) {
    ++s_.seen.rebirths;
    last_missing_ = s_.w.now(); // somebody has missed us
    s_.seen.losses.push_back(s_.w.now());
    s_.w.trace("node%zu takes a new life %llx", index_, static_cast<unsigned long long>(*todo.reborn));
    cluster::lease_effects out;
    leases_.reborn(*todo.reborn, s_.w.now(), out);
    carry(std::move(out));
  }
  for (auto& e : todo.net) {
    if (auto* d = std::get_if<cluster::effects::dial>(&e))
      s_.w.trace("node%zu dials %s", index_, d->address.c_str()), s_.net.dial(index_, d->c, d->address);
    else if (auto* w = std::get_if<cluster::effects::write>(&e))
      s_.net.write(index_, w->c, std::move(w->bytes));
    else if (auto* c = std::get_if<cluster::effects::close>(&e))
      s_.net.close(index_, c->c);
  }
  for (const auto& p : todo.peers) {
    constexpr const char* names[]{"known", "alive", "suspected", "dead", "left"};
    s_.w.trace("node%zu: %s is %s (life %llx)%s", index_, mesh_.members().at(p.peer).who.name.c_str(), names[static_cast<int>(p.state)],
               static_cast<unsigned long long>(p.life), p.is_process_gone ? ", its process is gone" : "");
    if (p.state == cluster::peer_state::dead || p.state == cluster::peer_state::left) {
      ++s_.seen.deaths;
      s_.seen.losses.push_back(s_.w.now());
      if (p.is_process_gone)
        leases_.process_gone(mesh_.members().at(p.peer).who.node, p.life);
    }
  }
  for (const auto& r : todo.refused)
    s_.w.trace("node%zu: %s, %s, reason %d (%llu frames malformed, %llu hostile, %llu for their rows)", index_, r.by_us ? "turned away" : "was turned away by",
               r.who.c_str(), static_cast<int>(r.why), static_cast<unsigned long long>(mesh_.count().malformed),
               static_cast<unsigned long long>(mesh_.count().hostile), static_cast<unsigned long long>(mesh_.rows().count().refused));
  for (const auto& r : todo.rows.appeared)
    on_appeared(*r.row.name);
  s_.seen.purged_rows += todo.rows.lost.size();
  for (const auto& r : todo.rows.conflicts)
    end_session(r.session, true, true);
  for (auto& e : todo.ended)
    if (e.what.what.what->completion)
      complete(e.what.what.what->completion, e.how);
  for (auto& p : todo.returned) {
    ++s_.seen.rerouted;
    if (p.what.what->completion)
      complete(p.what.what->completion, cluster::ending::abandoned);
  }
  for (auto& a : todo.arrived)
    arrived(std::move(a));
}

void process::leave() {
  is_leaving_ = true;
  s_.w.trace("node%zu leaves", index_);
  while (!sessions_.empty())
    end_session(sessions_.begin()->first, true, false);
  give_leases_back();
  with_mesh([&](auto& out) { mesh_.leave(s_.w.now(), out); });
}

void process::drain() {
  s_.w.trace("node%zu drains", index_);
  give_leases_back();
  with_mesh([&](auto& out) { mesh_.drain(s_.w.now(), out); });
}

} // namespace sim
