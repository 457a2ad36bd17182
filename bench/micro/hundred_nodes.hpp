// The nodes of hundred_nodes.cpp: three as they are, and models of the others.
#pragma once
#include "bench/micro/hundred_nodes_world.hpp"
#include "cluster/codec.hpp"
#include <map>

namespace hundred {

/// How long the changes of others took until this node's look-ups showed them.
inline std::vector<float> lags;

/// A node as it is, but for its reactors and its transport.
struct real final : machine {
  using job_function = std::function<void(mesh&, time_point, effects&)>;
  struct job {
    call what;
    job_function f;
    std::function<void()> then = {}; // not this node's CPU
    time_point came = vt.now;
  };
  table rows;
  base::seeded_random own_luck{index + 1};
  std::unique_ptr<cluster::mesh> mesh;
  effects out;
  std::deque<job> inbox;
  bool is_running = false, has_tick = false, has_step = false, is_writing = false;
  time_point last_step{};
  std::map<connection, std::shared_ptr<wire>> wires;
  connection last_accepted = 0;
  std::vector<peer_number> numbers; // by machine

  meter calls[static_cast<std::size_t>(call::count)];
  mesh_counters before;
  replica::counters rows_before;
  std::uint64_t disk_writes = 0, news_steps = 0, news_rows = 0, arrived = 0, refused = 0, reborn = 0, ended = 0, suspicions = 0, deaths = 0;
  ns longest{}, cpu{};
  void reset() {
    std::fill(std::begin(calls), std::end(calls), meter{});
    before = mesh->count();
    rows_before = mesh->rows().count();
    disk_writes = news_steps = news_rows = arrived = refused = reborn = ended = suspicions = deaths = 0;
    longest = cpu = {};
  }

  /// With the rows of all others as its disk has them, or with its own alone. The CPU that the disk's took.
  ns prepare(bool has_disk) {
    mesh_options o;
    o.members.seeds = {machines[0]->address(), machines[real_count]->address()};
    if (!given.gathers)
      o.pace.burst = o.pace.frames = 1e12, o.pace.answers = o.pace.apart = {};
    mesh = std::make_unique<cluster::mesh>(me(life{1} << 20), 7'000 + index, o, rows, own_luck);
    effects nobody;
    for (std::uint64_t n = 0; n < own.count; ++n)
      mesh->publish(make_row(own.first + n, own.id(n), first_clock + n, 0), vt.now, nobody);
    ns used{};
    for (auto& m : machines)
      for (std::uint64_t n = 0; has_disk && m.get() != this && n < m->own.count; ++n) {
        auto r = disk_row(m->node(), make_row(m->own.first + n, m->own.id(n), first_clock + n, 0));
        auto began = thread_cpu();
        if (!mesh->load(r))
          give_up("a row of the disk is not taken");
        used += thread_cpu() - began - cpu_of_asking;
      }
    reset();
    return used;
  }
  void start() {
    is_up = true;
    post(call::other, [](auto& m, auto now, auto& out) { m.start(now, out); });
    tick();
  }
  void tick() {
    vt.after(250ms, [this] {
      if (!std::exchange(has_tick, true)) {
        post_first(call::tick, [this](auto& m, auto now, auto& out) { has_tick = false; m.tick(now, out); });
      }
      tick();
    });
  }
  /// Before what waits, as the shell does with ticks and what the disk says.
  void post_first(call what, job_function f) {
    inbox.push_front({what, std::move(f)});
    wake();
  }
  void post(call what, job_function f, std::function<void()> then = {}) {
    inbox.push_back({what, std::move(f), std::move(then)});
    wake();
  }
  void wake() {
    if (!std::exchange(is_running, true))
      vt.after(0ns, [this] { run(); });
  }
  void run() {
    auto oldest = vt.now;
    for (std::size_t i = 0; i < std::min<std::size_t>(inbox.size(), 4); ++i) // what was put first is young
      oldest = std::min(oldest, inbox[i].came);
    mesh->behind(vt.now - oldest);
    auto j = std::move(inbox.front());
    inbox.pop_front();
    auto began = thread_cpu();
    j.f(*mesh, vt.now, out);
    mesh->flush(vt.now, out);
    auto used = std::max(thread_cpu() - began - cpu_of_asking, ns{1});
    calls[static_cast<std::size_t>(j.what)].add(used);
    cpu += used;
    longest = std::max(longest, used);
    if (j.then)
      j.then();
    auto then = vt.now + used;
    vt.at(then, [this] {
      if (inbox.empty())
        is_running = false;
      else
        run();
    });
    carry(then);
  }
  void carry(time_point t) {
    for (auto& e : std::exchange(out.net, {}))
      std::visit([&](auto& one) { carry(one, t); }, e);
    std::map<peer_number, credit> done;
    for (auto& a : std::exchange(out.arrived, {})) {
      ++arrived;
      if (a.what.needs_credit) {
        ++done[a.from].stanzas;
        done[a.from].bytes += cost(a.what);
      }
      if (a.what.has_completion)
        vt.at(t + given.ack, [this, from = a.from, id = a.what.what.what->completion] {
          post(call::settle, [from, id](auto& m, auto now, auto& out) { m.complete(from, id, ending::acknowledged, now, out); });
        });
    }
    for (auto& [from, c] : done)
      vt.at(t + given.turn, [this, f = from, all = c] {
        post(call::settle, [f, all](auto& m, auto now, auto& out) { m.handled(f, all.stanzas, all.bytes, now, out); });
      });
    ended += out.ended.size();
    if (auto n = out.rows.lost.size() + out.rows.returned.size()) {
      news_rows += n;
      news_steps += !out.rows.lost.empty() + !out.rows.returned.empty();
    }
    reborn += out.reborn.has_value();
    for (auto& e : out.peers) {
      suspicions += e.state == peer_state::suspected;
      deaths += e.state == peer_state::dead;
    }
    refused += out.refused.size();
    out.clear();
    if (!is_writing)
      write(t);
    go_on(t);
  }
  /// As the shell does, once in 10 ms of jobs or when none waits.
  void go_on(time_point t) {
    auto at = mesh->wanted_at();
    if (at == time_point::max() || std::exchange(has_step, true))
      return;
    vt.at(std::max({at, t, last_step + (inbox.empty() ? 0ms : 10ms)}), [this] {
      post_first(call::step, [this](auto& m, auto now, auto& out) { has_step = false; last_step = now; m.go_on(now, out); });
    });
  }
  /// As the shell does after each round.
  void write(time_point t) {
    auto began = thread_cpu();
    auto batch = mesh->take_writes();
    if (batch.empty())
      return;
    auto used = std::max(thread_cpu() - began - cpu_of_asking, ns{1});
    calls[static_cast<std::size_t>(call::disk)].add(used);
    cpu += used;
    is_writing = true;
    disk_writes += batch.size();
    vt.at(t + ns{static_cast<std::int64_t>(static_cast<double>(batch.size()) / given.disk_rows * 1e9)}, [this] {
      is_writing = false;
      post_first(call::disk, [](auto& m, auto, auto&) { m.written_to_disk(true); });
    });
  }
  void carry(effects::dial& e, time_point t) {
    auto found = std::find_if(machines.begin(), machines.end(), [&](auto& m) { return m->address() == e.address; });
    if (found == machines.end())
      give_up("a stranger's address: " + e.address);
    vt.at(t + 2 * given.latency, [this, &other = **found, c = e.c] {
      if (!can_hear(*this, other))
        return; // its own limit ends it
      if (!other.is_up)
        return post(call::other, [c](auto& m, auto now, auto& out) { m.dial_failed(c, true, now, out); });
      auto w = std::make_shared<wire>();
      w->end[0] = this;
      w->end[1] = &other;
      w->c[0] = c;
      wires[c] = w;
      other.on_accepted(w);
      post(call::other, [c](auto& m, auto now, auto& out) { m.dialled(c, now, out); });
    });
  }
  void carry(effects::write& e, time_point t) {
    if (auto i = wires.find(e.c); i != wires.end())
      i->second->send(*this, std::move(e.bytes), t);
  }
  void carry(effects::close& e, time_point t) {
    if (auto i = wires.find(e.c); i != wires.end()) {
      i->second->close(*this, t);
      wires.erase(i);
    }
  }
  void on_accepted(const std::shared_ptr<wire>& w) override {
    auto c = w->c[w->at(*this)] = ++last_accepted;
    wires[c] = w;
    post(call::other, [c](auto& m, auto now, auto& out) { m.accepted(c, now, out); });
  }
  void on_bytes(const std::shared_ptr<wire>& w, std::string bytes) override;
  void on_written(const std::shared_ptr<wire>& w) override {
    post(call::written, [c = w->c[w->at(*this)]](auto& m, auto now, auto& out) { m.written(c, now, out); });
  }
  void on_broken(const std::shared_ptr<wire>& w) override {
    auto c = w->c[w->at(*this)];
    wires.erase(c);
    post(call::other, [c](auto& m, auto now, auto& out) { m.broken(c, now, out); });
  }

  peer_number number_of(const machine& m) {
    numbers.resize(machines.size());
    auto& n = numbers[m.index];
    const auto& all = mesh->members().peers();
    for (std::size_t i = 1; n == self && i < all.size(); ++i)
      if (all[i].who.node == m.node())
        n = static_cast<peer_number>(i);
    return n;
  }
  [[nodiscard]] bool has_all_of(const machine& m) {
    auto n = number_of(m);
    return n != self && mesh->members().at(n).state == peer_state::alive && mesh->rows().is_synced(n) && rows.size(n) == m.own.count;
  }
  void change() {
    auto publish = [this](const row& r) { post(call::publish, [r](auto& m, auto now, auto& out) { m.publish(r, now, out); }); };
    auto withdraw = [this](const row& r) { post(call::publish, [r](auto& m, auto now, auto& out) { m.withdraw(r, now, out); }); };
    own.next(mesh->next_clock(vt.wall()), publish, withdraw);
  }
  void send_to(const machine& other) {
    auto p = std::make_shared<parcel>(make_stanza(*this, other));
    post(call::send, [this, n = number_of(other), p](auto& m, auto now, auto& out) {
      if (m.send(n, std::move(*p), now, out) == base::room::full)
        ++refused;
    });
  }
};

inline real& node_at(std::size_t i) { return static_cast<real&>(*machines[i]); }

/// A model: the sending half of a replica with its own rows, and a link to each real node. It takes no CPU in virtual time.
struct model final : machine {
  struct pair {
    std::shared_ptr<wire> connection;
    std::unique_ptr<cluster::link> stanzas;
    std::uint64_t applied = 0, told = 0;
    std::uint32_t parts_left = 0;
    life dead_life = 0;
    time_point spoken{}, gossiped{};
    bool has_rows = true; // that node's; else it asks for all
    bool is_dirty = false, is_in_flight = false, wants_start = false;
  };
  table rows;
  std::unique_ptr<replica> sender;
  news nobody;
  life own_life = life{1} << 20;
  pair pairs[real_count];
  double room = 0; // as mesh has it: its three links' share
  time_point refilled{};
  bool is_gathering = false;
  std::size_t last_written = 0;
  std::deque<time_point> said; // when the changes were made that real node 0 has not shown
  std::uint64_t said_first = 1;

  void prepare() {
    sender = std::make_unique<replica>(rows, node());
    sender->begin(own_life);
    for (std::uint64_t n = 0; n < own.count; ++n)
      sender->publish(make_row(own.first + n, own.id(n), first_clock + n, 0), nobody);
    said_first = sender->sequence() + 1;
    is_up = true;
    tick();
  }
  static peer_number number(std::size_t r) { return static_cast<peer_number>(r + 1); }
  void tick() {
    vt.after(200ms + ns{luck.number() % 100'000'000}, [this] {
      if (!is_up)
        return;
      for (auto& p : pairs)
        p.is_dirty = p.is_dirty || vt.now - p.spoken >= 1s || vt.now - p.gossiped >= 3s;
      flush_all();
      tick();
    });
  }
  /// Others have declared it dead.
  void rise(life above) {
    own_life = std::max(own_life, above) + 1;
    sender->begin(own_life);
    said.clear();
    said_first = 1;
    for (auto& p : pairs)
      drop(p, true);
  }
  void drop(pair& p, bool closes) {
    if (!p.connection)
      return;
    auto w = std::exchange(p.connection, nullptr);
    sender->disconnected(number(static_cast<std::size_t>(&p - pairs)));
    if (closes)
      w->close(*this, vt.now);
  }
  void kill() {
    for (auto& p : pairs)
      drop(p, true);
    is_up = false;
  }
  void on_accepted(const std::shared_ptr<wire>&) override {}
  void on_broken(const std::shared_ptr<wire>& w) override {
    if (auto& p = pairs[w->end[0]->index]; p.connection == w)
      drop(p, false);
  }
  void on_written(const std::shared_ptr<wire>& w) override {
    if (auto& p = pairs[w->end[0]->index]; p.connection == w) {
      p.is_in_flight = false;
      flush(w->end[0]->index);
    }
  }
  void on_bytes(const std::shared_ptr<wire>& w, std::string bytes) override {
    w->read(*this);
    auto r = w->end[0]->index;
    auto& p = pairs[r];
    auto f = decode(bytes);
    if (!f)
      give_up("a real node sent what cannot be read");
    if (f->greeting)
      return on_greeting(w, p, *f->greeting);
    if (f->farewell || p.connection != w)
      return;
    if (f->sync_start) {
      p.parts_left = f->sync_start->buckets;
      p.applied = f->sync_start->applied;
    }
    if (f->changes)
      p.applied = f->changes->first + f->changes->items.size() - 1;
    for (const auto& part : f->sync_parts)
      p.parts_left -= part.is_last;
    p.has_rows = p.has_rows || p.parts_left == 0;
    frame mine; // what concerns its own rows
    mine.sync_request = f->sync_request;
    mine.applied = f->applied;
    if (sender->receive(number(r), mine, nobody) == replica::verdict::hostile)
      give_up("a real node asked for what there is not");
    link_news got;
    if (p.stanzas->receive(*f, got) == cluster::link::verdict::hostile)
      give_up("a real node's stanzas are out of order");
    credit done;
    for (auto& a : got.arrived) {
      ++done.stanzas;
      done.bytes += cost(a);
      if (a.has_completion)
        vt.after(given.ack, [this, r, n = a.what.what->completion.session] {
          pairs[r].stanzas->complete(n, ending::acknowledged);
          dirty(r);
        });
    }
    if (done.stanzas)
      vt.after(given.turn, [this, r, done] {
        pairs[r].stanzas->handled(done.stanzas, done.bytes);
        dirty(r);
      });
    dirty(r);
  }
  void on_greeting(const std::shared_ptr<wire>& w, pair& p, const greeting& g) {
    auto r = w->end[0]->index;
    if (g.to == node() && g.your_dead_life >= own_life) {
      rise(g.your_dead_life);
      return w->close(*this, vt.now);
    }
    drop(p, true);
    if (p.stanzas && p.stanzas->name() == g.link)
      p.stanzas->resume(g.taken, g.completions_taken);
    else
      p.stanzas = std::make_unique<cluster::link>(luck.number() | 1, static_cast<std::uint32_t>(luck.number()));
    p.connection = w;
    p.applied = p.told = 0;
    p.parts_left = table::bucket_count; // until it is told
    p.is_in_flight = true;
    p.spoken = p.gossiped = {};
    frame f;
    f.greeting = greeting{};
    auto& a = *f.greeting;
    a.cluster = "covey";
    a.self = me(own_life);
    a.process = 7'000 + index;
    a.to = g.self.node;
    a.your_dead_life = p.dead_life;
    a.link = p.stanzas->name();
    a.taken = p.stanzas->taken();
    a.completions_taken = p.stanzas->completions_taken();
    a.profile = xmpp::jid_profile_version;
    a.is_answer = true;
    w->send(*this, encode(f), vt.now);
    sender->connected(number(r), g.self.node, g.self.life, nobody);
  }
  static life life_of(machine& m) {
    return m.index < real_count ? node_at(m.index).mesh->members().own().life : static_cast<model&>(m).own_life;
  }
  static std::vector<std::uint64_t> digests_of(std::size_t r, bool has_rows) {
    std::vector<std::uint64_t> all(table::bucket_count);
    for (std::uint32_t b = 0; has_rows && b < all.size(); ++b)
      all[b] = node_at(r).rows.digest(self, b);
    return all;
  }
  void dirty(std::size_t r) {
    pairs[r].is_dirty = true;
    flush(r);
  }
  void flush_all() {
    for (std::size_t r = 0; r < real_count; ++r)
      flush(r);
  }
  bool may_write() {
    if (!given.gathers)
      return true;
    pace_options o;
    auto share = static_cast<double>(real_count) / (static_cast<double>(given.nodes) - 1);
    auto a_second = std::max(o.frames, o.of_peer * (static_cast<double>(given.nodes) - 1)) * share;
    room = std::min(o.burst * share, room + a_second * seconds(vt.now - refilled));
    refilled = vt.now;
    if (room >= 1)
      return true;
    is_gathering = true;
    vt.after(std::max<base::duration>(o.turn, ns{static_cast<std::int64_t>(1e9 / a_second)}), [this] {
      is_gathering = false;
      for (std::size_t i = 0; i < real_count && !is_gathering; ++i) {
        auto next = (last_written + 1) % real_count;
        flush(next);
        if (!is_gathering)
          last_written = next;
      }
    });
    return false;
  }
  /// As mesh::flush().
  void flush(std::size_t r) {
    auto& p = pairs[r];
    if (!p.is_dirty || !p.connection || p.is_in_flight)
      return;
    if (is_gathering || !may_write())
      return;
    p.is_dirty = false;
    frame f;
    sender->fill(number(r), f, vt.now);
    if (f.sync_request) // its table of that node's rows is that node's own, or empty
      f.sync_request->digests = digests_of(r, p.has_rows);
    p.stanzas->fill(f, false);
    if (p.told != p.applied && p.parts_left == 0)
      f.applied = p.told = p.applied;
    if (vt.now - p.gossiped >= 3s) {
      p.gossiped = vt.now;
      for (auto& m : machines)
        if (m.get() != this && m->is_up && can_hear(*this, *m))
          f.members.push_back(m->me(life_of(*m)));
    }
    if (vt.now - p.spoken >= 1s) {
      p.spoken = vt.now;
      f.heartbeat = heartbeat{};
    }
    if (f.is_empty())
      return;
    p.is_in_flight = true;
    --room;
    p.connection->send(*this, encode(f), vt.now);
  }
  void change() {
    auto publish = [this](const row& r) { sender->publish(r, nobody); };
    own.next(sender->next_clock(vt.wall()), publish, [this](const row& r) { sender->withdraw(r); });
    nobody = {};
    while (said_first + said.size() <= sender->sequence())
      said.push_back(vt.now);
    for (auto& p : pairs)
      p.is_dirty = true;
    flush_all();
  }
  void send_to(std::size_t r) {
    if (pairs[r].stanzas && pairs[r].connection)
      (void)pairs[r].stanzas->send(make_stanza(*this, *machines[r]));
    dirty(r);
  }
};

inline model& model_at(std::size_t i) { return static_cast<model&>(*machines[i]); }

inline void real::on_bytes(const std::shared_ptr<wire>& w, std::string bytes) {
  auto take = [c = w->c[w->at(*this)], b = std::move(bytes)](auto& m, auto now, auto& out) { m.received(c, b, now, out); };
  post(call::receive, std::move(take), [this, w] {
    w->read(*this);
    auto& from = *w->end[1 - w->at(*this)];
    if (index != 0 || from.index < real_count)
      return;
    auto& x = static_cast<model&>(from);
    for (auto shown = mesh->rows().applied(number_of(x)); !x.said.empty() && x.said_first <= shown; ++x.said_first, x.said.pop_front())
      lags.push_back(static_cast<float>(seconds(vt.now - x.said.front()) * 1e3));
  });
}

} // namespace hundred
