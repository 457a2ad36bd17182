// The one place that names every concrete type.
#include "server/runner.hpp"
#include "actors/pool.hpp"
#include "actors/reactor.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"
#include "actors/entity.hpp"
#include "server/certificates.hpp"
#include "server/cluster_member.hpp"
#include "server/doors.hpp"
#include "server/host_builder.hpp"
#include "server/login_settings.hpp"
#include "server/shared_tickets.hpp"
#include "storage/memory/engine.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/sql/engine.hpp"
#include "storage/tables.hpp"
#include <algorithm>
#include <future>
#include <sys/resource.h>

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
  std::map<std::string, std::unique_ptr<storage::store>> databases; // by connection: each shared by all hosts that name it
  std::vector<std::unique_ptr<actors::reactor>> reactors;
  std::optional<cluster_member> cluster;
  std::shared_ptr<shared_tickets> tickets; // null: this node's alone
  bool has_resumption_key = false;
  std::unique_ptr<doors> entrances;

  explicit parts(const config& c) : node(c.node, clock, random) {
    if (c.tls.tickets > 0)
      node.certificates().use_tickets(random, c.ticket_rotation);
  }
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
  return parts_->entrances ? parts_->entrances->port_of(what) : 0;
}

storage::store* runner::embedded_store() {
  std::shared_lock guard{parts_->hosts_mutex};
  return parts_->embedded.get();
}

std::vector<storage::store*> runner::databases() {
  std::shared_lock guard{parts_->hosts_mutex};
  std::vector<storage::store*> all;
  for (auto& [connection, store] : parts_->databases)
    all.push_back(store.get());
  return all;
}

base::result<void, std::string> runner::start() {
  raise_descriptor_limit();
  auto& p = *parts_;
  auto n = config_->reactors ? config_->reactors : std::max(1u, std::thread::hardware_concurrency());
  for (std::uint32_t i = 0; i < n; ++i)
    p.reactors.push_back(std::make_unique<actors::reactor>(p.system, p.node, static_cast<std::uint16_t>(i)));
  if (is_cluster_member(config_->data_folder)) {
    auto member = make_cluster_member(*config_, p.node);
    if (!member)
      return base::fail(member.error());
    p.cluster = std::move(*member);
  }
  auto own = separate(*config_);
  if (!own)
    return base::fail(own.error());
  {
    std::lock_guard guard{config_mutex_};
    config_ = std::make_shared<const config>(std::move(*own));
  }
  auto made = build(*config_);
  if (!made)
    return base::fail(made.error());
  p.node.certificates().replace(made->certificates);
  p.node.set_hosts(made->hosts, made->elsewhere);
  for (auto& r : p.reactors)
    r->start();
  if (p.cluster)
    if (auto ok = server::start(*p.cluster, *config_, p.clock); !ok)
      return ok;
  p.entrances = std::make_unique<doors>(config_, p.node, p.reactors);
  if (auto ok = p.entrances->open(); !ok)
    return ok;
  is_ready_ = true;
  return {};
}

/// Hosts that another node serves alone are not this one's.
base::result<config, std::string> runner::separate(config c) const {
  auto name = parts_->cluster ? parts_->cluster->own.name : std::string{};
  for (auto& h : c.hosts)
    if (!h.node.empty() && name.empty())
      return base::fail("cluster.node of " + h.domain + " names a node, but this one is in no cluster: covey cluster init-ca, or covey join");
  auto is_elsewhere = [&](const host_config& h) { return !h.node.empty() && h.node != name; };
  std::copy_if(c.hosts.begin(), c.hosts.end(), std::back_inserter(c.elsewhere), is_elsewhere);
  std::erase_if(c.hosts, is_elsewhere);
  return c;
}

base::result<runner::generation, std::string> runner::build(const config& c) {
  generation g;
  for (auto& h : c.hosts) {
    auto base = base_of(h, c.iterations);
    if (!base)
      return base::fail(base.error());
    bool has_tls = !h.certificate.empty();
    if (has_tls) {
      auto context = net::make_server_context(h.certificate, h.key, c.tls_of(h));
      if (!context)
        return base::fail(context.error().file + ": " + context.error().text);
      g.certificates.emplace_back(h.domain, *context);
      if (auto name = ascii_name(h.domain); name != h.domain) // clients name a host as DNS has it
        g.certificates.emplace_back(name, *context);
    }
    g.hosts.push_back(build_host(h, c, has_tls, **base, parts_->node));
  }
  for (auto& h : c.elsewhere) {
    actors::host_elsewhere there{h.domain, h.node, {}};
    there.stream.domain = h.domain;
    there.stream.has_tls = there.stream.require_tls = false; // it has the certificate; here nothing is asked for
    there.stream.see_other_host = h.clients;
    g.elsewhere.push_back(std::make_shared<const actors::host_elsewhere>(std::move(there)));
  }
  return g;
}

base::result<host_base*, std::string> runner::base_of(const host_config& h, std::uint32_t iterations) {
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
  } else if (h.engine == "postgresql") {
    auto there = p.databases.find(h.connection); // changed by this thread alone
    if (there == p.databases.end()) {
      auto now = settings();
      auto engine = storage::open_sql({.connection = h.connection, .readers = now->database_readers, .patience = now->database_patience});
      if (!engine)
        return base::fail(engine.error());
      if (auto ok = storage::tables::check_schema(**engine); !ok)
        return base::fail(ok.error());
      std::lock_guard guard{p.hosts_mutex};
      there = p.databases.emplace(h.connection, std::make_unique<storage::threaded_store>(std::move(*engine), storage::store_limits{.readers = now->database_readers})).first;
    }
    fresh.store = there->second.get();
  } else {
    if (!p.embedded) {
      auto now = settings();
      auto engine = storage::open_rocksdb({now->data_folder + "/store", now->write_buffer, now->block_cache});
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
  auto fake = secret("fake-salt", 32), ids = secret("stanza-id", 16), tokens = secret("tokens", 32);
  if (!fake || !ids || !tokens)
    return base::fail(std::string{"the secrets of the database cannot be read or written"});
  if (p.cluster && h.engine == "postgresql" && !p.has_resumption_key) { // a session goes on at any node
    auto key = secret("resumption", 16);
    if (!key)
      return base::fail(std::string{"the secrets of the database cannot be read or written"});
    p.node.set_resumption_key({base::get_be64(*key), base::get_be64(std::string_view{*key}.substr(8))});
    p.has_resumption_key = true;
    if (auto* keys = p.node.certificates().tickets())
      p.tickets = std::make_shared<shared_tickets>(*fresh.store, *keys, p.random, p.clock, keys->rotation());
    refresh_tickets();
  }
  fresh.fake_secret = *fake;
  fresh.token_secret = *tokens;
  fresh.stanza_id_key = {base::get_be64(*ids), base::get_be64(std::string_view{*ids}.substr(8))};
  fresh.accounts = std::make_unique<stored_accounts>(*fresh.store, *p.hashing, p.node, p.random, account_settings_of(h, iterations, *fake, *tokens));
  std::lock_guard guard{p.hosts_mutex};
  return &p.hosts.emplace(h.domain, std::move(fresh)).first->second;
}

base::result<void, std::string> runner::change(config next, const std::function<base::result<void, std::string>()>& just_before) {
  auto& p = *parts_;
  auto before = settings();
  keep_until_restart(next, *before);
  auto own = separate(std::move(next));
  if (!own)
    return base::fail(own.error());
  next = std::move(*own);
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
    for (auto& h : next.hosts) {
      auto& base = p.hosts.find(h.domain)->second;
      base.accounts->change(account_settings_of(h, next.iterations, base.fake_secret, base.token_secret));
    }
  }
  {
    std::lock_guard guard{config_mutex_};
    config_ = std::make_shared<const config>(std::move(next));
  }
  p.node.set_hosts(made->hosts, made->elsewhere);
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
  next.proxied = now.proxied;
  next.shaped = now.shaped;
  next.trusted_proxies = now.trusted_proxies;
  next.proxies = now.proxies;
  next.tls = now.tls;
  next.ticket_rotation = now.ticket_rotation;
  next.write_buffer = now.write_buffer;
  next.block_cache = now.block_cache;
  next.database_readers = now.database_readers;
  next.database_patience = now.database_patience;
  next.cluster_listen = now.cluster_listen;
  next.cluster_address = now.cluster_address;
  next.cluster_seeds = now.cluster_seeds;
  for (auto& h : next.hosts)
    for (auto* all : {&now.hosts, &now.elsewhere})
      for (auto& old : *all)
        if (old.domain == h.domain) {
          h.engine = old.engine;
          h.connection = old.connection;
          h.node = old.node;
        }
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

void runner::stop() {
  if (!parts_)
    return;
  auto& p = *parts_;
  is_ready_ = false;
  p.node.drain();
  if (p.entrances)
    p.entrances->close();
  if (p.cluster)
    p.cluster->others->drain();
  for (auto& r : p.reactors)
    r->end_all(); // every client closes its stream; it is gone when its connection is
  auto until = std::chrono::steady_clock::now() + p.node.settings().drain_timeout;
  auto count = [&] {
    return p.node.session_count();
  };
  constexpr auto to_move = std::chrono::seconds{10}; // clients come back at another node, and their sessions follow
  auto move_until = std::min(until, std::chrono::steady_clock::now() + to_move);
  while (p.cluster && count() > 0 && p.cluster->others->has_successor() && std::chrono::steady_clock::now() < move_until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  for (auto& r : p.reactors)
    r->lights().post_from_anywhere(actors::end_detached_sessions);
  while (count() > 0 && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  // what sessions left behind is still being stored: wait until no entity has anything under way
  auto has_work = [&] { return p.node.operations.load() > 0 || !p.node.registry().is_quiet(); };
  while (has_work() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  if (p.cluster)
    p.cluster->others->stop();
  for (auto& r : p.reactors)
    r->end_all(caf::exit_reason::kill);
  p.system.await_all_actors_done();
  for (auto& r : p.reactors)
    r->stop();
  p.hashing = nullptr;  // its jobs name the stores
  p.embedded = nullptr; // commits what waits
  p.databases.clear();
  p.hosts.clear();
  p.cluster.reset();    // the stores have answered it
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

void runner::refresh_tickets() {
  if (parts_->tickets)
    parts_->tickets->refresh();
}

bool runner::is_in_minority() { return is_ready_ && parts_->cluster && parts_->cluster->others->is_in_minority(); }

actors::peers* runner::peers() { return parts_->cluster ? parts_->cluster->others.get() : nullptr; }

void runner::drain() {
  auto& p = *parts_;
  is_ready_ = false;
  p.node.drain();
  if (p.cluster)
    p.cluster->others->drain();
}

base::result<void, std::string> runner::leave_cluster() {
  if (!parts_->cluster)
    return base::fail(std::string{"this node is in no cluster"});
  return forget_membership(config_->data_folder);
}

bool runner::kick(std::string_view full_jid, const std::string& text) {
  auto full = xmpp::parse_jid(full_jid);
  if (!full)
    return false;
  bool found = false;
  if (auto* others = peers())
    others->rows().sessions_of(**full, [&](std::string_view name, const cluster::entry& e) {
      if (e.node == cluster::self || (!(*full)->is_bare() && name != (*full)->full()))
        return;
      found = true;
      base::log::info("session.kicked", "an administrator ended a session", {{"jid", name}, {"cause", text}});
      others->close_session(e.node, e.session, xmpp::stream_errc::policy_violation, text);
    });
  for (auto& row : parts_->node.sessions_here(**full)) {
    if (!(*full)->is_bare() && !(*row.full == **full))
      continue;
    found = true;
    parts_->node.homes()[row.where.reactor]->post_from_anywhere<actors::session>(row.where.ref, [text, jid = row.full](actors::session& s) {
      base::log::info("session.kicked", "an administrator ended a session",
                      {{"stream", std::to_string(s.log_id())}, {"jid", jid->full()}, {"cause", text}});
      s.close(xmpp::stream_errc::policy_violation, text);
    });
  }
  return found;
}

} // namespace server
