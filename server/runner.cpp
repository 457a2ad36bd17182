// The one place that names every concrete type.
#include "server/runner.hpp"
#include "actors/client.hpp"
#include "actors/connection.hpp"
#include "actors/pool.hpp"
#include "actors/reactor.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"
#include "actors/entity.hpp"
#include "net/listener.hpp"
#include "server/certificates.hpp"
#include "server/host_builder.hpp"
#include "storage/memory/engine.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/tables.hpp"
#include <algorithm>
#include <future>
#include <sys/resource.h>
#include <unistd.h>

namespace server {

namespace {
struct caf_config : caf::actor_system_config {
  caf_config() {
    set("scheduler.max-threads", std::size_t{1});      // our actors live on reactors
    set("scheduler.policy", caf::atom("sharing"));     // stealing would wake 100 times a second
  }
};

void raise_descriptor_limit() {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = l.rlim_max;
  setrlimit(RLIMIT_NOFILE, &l);
}
} // namespace

struct runner::parts {
  base::system_clock clock;
  base::secure_random random;
  caf_config caf;
  caf::actor_system system{caf};
  actors::node node;
  std::unique_ptr<actors::pool> hashing = std::make_unique<actors::pool>(
      2, 10'000, &base::metrics::make_gauge("covey_hashing_waiting", "Passwords that wait to be hashed."));
  std::map<std::string, host_base, std::less<>> hosts; // all that were ever served
  mutable std::shared_mutex hosts_mutex;
  /// Earlier generations: an answer of the storage or of a pool may still be on its way to their handlers.
  std::vector<std::pair<std::chrono::steady_clock::time_point, actors::host_ref>> retired;
  std::unique_ptr<storage::store> embedded; // RocksDB, one for all hosts of this node
  std::vector<std::unique_ptr<actors::reactor>> reactors;
  std::vector<std::unique_ptr<net::listener>> listeners;
  std::map<std::string, std::uint16_t> ports;
  std::atomic<std::size_t> next_reactor{0};
  base::metrics::counter* refused = &base::metrics::make_counter("covey_connections_refused_total", "Connections closed because their address had too many that did not log in.");

  explicit parts(const config& c) : node(c.node, clock, random) {}
};

runner::runner(config c) : config_(std::make_shared<const config>(std::move(c))), parts_(std::make_unique<parts>(*config_)) {}

runner::~runner() { stop(); }

actors::node& runner::node() { return parts_->node; }

std::shared_ptr<const config> runner::settings() const {
  std::lock_guard guard{config_mutex_};
  return config_;
}

stored_accounts* runner::accounts_of(std::string_view domain) {
  if (!parts_->node.find_host(domain))
    return nullptr;
  std::shared_lock guard{parts_->hosts_mutex};
  return parts_->hosts.find(domain)->second.accounts.get();
}

storage::store* runner::store_of(std::string_view domain) {
  std::shared_lock guard{parts_->hosts_mutex};
  auto i = parts_->hosts.find(domain);
  return i == parts_->hosts.end() ? parts_->embedded.get() : i->second.store;
}

std::uint16_t runner::port_of(const std::string& what) const {
  auto i = parts_->ports.find(what);
  return i == parts_->ports.end() ? 0 : i->second;
}

storage::store* runner::embedded_store() {
  std::shared_lock guard{parts_->hosts_mutex};
  return parts_->embedded.get();
}

base::result<void, std::string> runner::start() {
  raise_descriptor_limit();
  auto& p = *parts_;
  auto n = config_->reactors ? config_->reactors : std::max(1u, std::thread::hardware_concurrency());
  for (std::uint32_t i = 0; i < n; ++i)
    p.reactors.push_back(std::make_unique<actors::reactor>(p.system, p.node, static_cast<std::uint16_t>(i)));
  auto made = build(*config_);
  if (!made)
    return base::fail(made.error());
  p.node.certificates().replace(made->certificates);
  p.node.set_hosts(made->hosts);
  for (auto& r : p.reactors)
    r->start();
  if (auto ok = listen(); !ok)
    return ok;
  is_ready_ = true;
  return {};
}

base::result<runner::generation, std::string> runner::build(const config& c) {
  generation g;
  for (auto& h : c.hosts) {
    auto base = base_of(h);
    if (!base)
      return base::fail(base.error());
    bool has_tls = !h.certificate.empty();
    if (has_tls) {
      auto context = net::make_server_context(h.certificate, h.key);
      if (!context)
        return base::fail(context.error().file + ": " + context.error().text);
      g.certificates.emplace_back(h.domain, *context);
      if (auto name = ascii_name(h.domain); name != h.domain) // clients name a host as DNS has it
        g.certificates.emplace_back(name, *context);
    }
    g.hosts.push_back(build_host(h, c.iterations, has_tls, **base, parts_->node));
  }
  return g;
}

base::result<host_base*, std::string> runner::base_of(const host_config& h) {
  auto& p = *parts_;
  {
    std::shared_lock guard{p.hosts_mutex};
    if (auto i = p.hosts.find(h.domain); i != p.hosts.end())
      return &i->second;
  }
  host_base fresh;
  if (h.engine == "memory") {
    fresh.own_store = std::make_unique<storage::threaded_store>(std::make_unique<storage::memory_engine>());
    fresh.store = fresh.own_store.get();
  } else {
    if (!p.embedded) {
      auto engine = storage::open_rocksdb({settings()->data_folder + "/store"});
      if (!engine)
        return base::fail(engine.error());
      if (auto ok = storage::tables::check_schema(**engine); !ok)
        return base::fail(ok.error());
      std::lock_guard guard{p.hosts_mutex};
      p.embedded = std::make_unique<storage::threaded_store>(std::move(*engine));
    }
    fresh.store = p.embedded.get();
  }
  auto secret = [&](const char* name, std::size_t size) {
    std::string bytes(size, '\0');
    p.random.fill({reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()});
    return storage::tables::secret(fresh.store->blocking(), name, bytes);
  };
  auto fake = secret("fake-salt", 32), ids = secret("stanza-id", 16);
  if (!fake || !ids)
    return base::fail(std::string{"the secrets of the database cannot be read or written"});
  fresh.fake_secret = *fake;
  fresh.stanza_id_key = {base::get_be64(*ids), base::get_be64(std::string_view{*ids}.substr(8))};
  fresh.accounts = std::make_unique<stored_accounts>(*fresh.store, *p.hashing, p.node, p.random, h.domain, *fake, settings()->iterations);
  std::lock_guard guard{p.hosts_mutex};
  return &p.hosts.emplace(h.domain, std::move(fresh)).first->second;
}

base::result<void, std::string> runner::change(config next, const std::function<base::result<void, std::string>()>& just_before) {
  auto& p = *parts_;
  auto before = settings();
  keep_until_restart(next, *before);
  auto made = build(next);
  if (!made)
    return base::fail(made.error());
  if (just_before)
    if (auto ok = just_before(); !ok)
      return ok;
  // from here on nothing fails
  auto now = std::chrono::steady_clock::now();
  std::erase_if(p.retired, [&](auto& r) { return r.second.use_count() == 1 && now - r.first > std::chrono::minutes{1}; });
  auto old = p.node.hosts();
  for (auto& h : old)
    p.retired.emplace_back(now, h);
  p.node.certificates().replace(made->certificates);
  p.node.change(next.node);
  {
    std::shared_lock guard{p.hosts_mutex};
    for (auto& [domain, base] : p.hosts)
      base.accounts->set_iterations(next.iterations);
  }
  {
    std::lock_guard guard{config_mutex_};
    config_ = std::make_shared<const config>(std::move(next));
  }
  p.node.set_hosts(made->hosts);
  sweep({});
  for (auto& h : old) // those that are gone end in a few turns of their reactors
    if (std::string domain{h->view.domain->domain()}; !p.node.find_host(domain))
      wait_for_end(domain);
  return {};
}

void runner::keep_until_restart(config& next, const config& now) {
  next.data_folder = now.data_folder;
  next.run_folder = now.run_folder;
  next.reactors = now.reactors;
  next.c2s = now.c2s;
  next.c2s_direct = now.c2s_direct;
  next.http = now.http;
  for (auto& h : next.hosts)
    for (auto& old : now.hosts)
      if (old.domain == h.domain)
        h.engine = old.engine;
}

/// `f(home&)` on each reactor; blocks until all have answered, and adds up. Not for a reactor's thread.
template <class Sum, class F>
Sum runner::ask_reactors(F f) {
  struct gathering {
    std::mutex mutex;
    Sum sum{};
    std::promise<Sum> told;
    ~gathering() { told.set_value(std::move(sum)); } // the last reactor has answered
  };
  auto all = std::make_shared<gathering>();
  auto answer = all->told.get_future();
  for (auto& r : parts_->reactors)
    r->lights().post_from_anywhere([all, f](actors::home& h) {
      auto mine = f(h);
      std::lock_guard guard{all->mutex};
      all->sum += mine;
    });
  all = nullptr;
  return answer.get();
}

std::size_t runner::sweep(const std::string& counted) {
  return ask_reactors<std::size_t>([counted](actors::home& h) {
    std::size_t left = 0;
    std::vector<actors::light_id> entities, sessions, streams;
    auto is_old = [&](const actors::host_ref& host, bool only_gone) {
      auto now = h.around().find_host(host->view.domain->domain());
      return only_gone ? !now : now != host;
    };
    auto count = [&](const actors::host_ref& host) { left += host->view.domain->domain() == counted ? 1 : 0; };
    h.table().for_each([&](actors::light& l) {
      if (auto* e = dynamic_cast<actors::entity*>(&l); e && is_old(e->at_host(), false)) {
        entities.push_back(e->id());
        count(e->at_host());
      } else if (auto* s = dynamic_cast<actors::session*>(&l); s && is_old(s->at_host(), true)) {
        sessions.push_back(s->id());
        count(s->at_host());
      } else if (auto* f = dynamic_cast<actors::stream*>(&l); f && f->host() && is_old(f->host(), true)) {
        streams.push_back(f->id()); // not counted: it reaches nobody, and may wait for its client's goodbye
      }
    });
    for (auto id : entities)
      (void)h.find<actors::entity>(id)->end_if_idle();
    for (auto id : sessions)
      h.guard(id, [&] { h.find<actors::session>(id)->close(xmpp::stream_errc::host_gone, "this server does not serve this host any more"); });
    for (auto id : streams)
      h.guard(id, [&] { h.find<actors::stream>(id)->close(xmpp::stream_errc::host_gone); });
    return left;
  });
}

void runner::wait_for_end(const std::string& domain) {
  constexpr auto longest = std::chrono::seconds{10}; // a commit may hang in a full disk
  auto until = std::chrono::steady_clock::now() + longest;
  while (sweep(domain) > 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
}

base::result<void, std::string> runner::erase_rows(const std::string& domain) {
  wait_for_end(domain);
  auto* store = store_of(domain);
  if (!store)
    return {};
  storage::batch b;
  b.changes = storage::tables::erase_host(domain);
  std::promise<storage::outcome> done;
  store->submit(std::move(b), [&](storage::outcome o) { done.set_value(o); });
  if (done.get_future().get() != storage::outcome::done)
    return base::fail("the rows of " + domain + " could not be erased: try again");
  return {};
}

/// Called on the first reactor, which accepts for all.
void runner::on_accepted(int fd, bool is_v6, bool is_direct) {
  auto& p = *parts_;
  auto key = net::peer_key(fd);
  auto place = key ? p.node.strangers().enter(*key) : std::nullopt;
  if (!place) { // too many strangers from there, or it is gone again
    p.refused->add();
    ::close(fd);
    return;
  }
  auto& to = *p.reactors[p.next_reactor.fetch_add(1, std::memory_order_relaxed) % p.reactors.size()];
  to.lights().post_from_anywhere([&to, fd, is_v6, is_direct, place = std::move(*place)](actors::home& h) mutable {
    auto& c = h.make<actors::connection>(net::adopt(h.loop(), fd, is_v6), actors::entrance{is_direct}, std::move(place));
    auto& s = h.make<actors::stream>(c);
    s.set_client(actors::spawn_client(to, s.id()));
    s.start();
    c.start(s);
  });
}

base::result<void, std::string> runner::listen() {
  auto& p = *parts_;
  auto& loop = p.reactors.front()->loop();
  std::string failed;
  // listeners belong to their loop's thread
  std::mutex mutex;
  std::condition_variable done;
  bool is_done = false;
  loop.post([&] {
    auto open = [&](const std::vector<listen_at>& all, const char* what, bool is_direct) {
      for (auto& at : all) {
        auto l = net::listener::open(loop, at.address, at.port, [this, is_direct](int fd, bool is_v6) { on_accepted(fd, is_v6, is_direct); });
        if (!l) {
          failed += (failed.empty() ? "" : "\n") + std::string{what} + ": " + l.error().address + " port " + std::to_string(l.error().port) + ": " + l.error().text;
          continue;
        }
        p.ports.emplace(what, (*l)->port());
        p.listeners.push_back(std::move(*l));
      }
    };
    open(config_->c2s, "c2s", false);
    if (!p.node.certificates().is_empty())
      open(config_->c2s_direct, "c2s_direct", true);
    std::lock_guard guard{mutex};
    is_done = true;
    done.notify_one();
  });
  std::unique_lock guard{mutex};
  done.wait(guard, [&] { return is_done; });
  if (!failed.empty())
    return base::fail(failed);
  return {};
}

void runner::stop() {
  if (!parts_)
    return;
  auto& p = *parts_;
  is_ready_ = false;
  p.node.drain();
  if (!p.listeners.empty()) {
    std::mutex mutex;
    std::condition_variable done;
    bool is_done = false;
    p.reactors.front()->loop().post([&] {
      p.listeners.clear();
      std::lock_guard guard{mutex};
      is_done = true;
      done.notify_one();
    });
    std::unique_lock guard{mutex};
    done.wait(guard, [&] { return is_done; });
  }
  for (auto& r : p.reactors)
    r->end_all(); // every client closes its stream; it is gone when its connection is
  auto until = std::chrono::steady_clock::now() + p.node.settings().drain_timeout;
  auto count = [&] {
    return p.node.registry().session_count();
  };
  while (count() > 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  // what sessions left behind is still being stored: wait until no entity has anything under way
  auto has_work = [&] { return p.node.operations.load() > 0 || !p.node.registry().is_quiet(); };
  while (has_work() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  for (auto& r : p.reactors)
    r->end_all(caf::exit_reason::kill);
  p.system.await_all_actors_done();
  for (auto& r : p.reactors)
    r->stop();
  p.hashing = nullptr;  // its jobs name the stores
  p.embedded = nullptr; // commits what waits
  p.hosts.clear();
  p.reactors.clear();
  parts_ = nullptr;
}

void runner::list_sessions(std::function<void(std::vector<actors::session_info>)> then) {
  auto& p = *parts_;
  struct gathering {
    std::mutex mutex;
    std::vector<actors::session_info> found;
    std::function<void(std::vector<actors::session_info>)> then;
    ~gathering() { then(std::move(found)); } // the last reactor has answered
  };
  auto all = std::make_shared<gathering>();
  all->then = std::move(then);
  for (auto& r : p.reactors)
    r->lights().post_from_anywhere([all](actors::home& h) {
      std::vector<actors::session_info> mine;
      h.table().for_each([&](actors::light& l) {
        auto* s = dynamic_cast<actors::session*>(&l);
        if (s && s->is_bound())
          mine.push_back(s->describe());
      });
      std::lock_guard guard{all->mutex};
      std::move(mine.begin(), mine.end(), std::back_inserter(all->found));
    });
}

bool runner::kick(std::string_view full_jid, const std::string& text) {
  auto full = xmpp::parse_jid(full_jid);
  if (!full)
    return false;
  bool found = false;
  for (auto& row : parts_->node.registry().sessions_of(**full)) {
    if (!(*full)->is_bare() && !(*row.full == **full))
      continue;
    found = true;
    parts_->node.homes()[row.where.reactor]->post_from_anywhere<actors::session>(
        row.where.ref, [text](actors::session& s) { s.close(xmpp::stream_errc::policy_violation, text); });
  }
  return found;
}

} // namespace server
