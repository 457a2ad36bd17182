// What the replicated table costs: nodes of one process with all that a node has below its reactors (actors::peers, the
// mesh, gRPC with mutual TLS on loopback, the rows' RocksDB), sessions made by hand. One JSON line per run.
//   rate N     N rows and as many changes of one node to two peers, as fast as they go: per second, and CPU
//   lag R S    R changes a second for S seconds, until both peers' look-ups show them: percentiles
//   join N     a third node comes to two that hold N rows: until it has all of them
//   memory N   N remote rows in one table: bytes of the heap and of RSS for each
#include "actors/home.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "base/log.hpp"
#include "base/x509.hpp"
#include "cluster/leases.hpp"
#include "cluster/rpc/node_service.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/store.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <malloc.h>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

double seconds_since(steady::time_point t) { return std::chrono::duration<double>(steady::now() - t).count(); }

double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  auto of = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return of(u.ru_utime) + of(u.ru_stime);
}

std::uint64_t rss_anon() {
  std::ifstream in{"/proc/self/status"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("RssAnon:"))
      return std::strtoull(line.c_str() + 8, nullptr, 10) * 1'024;
  return 0;
}

/// In use, with what is too large for an arena.
std::uint64_t heap() {
  auto m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::_Exit(1);
}

template <class F>
void until(F is_so, const char* what, std::chrono::seconds limit = 120s, std::chrono::microseconds step = 200us) {
  auto began = steady::now();
  while (!is_so()) {
    if (steady::now() - began > limit)
      give_up(std::string{"not within the limit: "} + what);
    std::this_thread::sleep_for(step);
  }
}

/// Files of the run; gone with it.
struct folder {
  std::string path = (std::filesystem::temp_directory_path() / "covey-rows-XXXXXX").string();
  folder() {
    if (!mkdtemp(path.data()))
      give_up("no temporary folder");
  }
  ~folder() {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
  }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream{path + '/' + name, std::ios::binary} << text;
    return path + '/' + name;
  }
};

std::string free_address() {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (bind(fd, reinterpret_cast<sockaddr*>(&at), size) != 0 || getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) != 0)
    give_up("no port");
  close(fd);
  return "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
}

/// 41 characters, as the bound on a row's memory says.
xmpp::jid_ref name(std::uint64_t n) { return *xmpp::parse_jid("user" + std::to_string(1'000'000 + n) + "@example.org/Conversations.a1b"); }

cluster::row session(std::uint64_t n, std::uint64_t id, std::uint64_t clock) {
  cluster::row r;
  r.name = name(n);
  r.session = id;
  r.clock = clock;
  r.what.flags = cluster::attributes::available | cluster::attributes::managed;
  return r;
}

const base::system_clock the_clock;
base::secure_random the_random;

/// A node without clients: a reactor that nobody is on, and the thread that speaks with the others.
struct member {
  member(const folder& files, const base::x509::authority& by, std::uint64_t number, std::vector<std::string> seeds)
    : address(free_address()), around({}, the_clock, the_random), lights(around, 0, loop) {
    loop.at_end_of_turn([this] { return lights.end_of_turn(); });
    thread = std::thread{[this] { loop.run(); }};
    auto name = "n" + std::to_string(number);
    auto key = base::x509::key::generate();
    auto x = base::x509::issue(by, key, {name, "URI:" + cluster::wire::node_uri(name), 1h});
    auto engine = storage::open_rocksdb({files.path + '/' + name});
    if (!engine)
      give_up(engine.error());
    disk = std::make_unique<storage::threaded_store>(std::move(*engine));
    cluster::member own{number << 52 | 1, 1ull << cluster::process_shift, name, address, 1};
    cluster::mesh_options o;
    o.members.cluster = "rows";
    o.members.seeds = std::move(seeds);
    others = std::make_unique<actors::peers>(around, own, std::move(o), disk.get());
    around.set_peers(others.get(), own.node << 1);
    settings.listen = address;
    settings.files = {files.write(name + ".ca", by.own.pem()), files.write(name + ".pem", x.pem() + by.own.pem()), files.write(name + ".key", key.pem())};
    settings.own = {"rows", name, own.life, address, 1, 1};
    settings.limits.packet = 14u << 20; // as in server/cluster_member.cpp
    settings.limits.queue = 32u << 20;
  }
  void start() {
    auto ok = others->start([&](auto post, auto& events) -> base::result<std::unique_ptr<cluster::wire::transport>, std::string> {
      auto made = cluster::rpc::node_service::start(settings, std::move(post), events);
      if (!made)
        return base::fail(made.error());
      return std::move(*made);
    });
    if (!ok)
      give_up(ok.error());
  }
  ~member() {
    others->stop();
    loop.stop();
    thread.join();
    disk.reset(); // its answers go to `others`
  }
  /// As a reactor does after a turn.
  void publish(std::vector<cluster::row> rows) {
    actors::peer_batch batch;
    for (auto& r : rows)
      batch.emplace_back(actors::to_peers::row{std::move(r), false});
    (void)others->take(std::move(batch));
  }
  [[nodiscard]] const cluster::table& rows() const { return others->rows(); }

  std::string address;
  actors::node around;
  net::loop loop;
  actors::home lights;
  std::thread thread;
  std::unique_ptr<storage::store> disk;
  std::unique_ptr<actors::peers> others;
  cluster::rpc::settings settings;
};

/// What the k-th change says of its row: no two are alike.
cluster::row change(std::uint64_t k, std::uint64_t count, std::uint64_t clock) {
  auto n = k % count;
  auto r = session(n, n + 1, clock + n);
  r.what.priority = static_cast<std::int8_t>(k / count % 100);
  r.what.capabilities.a = k;
  return r;
}

bool shows(const member& at, const xmpp::jid& full, std::uint64_t k) {
  auto e = at.rows().find(full);
  return e && e->what.capabilities.a >= k;
}

struct trio {
  folder files;
  base::x509::authority by = base::x509::make_authority("rows", 24h);
  member a{files, by, 1, {}}, b{files, by, 2, {a.address}};
  std::unique_ptr<member> c;
  void add() { c = std::make_unique<member>(files, by, 3, std::vector{a.address}); }
  void start() {
    a.start();
    b.start();
    until([&] { return a.others->alive().size() == 1 && b.others->alive().size() == 1; }, "two nodes");
  }
  void start_third() {
    add();
    c->start();
    until([&] { return a.others->alive().size() == 2 && b.others->alive().size() == 2 && c->others->alive().size() == 2; }, "three nodes");
  }
};

constexpr std::uint64_t a_turn = 64; // rows of one reactor's turn

/// Changes from..until of a node's rows, at most so many on their way: a reactor that binds sessions waits for their clients, too.
void stream(trio& t, std::uint64_t from, std::uint64_t until_k, std::uint64_t count, std::uint64_t clock) {
  constexpr std::uint64_t most_open = 16'384;
  auto seen = [&](std::uint64_t k) {
    auto full = name(k % count);
    return shows(t.b, *full, k) && shows(*t.c, *full, k);
  };
  for (auto k = from; k < until_k;) {
    std::vector<cluster::row> some;
    for (auto end = std::min(k + a_turn, until_k); k < end; ++k)
      some.push_back(change(k, count, clock));
    t.a.publish(std::move(some));
    if (k >= from + most_open && (k - from) % 1'024 < a_turn)
      until([&] { return seen(k - most_open); }, "changes arrive");
  }
  until([&] { return seen(until_k - 1); }, "the last change arrives");
}

int rate(std::uint64_t count) {
  trio t;
  t.start();
  t.start_third();
  auto clock = t.a.around.next_bind_clock();
  auto measure = [&](std::uint64_t from) {
    auto began = steady::now();
    auto cpu = cpu_seconds();
    stream(t, from, from + count, count, clock);
    return std::pair{static_cast<double>(count) / seconds_since(began), (cpu_seconds() - cpu) / static_cast<double>(count) * 1e6};
  };
  auto [fresh, fresh_cpu] = measure(0);
  auto [changed, changed_cpu] = measure(count);
  if (t.b.rows().size() != count || t.c->rows().size() != count)
    give_up("rows are missing");
  std::printf("{\"rows\":%lu,\"new_per_second\":%.0f,\"new_cpu_us\":%.2f,\"changes_per_second\":%.0f,\"change_cpu_us\":%.2f,\"divergences\":%lu}\n", count, fresh,
              fresh_cpu, changed, changed_cpu, t.a.others->divergences() + t.b.others->divergences() + t.c->others->divergences());
  return 0;
}

int lag(double per_second, double seconds) {
  constexpr std::uint64_t count = 10'000;
  trio t;
  t.start();
  t.start_third();
  auto clock = t.a.around.next_bind_clock();
  stream(t, 0, count, count, clock);
  auto total = static_cast<std::uint64_t>(per_second * seconds);
  std::vector<std::atomic<std::int64_t>> said(total);
  std::atomic<bool> is_over{false};
  auto now = [began = steady::now()] { return std::chrono::duration_cast<std::chrono::nanoseconds>(steady::now() - began).count(); };
  std::vector<double> lags[2];
  auto watch = [&](const member& at, std::vector<double>& out) {
    auto limit = steady::now() + std::chrono::seconds{static_cast<int>(seconds) + 30};
    for (std::uint64_t k = 0; k < total && steady::now() < limit;) {
      if (said[k].load() && shows(at, *name((count + k) % count), count + k)) {
        out.push_back(static_cast<double>(now() - said[k].load()) / 1e3);
        ++k;
      } else {
        std::this_thread::sleep_for(50us); // which is in the figure
      }
    }
  };
  std::thread watchers[] = {std::thread{[&] { watch(t.b, lags[0]); }}, std::thread{[&] { watch(*t.c, lags[1]); }}};
  auto cpu = cpu_seconds();
  auto began = steady::now();
  for (std::uint64_t k = 0; k < total;) {
    auto due = static_cast<std::uint64_t>(seconds_since(began) * per_second);
    for (; k < std::min(due, total); ++k) { // each in a turn of its own
      said[k] = now();
      t.a.publish({change(count + k, count, clock)});
    }
    std::this_thread::sleep_for(100us);
  }
  auto took = seconds_since(began);
  for (auto& w : watchers)
    w.join();
  auto used = cpu_seconds() - cpu;
  std::vector<double> all;
  for (auto& l : lags) {
    if (l.size() != total)
      give_up("changes did not arrive");
    all.insert(all.end(), l.begin(), l.end());
  }
  std::ranges::sort(all);
  auto at = [&](double q) { return all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))]; };
  std::printf("{\"per_second\":%.0f,\"changes\":%lu,\"p50_us\":%.0f,\"p99_us\":%.0f,\"max_us\":%.0f,\"cpu\":%.2f}\n", static_cast<double>(total) / took, total,
              at(0.5), at(0.99), at(1), used / took);
  return 0;
}

int join(std::uint64_t count) {
  trio t;
  t.start();
  auto clock = t.a.around.next_bind_clock();
  for (auto* m : {&t.a, &t.b}) { // half of them each
    auto base = m == &t.a ? 0 : count / 2;
    for (std::uint64_t n = 0; n < count / 2; n += 1'024) {
      std::vector<cluster::row> some;
      for (auto k = n; k < std::min(n + 1'024, count / 2); ++k)
        some.push_back(session(base + k, base + k + 1, clock + k));
      m->publish(std::move(some));
      until([&] { return m->rows().size(cluster::self) >= std::min(n + 1'024, count / 2); }, "own rows");
    }
  }
  until([&] { return t.a.rows().size() == count && t.b.rows().size() == count; }, "two nodes hold all rows");
  std::this_thread::sleep_for(1s);
  t.add();
  auto cpu = cpu_seconds();
  auto heap_before = heap();
  auto began = steady::now();
  t.c->start();
  until([&] { return t.c->rows().size() == count; }, "the new node holds all rows", 120s, 1ms);
  auto all = seconds_since(began);
  if (!t.c->others->wait_until_joined(60s))
    give_up("it does not take itself for joined");
  auto joined = seconds_since(began);
  auto used = cpu_seconds() - cpu;
  std::this_thread::sleep_for(7s); // digests are compared
  auto differences = t.a.others->divergences() + t.b.others->divergences() + t.c->others->divergences();
  std::printf("{\"rows\":%lu,\"seconds\":%.3f,\"joined_seconds\":%.3f,\"cpu_us_per_row\":%.2f,\"heap_per_row\":%.0f,\"divergences\":%lu}\n", count, all, joined,
              used / static_cast<double>(count) * 1e6, static_cast<double>(heap() - heap_before) / static_cast<double>(count), differences);
  return 0;
}

int memory(std::uint64_t count) {
  cluster::table t;
  t.set_node(1, 1);
  t.set_present(1, true);
  auto heap_before = heap(), rss_before = rss_anon();
  for (std::uint64_t n = 0; n < count; ++n)
    t.put(1, session(n, n + 1, n + 1));
  auto heap_after = heap(), rss_after = rss_anon();
  std::vector<std::uint64_t> order(std::min<std::uint64_t>(count, 100'000));
  for (auto& o : order)
    o = the_random.number() % count;
  std::vector<xmpp::jid_ref> names;
  for (auto o : order)
    names.push_back(name(o));
  auto began = steady::now();
  std::uint64_t found = 0;
  for (auto& n : names)
    found += t.find(*n) ? 1 : 0;
  auto look_up = seconds_since(began) / static_cast<double>(names.size()) * 1e9;
  if (found != names.size() || t.size() != count)
    give_up("rows are missing");
  auto each = [&](std::uint64_t bytes) { return static_cast<double>(bytes) / static_cast<double>(count); };
  std::printf("{\"rows\":%lu,\"name_length\":%zu,\"heap_per_row\":%.1f,\"rss_per_row\":%.1f,\"look_up_ns\":%.0f}\n", count, names[0]->full().size(),
              each(heap_after - heap_before), each(rss_after - rss_before), look_up);
  return 0;
}

} // namespace

int main(int argc, char** argv) {
  base::log::set_level(base::log::level::error);
  std::string_view mode = argc > 2 ? argv[1] : "";
  auto n = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if (n && mode == "rate")
    return rate(n);
  if (n && mode == "lag" && argc > 3)
    return lag(static_cast<double>(n), std::atof(argv[3]));
  if (n && mode == "join")
    return join(n);
  if (n && mode == "memory")
    return memory(n);
  std::fputs("usage: cluster_rows rate ROWS | lag PER_SECOND SECONDS | join ROWS | memory ROWS\n", stderr);
  return 2;
}
