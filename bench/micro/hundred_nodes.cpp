// What a cluster of 100 nodes with 10 million sessions costs each node (docs/cluster-size.md), on virtual time, in one process,
// without sockets. Three nodes are real meshes, each with the real table of all rows; the others are models that own rows and
// speak real frames, but only with these three. A real node's thread is busy for as long as its calls take CPU here. Markdown.
// --join: two nodes have all rows, the third comes without any.
// --at-once: no frame waits for more that could go with it.
//   hundred_nodes [--quick] [--join] [--at-once] [--rows N] [--nodes N] [--seconds N] [--changes PER_HOUR] [--messages PER_MINUTE] [--contacts N]
//                 [--gbit N] [--disk ROWS_PER_SECOND]
#include "bench/micro/hundred_nodes.hpp"
#include <atomic>
#include <cstring>
#include <fstream>
#include <malloc.h>
#include <thread>

using namespace hundred;

namespace {

double heap() {
  auto m = mallinfo2();
  return static_cast<double>(m.uordblks + m.hblkhd);
}
double rss() {
  std::ifstream in{"/proc/self/status"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("VmHWM:"))
      return std::strtod(line.c_str() + 6, nullptr) / 1e6;
  return 0;
}

template <class F>
void each_real(F f) {
  for (std::size_t r = 0; r < real_count; ++r)
    f(node_at(r));
}
template <class F>
void each_model(F f) {
  for (std::size_t i = real_count; i < machines.size(); ++i)
    if (machines[i]->is_up)
      f(model_at(i));
}

bool has_all(real& r) {
  for (auto& m : machines)
    if (m.get() != &r && m->is_up && !r.has_all_of(*m))
      return false;
  return true;
}
/// And everybody has its rows.
bool is_converged(real& r) {
  bool is = has_all(r);
  each_model([&](model& m) {
    auto& p = m.pairs[r.index];
    is = is && p.connection && p.has_rows && p.parts_left == 0;
  });
  return is;
}

/// As often on average, until then.
void stream(double per_second, time_point until, std::shared_ptr<std::function<void()>> f) {
  auto pause = ns{static_cast<std::int64_t>(-std::log(1 - chance()) / per_second * 1e9)};
  if (vt.now + pause >= until)
    return;
  vt.after(pause, [=] {
    (*f)();
    stream(per_second, until, f);
  });
}
void stream(double per_second, time_point until, std::function<void()> f) {
  stream(per_second, until, std::make_shared<std::function<void()>>(std::move(f)));
}

void load_changes(double of_node, time_point until) {
  each_real([&](real& r) { stream(of_node, until, [&r] { r.change(); }); });
  each_model([&](model& m) { stream(of_node, until, [&m] { m.change(); }); });
}
/// To each other node the same share; what models say to each other nobody here sees.
void load_stanzas(time_point until) {
  auto of_pair = given.stanzas_of_node() / static_cast<double>(given.nodes);
  each_real([&](real& r) {
    for (auto& m : machines)
      if (m.get() != &r && m->is_up)
        stream(of_pair, until, [&r, &to = *m] { r.send_to(to); });
    each_model([&](model& m) { stream(of_pair, until, [&m, n = r.index] { m.send_to(n); }); });
  });
}
/// Nobody is left logged out.
void settle() {
  each_real([](real& r) { while (r.own.step % 10 == 1) r.change(); });
  each_model([](model& m) { while (m.own.step % 10 == 1) m.change(); });
  vt.run(3s);
}

void reset() {
  each_real([](real& r) { r.reset(); });
  lags.clear();
}

void report_head(const char* title) {
  std::printf("\n### %s\n\n", title);
}
template <class T>
double number(T n) { return static_cast<double>(n); }
double mega(std::uint64_t bytes) { return number(bytes) / 1e6; }
std::uint64_t on_the_wire(std::uint64_t frames, std::uint64_t bytes) { return bytes + frames * 126 + bytes / 1'448 * 90; }

/// What a second cost each real node.
void report_rates(base::duration took) {
  auto s = seconds(took);
  std::puts("| node | thread busy | frames out, in /s | MB out, in /s (encoded) | Mbit/s out with headers | longest step, ms "
            "| rows to disk /s (dropped) | stanzas arrived, outcomes, refused /s |");
  std::puts("|---|---|---|---|---|---|---|---|");
  each_real([&](real& r) {
    auto c = r.mesh->count();
    auto out = c.frames_out - r.before.frames_out, in = c.frames_in - r.before.frames_in, bytes = c.bytes_out - r.before.bytes_out;
    auto dropped = r.mesh->rows().count().dropped_writes - r.rows_before.dropped_writes;
    std::printf("| %zu | %.1f %% | %.0f, %.0f | %.2f, %.2f | ", r.index + 1, seconds(r.cpu) / s * 100, number(out) / s, number(in) / s, mega(bytes) / s,
                mega(c.bytes_in - r.before.bytes_in) / s);
    std::printf("%.0f | %.2f | %.0f (%.0f) | %.0f, %.0f, %.0f |\n", mega(on_the_wire(out, bytes)) * 8 / s, seconds(r.longest) * 1e3,
                number(r.disk_writes) / s, number(dropped) / s, number(r.arrived) / s, number(r.ended) / s, number(r.refused) / s);
  });
  std::puts("\n| call, node 1 | a second | µs each | longest, ms | share of the thread |\n|---|---|---|---|---|");
  auto& r = node_at(0);
  for (std::size_t i = 0; i < static_cast<std::size_t>(call::count); ++i)
    if (auto& m = r.calls[i]; m.count)
      std::printf("| %s | %.0f | %.2f | %.2f | %.1f %% |\n", call_names[i], number(m.count) / s, seconds(m.cpu) * 1e6 / number(m.count),
                  seconds(m.longest) * 1e3, seconds(m.cpu) / s * 100);
  if (!lags.empty()) {
    std::sort(lags.begin(), lags.end());
    auto at = [](double q) { return number(lags[static_cast<std::size_t>(q * number(lags.size() - 1))]); };
    std::printf("\nA change of another node's row is in node 1's table after %.2f ms (p50), %.2f ms (p99), at most %.1f ms (%zu changes).\n", at(0.5),
                at(0.99), at(1), lags.size());
  }
  std::fflush(stdout);
}

/// What a single event cost: `times` by real node.
void report_event(const std::vector<double>& times, base::duration took) {
  std::puts("| node | done after, s | CPU, s | thread busy | frames out, in | MB out, in | longest step, s | rows synced "
            "| rows to disk (dropped) | lists of lost or found names: rows | peers suspected, dead | new lives |");
  std::puts("|---|---|---|---|---|---|---|---|---|---|---|---|");
  each_real([&](real& r) {
    if (!r.is_up)
      return;
    auto c = r.mesh->count();
    auto& rows = r.mesh->rows().count();
    auto time = times[r.index], cpu = seconds(r.cpu);
    std::printf("| %zu | %.2f | %.2f | %.0f %% | %lu, %lu | %.1f, %.1f | %.3f | ", r.index + 1, time, cpu, time > 0 ? cpu / std::max(time, 0.001) * 100 : 0,
                c.frames_out - r.before.frames_out, c.frames_in - r.before.frames_in, mega(c.bytes_out - r.before.bytes_out),
                mega(c.bytes_in - r.before.bytes_in), seconds(r.longest));
    std::printf("%lu | %lu (%lu) | %lu: %lu | %lu, %lu | %lu |\n", rows.rows_synced - r.rows_before.rows_synced, r.disk_writes,
                rows.dropped_writes - r.rows_before.dropped_writes, r.news_steps, r.news_rows, r.suspicions, r.deaths, r.reborn);
  });
  std::printf("\nAll of it: %.2f s.\n", seconds(took));
  std::fflush(stdout);
}

/// Runs until every real node is as `is_so` says, and notes when each was.
std::vector<double> run_until_each(base::duration most, bool (*is_so)(real&), base::duration& took, const char* what, bool must = true) {
  std::vector<double> times(real_count, -1);
  auto began = vt.now;
  auto next_word = vt.now;
  took = vt.run(most, [&] {
    if (vt.now >= next_word) { // a run of 10 million rows takes many minutes
      next_word = vt.now + 5s;
      std::fprintf(stderr, "%s: %.0f s", what, seconds(vt.now - began));
      each_real([](real& r) {
        std::fprintf(stderr, "; node %zu: %zu rows, %.0f s busy, %zu jobs wait, %lu suspected, %lu dead", r.index + 1, r.rows.size(), seconds(r.cpu), r.inbox.size(),
                     r.suspicions, r.deaths);
      });
      std::fputc('\n', stderr);
    }
    bool all = true;
    each_real([&](real& r) {
      if (!r.is_up || times[r.index] >= 0)
        return;
      if (is_so(r))
        times[r.index] = seconds(vt.now - began);
      else
        all = false;
    });
    return all;
  }, 20ms);
  if (took == most && must)
    give_up(std::string{"not within the limit: "} + what);
  return times;
}

/// Looks up again and again, in a thread of its own, while something else goes on. How long it took, by the clock on the wall.
struct looker {
  explicit looker(const table& t) : there(t) {
    for (int i = 0; i < 50'000; ++i)
      names.push_back(name(luck.number() % given.rows));
    thread = std::thread{[this] {
      for (std::size_t i = 0; !is_over; i = (i + 1) % names.size()) {
        if (i % 20 == 0)
          std::this_thread::sleep_for(200us); // the cores are others', too
        auto began = base::steady::now();
        (void)there.find(*names[i]);
        auto us = seconds(base::steady::now() - began) * 1e6;
        longest = std::max(longest, us);
        ++count;
        ++took[static_cast<std::size_t>(std::clamp(std::log2(std::max(us, 0.01) * 100) * 8, 0.0, 399.0))];
      }
    }};
  }
  void report(const char* during) {
    is_over = true;
    thread.join();
    auto at = [&](double q) {
      std::uint64_t sum = 0;
      std::size_t i = 0;
      while (i < took.size() && number(sum += took[i]) < q * number(count))
        ++i;
      return std::exp2(static_cast<double>(i + 1) / 8) / 100;
    };
    std::printf("| %s | %lu | %.2f | %.2f | %.1f | %.0f |\n", during, count, at(0.5), at(0.99), at(0.9999), longest);
    std::fflush(stdout);
  }
  const table& there;
  std::vector<xmpp::jid_ref> names;
  std::array<std::uint64_t, 400> took{}; // by an eighth of an octave from 10 ns
  std::uint64_t count = 0;
  double longest = 0;
  std::atomic<bool> is_over{false};
  std::thread thread;
};
constexpr const char* looker_head = "| look-ups of another thread, while | count | p50, µs | p99, µs | p99.99, µs | longest, µs |\n|---|---|---|---|---|---|";

void build() {
  for (std::size_t i = 0; i < given.nodes; ++i) {
    if (i < real_count)
      machines.push_back(std::make_unique<real>());
    else
      machines.push_back(std::make_unique<model>());
    auto& m = *machines.back();
    m.index = i;
    m.side = i < real_count ? i > 0 : i % 2 == 0;
    m.own.first = i * given.of_node();
    m.own.count = given.of_node();
    m.own.generation.resize(m.own.count);
  }
  for (std::size_t i = real_count; i < machines.size(); ++i)
    model_at(i).prepare();
}

/// Each node has on its disk what the others have in memory.
void start_from_disk(std::size_t count) {
  std::puts("\n### Nodes start with all rows on their disks\n");
  auto before = heap();
  for (std::size_t r = 0; r < real_count; ++r) {
    auto used = seconds(node_at(r).prepare(r < count));
    if (r > 0 || count == 0)
      continue;
    auto all = number(node_at(0).rows.size());
    std::printf("Heap of a table: %.1f B for each of %.0f rows. To load them: %.1f s of CPU, %.2f µs each.\n\n", (heap() - before) / all, all, used,
                used * 1e6 / all);
    std::fflush(stdout);
  }
  for (std::size_t r = 0; r < count; ++r)
    node_at(r).start();
  base::duration took{};
  auto times = run_until_each(1h, has_all, took, "nodes with disks");
  report_event(times, took);
  vt.run(5s);
}

void join_empty(base::duration most) {
  reset();
  auto& r = node_at(2);
  report_head("An empty node joins all others (node 3)");
  base::duration took{};
  std::vector<double> times;
  {
    looker by{r.rows};
    r.start();
    times = run_until_each(most, is_converged, took, "an empty node joins", false);
    std::puts(looker_head);
    by.report("the rows come in");
  }
  std::puts("");
  report_event(times, took);
  if (times[2] < 0)
    std::printf("\nIt has %zu of %lu rows, and is not done.\n", r.rows.size(), given.rows);
}

void steady(const char* title, bool with_changes, bool with_stanzas, double more_changes = 0) {
  vt.run(2s);
  auto until = vt.now + std::chrono::seconds{given.seconds + 1};
  if (with_changes)
    load_changes(given.changes_of_node() + more_changes, until);
  if (with_stanzas)
    load_stanzas(until);
  vt.run(1s);
  reset();
  auto took = vt.run(std::chrono::seconds{given.seconds});
  report_head(title);
  report_rates(took);
  settle();
}

bool has_forgotten(real& r) { return r.rows.size(r.number_of(*machines.back())) == 0; }
bool knows_dead(real& r) { return r.mesh->members().at(r.number_of(*machines.back())).state == peer_state::dead; }

void death() {
  reset();
  base::duration noticed{}, took{};
  model_at(machines.size() - 1).kill();
  auto first = run_until_each(60s, knows_dead, noticed, "a dead node is noticed");
  auto times = run_until_each(1h, has_forgotten, took, "a dead node's rows go");
  report_head("A node's process dies");
  std::printf("Noticed, and its rows not seen any more, after %.2f s; the last row is gone %.2f s after that.\n\n", seconds(noticed), seconds(took));
  report_event(times, took);
}

void split(base::duration how_long) {
  reset();
  is_split = true;
  vt.run(how_long);
  report_head(("A split in halves, healed after " + std::to_string(static_cast<int>(seconds(how_long))) + " s").c_str());
  std::printf("While it lasts: rows left of the other half at node 1 when it is healed: %zu; CPU of node 1 until then %.1f s, longest step %.3f s.\n\n",
              node_at(0).rows.size() - node_at(0).own.count
                  - [] { std::size_t n = 0; each_model([&](model& m) { n += m.side == node_at(0).side ? m.own.count : 0; }); return n; }(),
              seconds(node_at(0).cpu), seconds(node_at(0).longest));
  reset();
  is_split = false;
  each_model([](model& m) {
    each_real([&](real& r) {
      if (r.side == m.side)
        return;
      m.pairs[r.index].dead_life = r.mesh->members().own().life; // nobody is spared a new life
      m.pairs[r.index].has_rows = false;
    });
    vt.after(ns{luck.number() % 4'000'000'000}, [&m, was = m.own_life] {
      if (m.own_life == was)
        m.rise(was);
    });
  });
  base::duration took{};
  auto times = run_until_each(1h, is_converged, took, "a healed split");
  report_event(times, took);
}

/// The table alone, as fast as it goes, with somebody who looks.
void table_alone() {
  report_head("The table of node 3 alone");
  std::puts(looker_head);
  auto& t = node_at(2).rows;
  auto& m = *machines[real_count];
  auto n = node_at(2).number_of(m);
  {
    looker by{t};
    std::this_thread::sleep_for(2s);
    by.report("nothing happens");
  }
  std::vector<row> rows;
  for (std::uint32_t b = 0; b < table::bucket_count; ++b)
    t.for_each(n, b, [&](const row& r) { rows.push_back(r); });
  double purge = 0, most = 0, put = 0;
  {
    looker by{t};
    for (bool more = true; more;) {
      auto began = thread_cpu();
      more = !t.purge(n, replica_options{}.purge_slice, [](const row&) {});
      auto used = seconds(thread_cpu() - began);
      purge += used;
      most = std::max(most, used);
    }
    by.report("a dead node's rows are purged, without pause");
  }
  {
    looker by{t};
    auto began = thread_cpu();
    for (auto& r : rows)
      t.put(n, r);
    put = seconds(thread_cpu() - began);
    by.report("as many are put in, without pause");
  }
  double longest = 0;
  std::uint64_t fresh_rows = std::min<std::uint64_t>(given.rows, 2'000'000);
  {
    table fresh;
    for (std::uint64_t i = 0; i < fresh_rows; ++i) {
      auto r = make_row(i, i + 1, i + 1, 0);
      auto began = thread_cpu();
      fresh.put(1, r);
      longest = std::max(longest, seconds(thread_cpu() - began));
    }
  }
  auto each = [&](double s) { return s * 1e6 / number(rows.size()); };
  std::printf("\nTo purge %zu rows: %.3f s of CPU (%.2f µs each; a slice of %zu at most %.2f ms). To put: %.2f µs each.\n", rows.size(), purge,
              each(purge), replica_options{}.purge_slice, most * 1e3, each(put));
  std::printf("Of %lu rows that an empty table gets, the longest to be put took %.2f ms (a shard's index grows).\n", fresh_rows, longest * 1e3);
}

/// Every table is the same as its owners'. `are_found`: differences that digests found, and that were repaired.
void check(bool are_found = false) {
  each_real([are_found](real& r) {
    auto found = r.mesh->rows().count().divergences;
    if (are_found && found)
      std::printf("\nNode %zu: %lu differences found by digest, and repaired.\n", r.index + 1, found);
    if (!has_all(r) || (found && !are_found) || r.mesh->count().malformed || r.mesh->count().hostile)
      give_up("node " + std::to_string(r.index + 1) + " has not all rows, or bad frames, or differences: " + std::to_string(found));
    each_model([&](model& m) {
      if (r.rows.digest(r.number_of(m)) != m.rows.digest(self))
        give_up("tables differ");
    });
  });
}

} // namespace

int main(int argc, char** argv) {
  bool joins = false;
  for (int i = 1; i < argc; ++i) {
    std::string_view option = argv[i];
    if (option == "--quick") {
      given.rows = 100'000;
      given.seconds = 3;
      continue;
    }
    if (option == "--at-once") {
      given.gathers = false;
      continue;
    }
    if (option == "--join") {
      joins = true;
      continue;
    }
    auto value = i + 1 < argc ? std::atof(argv[++i]) : 0;
    if (value > 0 && option == "--rows") given.rows = static_cast<std::uint64_t>(value);
    else if (value >= 5 && value <= 250 && option == "--nodes") given.nodes = static_cast<std::uint64_t>(value);
    else if (value > 0 && option == "--seconds") given.seconds = static_cast<std::uint64_t>(value);
    else if (value > 0 && option == "--changes") given.changes = value;
    else if (value > 0 && option == "--messages") given.messages = value;
    else if (value > 0 && option == "--contacts") given.contacts = value;
    else if (value > 0 && option == "--gbit") given.gbit = value;
    else if (value > 0 && option == "--disk") given.disk_rows = value;
    else {
      std::fputs("usage: hundred_nodes [--quick] [--join] [--at-once] [--rows N] [--nodes 5..250] [--seconds N] [--changes PER_HOUR] [--messages PER_MINUTE]\n"
                 "         [--contacts N] [--gbit N] [--disk ROWS_PER_SECOND]\n", stderr);
      return 2;
    }
  }
  auto sessions = number(given.of_node()), others = number(given.nodes - 1);
  std::printf("%lu nodes, %lu sessions; of each node a second: %.0f changes of rows, %.0f stanzas, %.0f of them messages; %.0f %% go to other nodes.\n",
              given.nodes, given.rows, given.changes_of_node(), given.stanzas_of_node(), sessions * given.messages / 60, 100 * others / number(given.nodes));
  build();
  if (joins) {
    start_from_disk(2);
    join_empty(5min);
    std::_Exit(0);
  }
  start_from_disk(real_count);
  steady("Nothing happens", false, false);
  steady("Changes of rows alone", true, false);
  steady("Stanzas alone", false, true);
  steady("Changes and stanzas", true, true);
  check();
  death();
  check();
  // Its users log in at the others within ten seconds, three changes each.
  steady("All users of the dead node log in within 10 s, and the usual load", true, true, sessions / others * 3 / 10);
  check();
  table_alone();
  split(20s);
  vt.run(10s);
  check(true);
  split(400s);
  vt.run(10s);
  check(true);
  std::printf("\nAt most %.1f GB of memory.\n", rss());
  std::fflush(stdout);
  std::_Exit(0);
}
