// One process: how it is put together, when its threads run, and how it ends.
#include "tests/sim_nodes/server.hpp"
#include "actors/connection.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"
#include "tests/sim_nodes/client.hpp"
#include "tests/sim_nodes/transport.hpp"
#include "tests/support/shared_engine.hpp"
#include "tests/support/stubs.hpp"
#include <algorithm>

namespace sim_nodes {

/// What a server has from its configuration and its pools.
struct stubs {
  actors::testing::any_password credentials;
  actors::testing::no_accounts people;
  struct own_settings final : modules::settings {
    std::int64_t number(std::string_view key) const override {
      return key == "keep" ? std::chrono::milliseconds{24h}.count() : key.ends_with("size") ? 16 << 20 : 1'000;
    }
    bool flag(std::string_view) const override { return false; }
    std::string text(std::string_view) const override { return {}; }
    std::vector<std::string> list(std::string_view) const override { return {}; }
  } settings;
  modules::services services;
  stubs(const base::clock& c, base::random& r) : services{people, c, r, {1, 2}} {}
};

namespace {
cluster::mesh_options mesh_options(std::vector<std::string> seeds, bool is_small) {
  cluster::mesh_options o;
  o.members.cluster = domain;
  o.members.seeds = std::move(seeds);
  if (is_small) {
    o.rows.most_log = 200;
    o.rows.frame_bytes = 2'000;
    o.rows.most_unwritten = 64;
    o.rows.purge_slice = 4;
    o.stanzas.window_stanzas = 32;
    o.stanzas.window_bytes = 16 * 1024;
  }
  return o;
}

actors::node_settings node_settings(const server_options& o) {
  actors::node_settings s;
  s.entity_idle = o.entity_idle;
  s.ack_timeout = o.ack_timeout;
  return s;
}
} // namespace

server::server(surroundings s, std::size_t index, const std::string& address, std::vector<std::string> seeds, folder& of, std::uint64_t salt, const server_options& o)
  : s_(s), index_(index), folder_(of), options_(o), clock_(s.w), random_(salt), luck_(salt ^ 0x7468726561647321),
    stubs_(std::make_unique<stubs>(clock_, random_)),
    store_(std::make_unique<node_store>(s.shared, index, [this](std::function<void()> f) { post(std::move(f)); })),
    disk_(std::make_unique<storage::inline_store>(std::make_unique<actors::testing::shared_engine>(of.rows))),
    node_(std::make_unique<actors::node>(node_settings(o), clock_, random_)) {
  for (std::size_t n = 0; n < o.homes; ++n) {
    auto& l = *loops_.emplace_back(std::make_unique<net::loop>(net::loop::time::manual));
    l.jump(s_.w.now());
    auto& h = *homes_.emplace_back(std::make_unique<actors::home>(*node_, static_cast<std::uint16_t>(n), l));
    l.at_end_of_turn([&h] { return h.end_of_turn(); });
  }
  node_->set_resumption_key({3, 4});
  cluster::member own{of.node, of.boots << cluster::process_shift, name(), address, static_cast<std::uint16_t>(o.homes)};
  peers_ = std::make_unique<actors::peers>(*node_, own, mesh_options(std::move(seeds), o.is_small), disk_.get(), [this] { return clock_.now(); });
  node_->set_peers(peers_.get(), of.node << 1);
  make_host();
  auto ok = peers_->start_stepped([this, address](cluster::wire::post_function post, cluster::wire::transport_events& events)
                                    -> base::result<std::unique_ptr<cluster::wire::transport>, std::string> {
    auto later = [this, post = std::move(post)](std::function<void()> f) {
      post(std::move(f));
      wake();
    };
    auto made = std::make_unique<sim_transport>(s_.w, s_.net, s_.seen, index_, address, std::move(later), events);
    transport_ = made.get();
    return std::unique_ptr<cluster::wire::transport>{std::move(made)};
  });
  assert(ok);
  (void)ok;
  tick();
}

void server::make_host() {
  auto h = std::make_shared<actors::host>();
  h->view.domain = *xmpp::parse_jid(domain);
  h->view.admins = {std::string{"user0@"} + domain};
  h->store = store_.get();
  h->is_shared = true;
  h->credentials = &stubs_->credentials;
  h->management.window = options_.window;
  watch_storing(h->view);
  for (auto& m : modules_) {
    if (!m->is_on_by_default())
      continue;
    modules::registrar reg{h->view, std::string{m->name()}, stubs_->settings, stubs_->services};
    m->start(reg);
  }
  h->stream.domain = domain;
  h->stream.has_tls = h->stream.require_tls = false;
  h->stream.plain_without_tls = h->stream.stream_management = true;
  h->stream.mechanisms = {xmpp::sasl::mechanism_kind::plain};
  node_->put_host(std::move(h));
}

/// For the checker, which judges the order of what was stored because nobody was there.
void server::watch_storing(modules::host_view& v) {
  auto note = [this](const xmpp::delivery& d, bool is_first) {
    auto id = d.what->id();
    auto number = id.starts_with('m') ? number_in(id.substr(1)) : 0;
    if (number && number < s_.seen.messages.size())
      (is_first && !d.is_again ? s_.seen.messages[number].is_kept : s_.seen.messages[number].is_kept_again) = true;
    return modules::verdict::pass();
  };
  v.undelivered.add(modules::stage::access, "test", [note](modules::message_undelivered& ev) { return note(ev.what, true); });
  v.unacknowledged.add(modules::stage::access, "test", [note](modules::message_unacknowledged& ev) { return note(ev.what, false); });
}

server::~server() {
  *lives_ = false;
  for (auto& [number, p] : pipes_)
    p->socket = nullptr;
  pipes_.clear();
  inbox_.clear();
  store_ = nullptr;
  peers_ = nullptr; // its transport unplugs itself, if that has not been done
  homes_.clear();
  loops_.clear();
}

// --- its threads

void server::post(std::function<void()> f) {
  if (is_paused_) {
    inbox_.push_back(std::move(f));
    return;
  }
  f();
  wake();
}

/// Something may have to be done. In a moment, as a thread is not woken at once.
void server::wake() {
  quiet_rounds_ = 0;
  if (is_paused_ || std::exchange(is_awake_, true))
    return;
  s_.w.after(luck_.between(1us, 60us), [this, lives = lives_] {
    if (*lives)
      round();
  });
}

/// Each thread has perhaps a turn, in any order. Two rounds in which all of them had one and found nothing: all is done.
void server::round() {
  is_awake_ = false;
  if (is_paused_)
    return;
  auto units = homes_.size() + 1;
  auto first = luck_.below(units);
  bool worked = false, all = true;
  for (std::size_t k = 0; k < units; ++k) {
    if (luck_.in(4)) {
      all = false;
      continue;
    }
    worked |= step((first + k) % units);
  }
  if (worked)
    quiet_rounds_ = 0;
  else if (all)
    ++quiet_rounds_;
  if (quiet_rounds_ < 2) {
    auto before = quiet_rounds_;
    wake();
    quiet_rounds_ = before;
  }
}

bool server::step(std::size_t unit) {
  if (unit == homes_.size()) {
    peers_->step();
    auto others = peers_->alive().size();
    if (std::exchange(sees_, others) > others)
      s_.seen.given_up_nodes.push_back(s_.w.now());
    return false; // what it does is seen by who gets it
  }
  auto& l = *loops_[unit];
  l.jump(s_.w.now());
  return l.step() > 0;
}

/// Timers.
void server::tick() {
  s_.w.after(10ms, [this, lives = lives_] {
    if (!*lives)
      return;
    if (!is_paused_) {
      bool worked = false;
      for (std::size_t n = 0; n < homes_.size(); ++n)
        worked |= step(n);
      if (worked || s_.w.now().time_since_epoch() / 10ms % 25 == 0)
        wake();
    }
    tick();
  });
}

void server::pause() {
  s_.w.trace("%s is stopped for a while", name().c_str());
  is_paused_ = true;
}

void server::go_on() {
  s_.w.trace("%s goes on", name().c_str());
  is_paused_ = false;
  for (auto& f : std::exchange(inbox_, {}))
    post(std::move(f));
  wake();
}

// --- its end

void server::kill(bool resets) {
  transport_->unplug(resets);
  *lives_ = false;
}

void server::drain() {
  s_.w.trace("%s drains", name().c_str());
  node_->drain();
  peers_->drain();
  wake();
}

void server::stop(std::function<void()> then) {
  s_.w.trace("%s is told to stop", name().c_str());
  is_stopping_ = true;
  then_ = std::move(then);
  node_->drain();
  peers_->drain();
  for (auto& h : homes_)
    h->post_from_anywhere([](actors::home& at) {
      at.table().for_each([&](actors::light& l) {
        if (dynamic_cast<actors::stream*>(&l))
          at.post<actors::stream>(at.index(), l.id(), [](actors::stream& s) { s.close(xmpp::stream_errc::system_shutdown); });
      });
    });
  wake();
  constexpr int most_in_a_row = 20; // what an account has to do with the database, one behind the other
  stopped_since_ = s_.w.now();
  go_on_stopping(s_.w.now() + 30s + most_in_a_row * s_.shared.slowest);
}

void server::go_on_stopping(time_point until) {
  s_.w.after(20ms, [this, lives = lives_, until] {
    if (!*lives)
      return;
    constexpr auto to_move = 10s;
    auto now = s_.w.now();
    if (is_paused_) { // the time in which it stood still is not its own
      stopped_since_ += 20ms;
      return go_on_stopping(until + 20ms);
    }
    if (node_->session_count() > 0 && peers_->has_successor() && now < stopped_since_ + to_move)
      return go_on_stopping(until);
    for (auto& h : homes_)
      h->post_from_anywhere(actors::end_detached_sessions);
    wake();
    bool is_over = node_->session_count() == 0 && node_->operations.load() == 0 && node_->registry().is_quiet();
    if (!is_over && now < until)
      return go_on_stopping(until);
    if (!is_over)
      s_.seen.violate(s_.w, "%s could not stop in time: %zu sessions, %lld operations", name().c_str(), node_->session_count(),
                      static_cast<long long>(node_->operations.load()));
    if (!std::exchange(has_left_, true)) {
      peers_->leave();
      s_.w.after(50ms, [this, l = lives_] {
        if (*l)
          std::exchange(then_, nullptr)(); // this is gone behind it
      });
    }
  });
}

std::size_t server::actor_count() const {
  std::size_t n = 0;
  for (auto& h : homes_)
    n += h->table().size();
  return n;
}

// --- connections of clients

void server::accept(const pipe_ref& p) {
  p->number = ++last_pipe_;
  p->reactor = p->number % homes_.size();
  pipes_[p->number] = p;
  post([this, p] {
    if (!pipes_.contains(p->number))
      return;
    auto& h = *homes_[p->reactor];
    loops_[p->reactor]->jump(s_.w.now());
    h.as_current([&] {
      auto& c = h.make<actors::connection>(net::tcp_socket{h.loop().io()}, actors::entrance{false, false, false}, net::address_counter::place{});
      auto& above = h.make<actors::stream>(c);
      above.start();
      c.start(above);
      p->socket = &c.socket();
      p->socket->connect(*this, p->number);
      if (p->slow)
        p->socket->take(p->slow);
    });
  });
}

void server::take(const pipe_ref& p, std::string bytes, std::function<void()> when_read) {
  post([this, p, bytes = std::move(bytes), when_read = std::move(when_read)]() mutable {
    if (!p->socket)
      return;
    loops_[p->reactor]->jump(s_.w.now());
    p->unread_by_server.push_back({bytes.size(), std::move(when_read)});
    p->socket->arrive(bytes);
  });
}

void server::was_read(std::uint32_t number, std::size_t bytes) {
  auto i = pipes_.find(number);
  if (i == pipes_.end())
    return;
  for (auto& all = i->second->unread_by_server; bytes > 0 && !all.empty();) {
    auto n = std::min(bytes, all.front().bytes);
    bytes -= n;
    if ((all.front().bytes -= n) > 0)
      continue;
    s_.w.after(0ns, std::move(all.front().when_read)); // once what was read has been handled
    all.pop_front();
  }
}

void server::on_far_end_gone(const pipe_ref& p, bool is_reset) {
  post([p, is_reset] {
    if (p->socket)
      p->socket->end(is_reset ? net::error_code{net::asio::error::connection_reset} : net::error_code{net::asio::error::eof});
  });
}

void server::take_writes(const pipe_ref& p, std::size_t bytes) {
  post([p, bytes] {
    if (p->socket)
      p->socket->take(bytes);
  });
}

void server::received(std::uint32_t number, std::string_view bytes) {
  auto i = pipes_.find(number);
  if (i == pipes_.end() || i->second->is_cut)
    return;
  auto p = i->second;
  p->last_down = std::max(p->last_down + 1ns, s_.w.now() + s_.w.luck.between(p->delay / 10, p->delay));
  s_.w.at(p->last_down, [p, text = std::string{bytes}] {
    if (p->user && !p->is_cut)
      p->user->on_bytes(p->stream, text);
  });
}

void server::closed(std::uint32_t number) {
  auto i = pipes_.find(number);
  if (i == pipes_.end())
    return;
  auto p = i->second;
  pipes_.erase(i);
  p->socket = nullptr;
  p->last_down = std::max(p->last_down + 1ns, s_.w.now() + s_.w.luck.between(p->delay / 10, p->delay));
  s_.w.at(p->last_down, [p] {
    if (p->user && !p->is_cut)
      p->user->on_gone(p->stream);
  });
}

} // namespace sim_nodes
