// Watches outlive what they look at: they share a target that is emptied at its end.
#include "server/watch.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "base/metrics.hpp"
#include "server/runner.hpp"
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <sys/resource.h>
#include <unistd.h>

namespace server {

struct watch::target {
  std::mutex mutex;
  runner* server;
};

namespace {
double resident_bytes() {
  std::ifstream in{"/proc/self/statm"};
  double size = 0, resident = 0;
  in >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}
double open_files() {
  std::error_code ec;
  double n = 0;
  for (std::filesystem::directory_iterator i{"/proc/self/fd", ec}, end; !ec && i != end; i.increment(ec))
    ++n;
  return n;
}
double most_files() {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  return static_cast<double>(l.rlim_cur);
}
double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
} // namespace

watch::watch(runner& r) : target_(std::make_shared<target>()) {
  target_->server = &r;
  auto of_server = [this](const char* name, const char* help, double (*read)(runner&)) {
    base::metrics::watch(name, help, {}, [t = target_, read] {
      std::lock_guard guard{t->mutex};
      return t->server ? read(*t->server) : 0.0;
    });
  };
  of_server("covey_sessions", "Bound sessions.", [](runner& x) { return static_cast<double>(x.node().session_count()); });
  of_server("covey_strangers", "Connections that have not logged in.", [](runner& x) { return static_cast<double>(x.node().strangers().total()); });
  of_server("covey_addresses", "Accounts and services that are in memory.", [](runner& x) { return static_cast<double>(x.node().registry().address_count()); });
  of_server("covey_operations", "Storage operations that accounts and services wait for.", [](runner& x) { return static_cast<double>(x.node().operations.load()); });
  of_server("covey_hosts", "Virtual hosts that are served.", [](runner& x) { return static_cast<double>(x.node().hosts().size()); });
  of_server("covey_cluster_nodes", "Other nodes of the cluster that are there.",
            [](runner& x) { return x.peers() ? static_cast<double>(x.peers()->alive().size()) : 0.0; });
  of_server("covey_cluster_minority", "1 while more nodes of the cluster are silent than answer: then this one is not ready.",
            [](runner& x) { return x.is_in_minority() ? 1.0 : 0.0; });
  of_server("covey_cluster_rows", "Sessions and services of all nodes, as this one knows them.",
            [](runner& x) { return x.peers() ? static_cast<double>(x.peers()->rows().size()) : 0.0; });
  of_server("covey_cluster_divergences", "Differences between this node's table and another's that were found, and repaired.",
            [](runner& x) { return x.peers() ? static_cast<double>(x.peers()->divergences()) : 0.0; });
  of_server("covey_cluster_services", "Services of the cluster that this node has.",
            [](runner& x) { return x.peers() ? static_cast<double>(x.peers()->owned().count()) : 0.0; });
  of_server("covey_cluster_services_without_owner", "Services of the cluster that no node has, as this one knows.",
            [](runner& x) { return x.peers() ? static_cast<double>(x.peers()->services_without_owner()) : 0.0; });
  of_server("covey_ready", "1 while clients are served, 0 while the server starts or stops.", [](runner& x) { return x.is_ready() ? 1.0 : 0.0; });
  base::metrics::watch("covey_process_resident_bytes", "Memory of the process.", {}, resident_bytes);
  base::metrics::watch("covey_process_cpu_seconds", "Processor time of the process since its start.", {}, cpu_seconds);
  base::metrics::watch("covey_process_open_files", "Open descriptors.", {}, open_files);
  base::metrics::watch("covey_process_most_files", "Descriptors that may be open.", {}, most_files);
  base::metrics::make_gauge("covey_process_start_seconds", "When the process started, in seconds since 1970.").set(std::time(nullptr));
  base::metrics::make_gauge("covey_build_info", "Always 1; the version is the label.", {{"version", COVEY_VERSION}}).set(1);
}

watch::~watch() {
  std::lock_guard guard{target_->mutex};
  target_->server = nullptr;
}

} // namespace server
