// sim --seeds N --first S: that many runs, each from its own seed. sim --seed S: one, with a full trace. As a test: what
// once failed, then 500 seeds, or 10,000 with COVEY_TEST_LONG=1. Ends with "N passed, N failed".
#include "tests/sim/run.hpp"
#include <cstring>
#include <fstream>

namespace {

std::vector<std::uint64_t> once_failed() {
  std::vector<std::uint64_t> seeds;
  std::ifstream in{COVEY_SOURCE_DIR "/tests/sim/failed_seeds.txt"};
  for (std::string line; std::getline(in, line);)
    if (!line.empty() && line[0] != '#')
      seeds.push_back(std::strtoull(line.c_str(), nullptr, 10));
  return seeds;
}

void print(const sim::report& r) {
  auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  const auto& s = r.seen;
  std::printf("seed %llu: %llu nodes, %.0f s, %llu messages, %llu acknowledged, %llu copies, %llu routed again, %llu stored, %llu claimed; "
              "%llu logins, %llu conflicts, %llu crashes, %llu deaths, %llu rebirths, %llu rows purged; %llu lease changes, %llu owners' writes; "
              "%llu frames, %llu bytes, %llu events\n",
              n(r.seed), n(r.nodes), std::chrono::duration<double>(r.virtual_time).count(), n(r.messages), n(r.acknowledged), n(r.copies), n(s.rerouted),
              n(s.stored), n(s.claimed), n(s.logins), n(s.conflicts), n(s.crashes), n(s.deaths), n(s.rebirths), n(s.purged_rows), n(s.lease_changes),
              n(s.lease_writes), n(r.frames), n(r.bytes), n(r.events));
}

} // namespace

int main(int argc, char** argv) {
  std::uint64_t seeds = 0, first = 1, single = 0;
  bool has_single = false, is_verbose = false;
  for (int i = 1; i < argc; ++i) {
    auto value = [&] { return i + 1 < argc ? std::strtoull(argv[++i], nullptr, 10) : 0; };
    if (!std::strcmp(argv[i], "--seeds"))
      seeds = value();
    else if (!std::strcmp(argv[i], "--first"))
      first = value();
    else if (!std::strcmp(argv[i], "--seed"))
      single = value(), has_single = true;
    else if (!std::strcmp(argv[i], "--verbose"))
      is_verbose = true;
    else if (!std::strcmp(argv[i], "--long"))
      seeds = 10'000;
    else {
      std::puts("usage: sim [--seeds N] [--first S] [--long] [--verbose] | --seed S");
      return 2;
    }
  }
  if (has_single) {
    auto r = sim::run{single, true}.go();
    print(r);
    return r.violations.empty() ? 0 : 1;
  }
  std::vector<std::uint64_t> all;
  if (seeds == 0) {
    all = once_failed();
    const char* is_long = std::getenv("COVEY_TEST_LONG");
    seeds = is_long && *is_long ? 10'000 : 500;
  }
  for (std::uint64_t s = 0; s < seeds; ++s)
    all.push_back(first + s);
  std::uint64_t failed = 0;
  for (auto seed : all) {
    auto r = sim::run{seed, false}.go();
    if (is_verbose)
      print(r);
    if (r.violations.empty())
      continue;
    ++failed;
    print(r);
    for (const auto& v : r.violations)
      std::printf("  %s\n", v.c_str());
    std::printf("  again, with a trace: %s --seed %llu\n", argv[0], static_cast<unsigned long long>(seed));
    std::fflush(stdout);
  }
  std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(all.size() - failed), static_cast<unsigned long long>(failed));
  return failed ? 1 : 0;
}
