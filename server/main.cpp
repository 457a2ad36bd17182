// coveyd: reads the configuration, runs the server until it is told to end.
#include "server/admin/service.hpp"
#include "server/backup.hpp"
#include "server/changes.hpp"
#include "server/config/load.hpp"
#include "server/heap.hpp"
#include "server/health.hpp"
#include "server/migrate.hpp"
#include "server/renewal.hpp"
#include "server/restore.hpp"
#include "server/runner.hpp"
#include "server/service_manager.hpp"
#include "server/watch.hpp"
#include "storage/sql/engine.hpp"
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sched.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace {

int usage(int code) {
  std::fprintf(code == 0 ? stdout : stderr,
               "usage: coveyd [--config FILE]\n\n"
               "Runs the XMPP server in the foreground until SIGTERM or `covey stop`. SIGHUP: reads the\n"
               "configuration and certificates again.\n"
               "FILE: default COVEY_CONFIG, or /etc/covey/covey.toml.\n\n"
               "       coveyd --check-database FOLDER\n\n"
               "Verifies every checksum of a database that nobody has open; what is wrong goes to standard output.\n\n"
               "       coveyd [--config FILE] --migrate FROM TO\n\n"
               "Copies all rows between rocksdb and postgresql, for covey migrate; tells how far it is, then how it ended.\n\n"
               "       coveyd [--config FILE] --check-connections\n\n"
               "Looks at the databases of the configuration, for covey doctor: a line for each.\n\n"
               "Exit status: 0 ended as asked, 1 could not start, 2 usage, 78 mistakes in the configuration.\n");
  return code;
}

/// Until SIGTERM or SIGINT. SIGHUP: the files are read again. Between them: the watchdog's beat, and a
/// look at the certificates every six hours, and at the heap and the keys that nodes share twice a minute.
void serve(server::runner& runner, server::changes& changes, server::health& health, const sigset_t& signals) {
  using clock = std::chrono::steady_clock;
  constexpr auto look = std::chrono::hours{6};
  constexpr auto tidy = std::chrono::seconds{30};
  server::heap_keeper heap;
  auto beat = server::watchdog_interval();
  auto next_look = clock::now() + look, next_tidy = clock::now();
  for (;;) {
    auto wait = std::chrono::duration_cast<std::chrono::milliseconds>(std::min(next_look, next_tidy) - clock::now());
    if (beat.count() > 0)
      wait = std::min(wait, beat);
    wait = std::max(wait, std::chrono::milliseconds{1});
    timespec limit{wait.count() / 1'000, wait.count() % 1'000 * 1'000'000};
    int got = sigtimedwait(&signals, nullptr, &limit);
    if (got == SIGTERM || got == SIGINT)
      return;
    if (got == SIGHUP)
      (void)changes.reload(); // the log says what became of it
    if (clock::now() >= next_look) {
      changes.renew_certificates();
      next_look = clock::now() + look;
    }
    if (auto now = clock::now(); now >= next_tidy) {
      heap.tend(now);
      runner.refresh_tickets();
      next_tidy = now + tidy;
    }
    if (beat.count() > 0 && health.is_alive())
      server::tell_service_manager("WATCHDOG=1");
  }
}

/// Its threads, all that are started from here on, do not interrupt each other when they are woken (SCHED_BATCH, sched(7)): a
/// node's reactors and links wake each other all the time, and more is done at once by who may finish first. Who was
/// started with another policy than the usual one keeps that.
void let_threads_finish() {
  sched_param none{};
  if (sched_getscheduler(0) == SCHED_OTHER)
    (void)sched_setscheduler(0, SCHED_BATCH, &none); // not allowed in some sandboxes: deploy/covey.service says it, too
}

/// For `covey doctor`: "good TEXT", "careless TEXT" or "bad TEXT" for each database.
int check_connections(const std::string& file) {
  std::set<std::string> all;
  for (auto& h : server::load_config(file, server::own_environment(), {false, false}).config.hosts)
    if (h.engine == "postgresql")
      all.insert(h.connection);
  for (auto& connection : all) {
    auto found = storage::look_at_sql(connection);
    std::printf("%s %s\n", !found ? "bad" : found->is_durable ? "good" : "careless", (found ? found->text : found.error()).c_str());
  }
  return 0;
}

/// For `covey migrate`: lines "progress ROWS", then one that says how it ended.
int migrate(const std::string& file, const std::string& from, const std::string& to) {
  auto loaded = server::load_config(file, server::own_environment(), {true, false});
  for (auto& p : loaded.problems)
    std::printf("%s\n", server::to_text(p).c_str());
  if (!loaded.problems.empty())
    return server::exit_config;
  base::log::start(base::log::level::error, base::log::format::text);
  auto rows = server::migrate(loaded.config, from, to, [](std::uint64_t n) {
    std::printf("progress %llu\n", static_cast<unsigned long long>(n));
    std::fflush(stdout);
  });
  std::printf("%s\n", rows ? ("rows " + std::to_string(*rows)).c_str() : rows.error().c_str());
  base::log::flush();
  return rows ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
  std::string file = std::getenv("COVEY_CONFIG") ? std::getenv("COVEY_CONFIG") : "/etc/covey/covey.toml";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0)
      return usage(0);
    if (std::strcmp(argv[i], "--version") == 0)
      return std::puts("coveyd " COVEY_VERSION), 0;
    if (std::strcmp(argv[i], "--check-database") == 0 && argc == 3 && i + 1 < argc) {
      auto ok = server::check_database(argv[i + 1]);
      if (!ok)
        std::puts(ok.error().c_str());
      return ok ? 0 : 1;
    }
    if (std::strcmp(argv[i], "--check-connections") == 0 && i + 1 == argc)
      return check_connections(file);
    if (std::strcmp(argv[i], "--migrate") == 0 && i + 3 == argc) {
      umask(0077);
      return migrate(file, argv[i + 1], argv[i + 2]);
    }
    if (std::strcmp(argv[i], "--config") == 0 && i + 1 < argc)
      file = argv[++i];
    else
      return usage(2);
  }
  umask(0077); // data, keys and sockets are this user's alone
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGTERM, SIGINT, SIGHUP})
    sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr); // every thread inherits it; serve() takes them
  let_threads_finish();

  auto loaded = server::load_config(file, server::own_environment());
  if (!loaded.problems.empty()) {
    for (auto& p : loaded.problems)
      std::fprintf(stderr, "%s\n", server::to_text(p).c_str());
    std::fprintf(stderr, "coveyd: %zu mistake%s in the configuration, nothing was started\n", loaded.problems.size(),
                 loaded.problems.size() == 1 ? "" : "s");
    return server::exit_config;
  }
  auto& config = loaded.config;
  std::error_code ec;
  std::filesystem::create_directories(config.data_folder, ec);
  std::filesystem::create_directories(config.run_folder, ec);
  try {
    base::log::start(config.log_level, config.log_format, config.log_file);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "coveyd: %s\n", e.what());
    return 1;
  }
  if (server::is_half_restored(config.data_folder)) {
    std::fprintf(stderr, "coveyd: a restore into %s was interrupted: do it again with covey restore FILE --yes\n", config.data_folder.c_str());
    return 1;
  }
  server::remove_old_copies(config.data_folder);
  if (auto made = server::provide_certificates(config); !made.failed.empty()) {
    std::fprintf(stderr, "coveyd: %s\n", made.failed.c_str());
    base::log::flush();
    return 1;
  }
  auto run_folder = config.run_folder;
  auto http = config.http;
  server::runner runner{std::move(config)};
  if (auto ok = runner.start(); !ok) {
    std::fprintf(stderr, "coveyd: %s\n", ok.error().c_str());
    base::log::flush();
    return 1;
  }
  std::optional<server::watch> watched{std::in_place, runner};
  server::changes changes{runner, file, std::move(loaded.effective)};
  server::admin_service admin{runner, changes, [] { kill(getpid(), SIGTERM); }};
  if (auto ok = admin.listen(server::socket_in(run_folder)); !ok) {
    std::fprintf(stderr, "coveyd: %s\n", ok.error().c_str());
    return 1;
  }
  server::health health{runner};
  if (auto ok = health.listen(http); !ok) {
    std::fprintf(stderr, "coveyd: %s\n", ok.error().c_str());
    return 1;
  }
  base::log::info("server.ready", "serving clients", {{"config", file}, {"pid", std::to_string(getpid())}});
  server::tell_service_manager("READY=1\nSTATUS=serving clients");
  serve(runner, changes, health, signals);
  server::tell_service_manager("STOPPING=1");
  base::log::info("server.stopping", "no new connections; what is under way is finished", {});
  admin.close();
  watched.reset();
  runner.stop();
  health.close();
  base::log::info("server.stopped", "ended as asked", {});
  base::log::flush();
  return 0;
}
