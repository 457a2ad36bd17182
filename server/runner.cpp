// The one place that names every concrete type.
#include "server/runner.hpp"
#include "actors/pool.hpp"
#include "actors/reactor.hpp"
#include "actors/session.hpp"
#include "modules/all.hpp"
#include "server/doors.hpp"
#include "server/login_settings.hpp"
#include "server/settings_view.hpp"
#include "storage/memory/engine.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/tables.hpp"
#include <algorithm>
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
  std::unique_ptr<actors::pool> hashing = std::make_unique<actors::pool>(2);
  std::vector<std::unique_ptr<modules::module>> modules = modules::all();
  struct host_parts {
    std::unique_ptr<storage::store> own_store; // null: shared with another host
    std::unique_ptr<stored_accounts> accounts;
    std::unique_ptr<modules::services> services;
    std::vector<std::unique_ptr<settings_view>> settings;
  };
  std::map<std::string, host_parts, std::less<>> hosts;
  std::unique_ptr<storage::store> embedded; // RocksDB, one for all hosts of this node
  std::vector<std::unique_ptr<actors::reactor>> reactors;
  std::unique_ptr<doors> entrances;

  explicit parts(const config& c) : node(c.node, clock, random) {
    if (c.tls.tickets > 0)
      node.certificates().use_tickets(random, c.ticket_rotation);
  }
};

runner::runner(config c) : config_(std::move(c)), parts_(std::make_unique<parts>(config_)) {}

runner::~runner() { stop(); }

actors::node& runner::node() { return parts_->node; }

stored_accounts* runner::accounts_of(std::string_view domain) {
  auto i = parts_->hosts.find(domain);
  return i == parts_->hosts.end() ? nullptr : i->second.accounts.get();
}

std::uint16_t runner::port_of(const std::string& what) const {
  return parts_->entrances ? parts_->entrances->port_of(what) : 0;
}

base::result<void, std::string> runner::start() {
  raise_descriptor_limit();
  auto& p = *parts_;
  auto n = config_.reactors ? config_.reactors : std::max(1u, std::thread::hardware_concurrency());
  for (std::uint32_t i = 0; i < n; ++i)
    p.reactors.push_back(std::make_unique<actors::reactor>(p.system, p.node, static_cast<std::uint16_t>(i)));
  for (auto& h : config_.hosts)
    if (auto ok = open_host(h); !ok)
      return ok;
  for (auto& r : p.reactors)
    r->start();
  p.entrances = std::make_unique<doors>(config_, p.node, p.reactors);
  if (auto ok = p.entrances->open(); !ok)
    return ok;
  is_ready_ = true;
  return {};
}

base::result<void, std::string> runner::open_host(const host_config& h) {
  auto& p = *parts_;
  auto& own = p.hosts[h.domain];
  storage::store* store = nullptr;
  if (h.engine == "memory") {
    own.own_store = std::make_unique<storage::threaded_store>(std::make_unique<storage::memory_engine>());
    store = own.own_store.get();
  } else {
    if (!p.embedded) {
      auto engine = storage::open_rocksdb({config_.data_folder + "/store", config_.write_buffer, config_.block_cache});
      if (!engine)
        return base::fail(engine.error());
      if (auto ok = storage::tables::check_schema(**engine); !ok)
        return base::fail(ok.error());
      p.embedded = std::make_unique<storage::threaded_store>(std::move(*engine));
    }
    store = p.embedded.get();
  }
  auto secret = [&](const char* name, std::size_t size) {
    std::string fresh(size, '\0');
    p.random.fill({reinterpret_cast<std::uint8_t*>(fresh.data()), fresh.size()});
    return storage::tables::secret(store->blocking(), name, fresh);
  };
  auto fake = secret("fake-salt", 32), ids = secret("stanza-id", 16), tokens = secret("tokens", 32);
  if (!fake || !ids || !tokens)
    return base::fail(std::string{"the secrets of the database cannot be read or written"});
  own.accounts = std::make_unique<stored_accounts>(*store, *p.hashing, p.node, p.random, account_settings_of(h, config_.iterations, *fake, *tokens));
  base::siphash_key key{base::get_be64(*ids), base::get_be64(std::string_view{*ids}.substr(8))};
  own.services = std::make_unique<modules::services>(modules::services{*own.accounts, p.clock, p.random, key, store});

  auto host = std::make_shared<actors::host>();
  auto domain = xmpp::parse_jid(h.domain);
  if (!domain)
    return base::fail("the domain " + h.domain + " is none");
  host->view.domain = *domain;
  host->view.admins = h.admins;
  host->store = store;
  host->credentials = own.accounts.get();
  host->on_conflict = h.on_conflict;
  host->max_sessions = h.max_sessions;
  host->max_roster = h.max_roster;
  host->management = h.management;
  host->has_client_state = h.has_client_state;
  host->account_rates = h.account_rates;
  host->keepalive = h.keepalive;
  host->view.stream_features = std::string{xmpp::im::roster_versioning_feature} + std::string{xmpp::im::pre_approval_feature};
  static const module_settings none;
  for (auto& m : p.modules) {
    auto on = h.modules_on.find(std::string{m->name()});
    if (on != h.modules_on.end() ? !on->second : !m->is_on_by_default())
      continue;
    auto values = h.modules.find(std::string{m->name()});
    own.settings.push_back(std::make_unique<settings_view>(values == h.modules.end() ? none : values->second));
    modules::registrar reg{host->view, std::string{m->name()}, *own.settings.back(), *own.services};
    m->start(reg);
  }
  auto& s = host->stream;
  s.domain = h.domain;
  s.compression = h.has_compression;
  set_login(s, h);
  s.max_bytes_before_login = static_cast<std::uint32_t>(config_.node.before_login.max_size);
  s.max_bytes = static_cast<std::uint32_t>(config_.node.after_login.max_size);
  s.fake_secret = *fake;
  s.fake_iterations = config_.iterations;
  s.features_before_login = host->view.login_features;
  s.features_after_login = host->view.stream_features;
  if (h.has_client_state)
    s.features_after_login += "<csi xmlns='urn:xmpp:csi:0'/>";
  s.stream_management = h.management.is_on;
  s.client_state = h.has_client_state;
  s.carbons = std::ranges::find(host->view.host_features, "urn:xmpp:carbons:2") != host->view.host_features.end();
  for (auto& [ns, handler] : host->view.stranger_iqs)
    s.namespaces_before_login.push_back(ns);
  s.has_tls = false;
  if (!h.certificate.empty()) {
    auto context = net::make_server_context(h.certificate, h.key, config_.tls_of(h));
    if (!context)
      return base::fail(context.error().file + ": " + context.error().text);
    p.node.certificates().put(h.domain, std::move(*context));
    s.has_tls = true;
  }
  p.node.put_host(std::move(host));
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
  for (auto& r : p.reactors) {
    r->end_all(); // every client closes its stream; it is gone when its connection is
    r->lights().post_from_anywhere([](actors::home& h) { // and those that wait for their client end now
      h.table().for_each([&](actors::light& l) {
        if (auto* s = dynamic_cast<actors::session*>(&l); s && s->is_bound() && s->is_detached())
          h.post<actors::session>(h.index(), s->id(), [](actors::session& gone) { gone.close(xmpp::stream_errc::system_shutdown, {}); });
      });
    });
  }
  auto until = std::chrono::steady_clock::now() + config_.node.drain_timeout;
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
    base::log::info("session.kicked", "an administrator ended a session", {{"jid", row.full->full()}, {"cause", text}});
    parts_->node.homes()[row.where.reactor]->post_from_anywhere<actors::session>(
        row.where.ref, [text](actors::session& s) { s.close(xmpp::stream_errc::policy_violation, text); });
  }
  return found;
}

} // namespace server
