// sim_nodes --seeds FROM COUNT: that many runs, each from its own seed. sim_nodes --seed N [--trace]: one. As a test: what once
// failed, then 100 seeds and 50 that trouble links, or 2,000 and 1,000 with COVEY_TEST_LONG=1; some of them twice, as a seed must decide everything.
// Ends with "N passed, N failed".
#include "base/log.hpp"
#include "tests/sim_nodes/run.hpp"
#include <algorithm>
#include <cstring>
#include <fstream>

namespace base {
std::uint64_t simulated_hash_seed();
std::uint64_t simulated_hash_seed() { return 0x636f766579; }
} // namespace base

namespace {

constexpr std::uint64_t short_count = 100, long_count = 2'000, twice_every = 20;

std::vector<std::uint64_t> read_seeds(const char* file) {
  std::vector<std::uint64_t> seeds;
  std::ifstream in{std::string{COVEY_SOURCE_DIR "/tests/sim_nodes/"} + file};
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#')
      seeds.push_back(std::strtoull(line.c_str(), nullptr, 10));
  return seeds;
}

unsigned long long n(std::uint64_t v) { return v; }

void print(const sim_nodes::report& r) {
  const auto& s = r.seen;
  std::uint64_t acknowledged = 0, copies = 0, bounced = 0, resent = 0;
  for (const auto& m : s.messages) {
    acknowledged += m.is_acknowledged;
    copies += m.copies.size();
    bounced += m.is_bounced;
    resent += m.is_resent;
  }
  std::printf("seed %llu: %zu nodes, %zu clients, %.0f s, %zu messages, %llu acknowledged, %llu bounced, %llu sent again, %llu copies; %zu announcements; "
              "%llu logins, %llu resumptions, %llu refused, %llu conflicts; %llu kills, %llu stops, %llu pauses, %llu splits; %llu frames, %llu bytes, %llu events, hash %016llx\n",
              n(r.seed), r.nodes, r.clients, std::chrono::duration<double>(r.virtual_time).count(), s.messages.size() - 1, n(acknowledged), n(bounced), n(resent),
              n(copies), s.announcements.size() - 1, n(s.logins), n(s.resumptions), n(s.refused_resumptions), n(s.conflicts), n(s.kills), n(s.stops), n(s.pauses),
              n(s.splits), n(r.frames), n(s.bytes), n(r.events), n(s.hash));
}

bool fails(std::uint64_t seed, bool is_verbose, bool traces, const char* program) {
  auto r = sim_nodes::run{seed, traces}.go();
  if (is_verbose || traces || !r.seen.violations.empty())
    print(r);
  for (const auto& v : r.seen.violations)
    std::printf("  %s\n", v.c_str());
  if (!r.seen.violations.empty())
    std::printf("  again, with a trace: %s --seed %llu --trace\n", program, n(seed));
  std::fflush(stdout);
  return !r.seen.violations.empty();
}

/// What two runs of one seed say differs: something but the seed decides.
bool differs(std::uint64_t seed, const char* program) {
  auto first = sim_nodes::run{seed, false}.go().seen.hash, second = sim_nodes::run{seed, false}.go().seen.hash;
  if (first != second)
    std::printf("seed %llu: two runs differ, %016llx and %016llx\n  again: %s --twice %llu\n", n(seed), n(first), n(second), program, n(seed));
  return first != second;
}

} // namespace

int main(int argc, char** argv) {
  std::uint64_t count = 0, first = 1, single = 0, twice = 0;
  bool has_single = false, is_verbose = false, traces = false, logs = false;
  for (int i = 1; i < argc; ++i) {
    auto value = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (!std::strcmp(argv[i], "--seeds"))
      first = value(), count = value();
    else if (!std::strcmp(argv[i], "--seed"))
      single = value(), has_single = true;
    else if (!std::strcmp(argv[i], "--twice"))
      twice = value();
    else if (!std::strcmp(argv[i], "--trace"))
      traces = true;
    else if (!std::strcmp(argv[i], "--log"))
      logs = true;
    else if (!std::strcmp(argv[i], "--verbose"))
      is_verbose = true;
    else if (!std::strcmp(argv[i], "--long"))
      count = long_count;
    else {
      std::puts("usage: sim_nodes [--seeds FROM COUNT] [--long] [--verbose] | --seed N [--trace] [--log] | --twice N");
      return 2;
    }
  }
  base::log::set_level(logs ? base::log::level::debug : base::log::level::error);
  if (has_single)
    return fails(single, true, traces, argv[0]) ? 1 : 0;
  if (twice)
    return differs(twice, argv[0]) ? 1 : 0;
  std::vector<std::uint64_t> all, open;
  bool is_test = count == 0;
  if (is_test) {
    all = read_seeds("failed_seeds.txt");
    open = read_seeds("open_seeds.txt");
    const char* is_long = std::getenv("COVEY_TEST_LONG");
    count = is_long && *is_long ? long_count : short_count;
  }
  auto add = [&](std::uint64_t from, std::uint64_t how_many) {
    for (std::uint64_t s = from; s < from + how_many; ++s)
      if (std::find(open.begin(), open.end(), s) == open.end())
        all.push_back(s);
  };
  add(first, count);
  if (is_test)
    add(sim_nodes::first_about_links, count / 2);
  std::uint64_t failed = 0;
  for (std::size_t k = 0; k < all.size(); ++k)
    failed += fails(all[k], is_verbose, false, argv[0]) || (k % twice_every == 0 && differs(all[k], argv[0]));
  if (!open.empty())
    std::printf("%zu seeds were left out: tests/sim_nodes/open_seeds.txt\n", open.size());
  std::printf("%llu passed, %llu failed\n", n(all.size() - failed), n(failed));
  return failed ? 1 : 0;
}
