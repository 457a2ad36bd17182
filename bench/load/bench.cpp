// Logins of many, what a server's processes have used, and the line that is printed.
#include "bench/load/bench.hpp"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <sys/resource.h>

namespace load {

std::uint64_t cpu_ns(const std::vector<int>& pids) {
  std::uint64_t sum = 0;
  for (int pid : pids) {
    auto folder = "/proc/" + std::to_string(pid) + "/task";
    if (auto* d = opendir(folder.c_str())) {
      while (auto* e = readdir(d)) {
        if (e->d_name[0] == '.')
          continue;
        std::ifstream in{folder + '/' + e->d_name + "/schedstat"};
        std::uint64_t ns = 0;
        in >> ns;
        sum += ns;
      }
      closedir(d);
    }
  }
  return sum;
}

std::uint64_t rss_anon(const std::vector<int>& pids) {
  std::uint64_t sum = 0;
  for (int pid : pids) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("RssAnon:"))
        sum += std::strtoull(line.c_str() + 8, nullptr, 10) * 1'024;
  }
  return sum;
}

double own_cpu() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

bool bench::login(int n, way how, int at_once, const std::function<void(wire&)>& prepare, const std::function<int()>& done) {
  int begun = 0;
  auto through = [&] { return (done ? done() : ready) + static_cast<int>(loop.total.failed); };
  return loop.run(300, [&] {
    while (begun < n && begun - through() < at_once) {
      auto i = begun++;
      wires.push_back(std::make_unique<wire>(loop, i));
      auto& w = *wires.back();
      w.on_ready = [&](wire&) { ++ready; };
      w.on_bytes = [](wire&, std::string_view s) { return s.size(); };
      if (prepare)
        prepare(w);
      w.start(user(i), "b", how);
    }
    return through() == n;
  }) && loop.total.failed == 0;
}

void bench::available() {
  if (o.to.is_relay)
    return;
  for (auto& w : wires)
    w->send("<presence/>");
  loop.run(1.0, [] { return false; });
}

/// At the end of a run. Who has no acknowledgement of all it has sent counts as failed; who lost its connection has.
void bench::all_acknowledged() {
  if (!o.to.manages)
    return;
  auto waits = [](auto& w) { return w->is_ready() && !w->is_acknowledged(); };
  for (auto& w : wires)
    if (waits(w))
      w->ask_for_ack();
  loop.run(20, [&] { return std::ranges::none_of(wires, waits); });
  auto open = std::ranges::count_if(wires, waits);
  if (open)
    std::fprintf(stderr, "%ld clients were not told that all they sent was handled\n", static_cast<long>(open));
  loop.total.failed += static_cast<std::uint64_t>(open);
}

/// Sessions that could be resumed would stay, and take what is meant for those of the next run.
void bench::leave() {
  if (!o.to.manages)
    return;
  loop.ends_when_ready = true;
  for (auto& w : wires)
    if (w && w->is_ready()) {
      w->on_bytes = [](wire&, std::string_view s) { return s.size(); }; // the mode is over, and what it looked at
      w->send("</stream:stream>", 0);
    }
  loop.run(30, [this] { return std::ranges::all_of(wires, [](auto& w) { return !w || w->is_closed(); }); });
}

bench::cost bench::watch(const std::uint64_t& units, const std::function<bool()>& turn) {
  auto before = units, server = cpu_ns(o.pids), other = cpu_ns(o.other_pids), from = now_ns();
  auto own = own_cpu();
  loop.run(o.seconds, turn);
  server = cpu_ns(o.pids) - server;
  other = cpu_ns(o.other_pids) - other;
  return {units - before, server, static_cast<double>(now_ns() - from) / 1e9, own_cpu() - own, other};
}

void bench::measure(bool& stopping) {
  loop.run(o.warm_up, [] { return false; });
  auto seen = watch(loop.total.received);
  stopping = true;
  loop.run(10, [&] { return loop.total.received >= loop.total.sent; }); // what is on its way
  loop.run(0.2, [] { return false; });                                  // and what should not be
  all_acknowledged();
  print({}, seen);
}

void bench::print(const std::string& extra, const cost& seen) const {
  auto& [units, server, seconds, own, other] = seen;
  auto each = [&](std::uint64_t ns) { return units ? static_cast<double>(ns) / 1e3 / static_cast<double>(units) : 0.0; };
  std::printf("{\"mode\":\"%s\",\"units\":%lu,\"seconds\":%.4f,\"us_per_unit\":%.4f,\"other_us_per_unit\":%.4f,\"own_load\":%.3f,\"sent\":%lu,\"received\":%lu,\"lost\":%ld,"
              "\"doubled\":%lu,\"reordered\":%lu,\"misrouted\":%lu,\"failed\":%lu,\"answered\":%lu%s}\n",
              o.mode.c_str(), units, seconds, each(server), each(other), own / seconds, loop.total.sent,
              loop.total.received, static_cast<long>(loop.total.sent) - static_cast<long>(loop.total.received), loop.total.doubled, loop.total.reordered,
              loop.total.misrouted, loop.total.failed, loop.total.answered, extra.c_str());
}

} // namespace load
