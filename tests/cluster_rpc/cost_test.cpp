// What a stanza costs on a link, both ends together. Not a test of anything: run it with -ns -tc="cost*".
#include "tests/cluster_rpc/nodes.hpp"
#include <cstdio>
#include <sys/resource.h>

using namespace rpc_tests;

namespace {
double cpu_us() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  auto of = [](const timeval& t) { return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_usec); };
  return of(u.ru_utime) + of(u.ru_stime);
}
struct meter {
  double cpu = cpu_us();
  std::chrono::steady_clock::time_point began = std::chrono::steady_clock::now();
  void say(const char* what, double stanzas) const {
    auto wall = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count();
    std::printf("%-50s %6.2f us CPU, %6.2f us wall a stanza\n", what, (cpu_us() - cpu) / stanzas, wall / stanzas);
    std::fflush(stdout);
  }
};
std::size_t threads() {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{"/proc/self/task"}, std::filesystem::directory_iterator{}));
}
} // namespace

TEST_CASE("cost of a stanza" * doctest::skip()) {
  home h;
  folder files;
  ca authority;
  std::printf("threads before: %zu\n", threads());
  node a{h, files, authority, "a"}, b{h, files, authority, "b"};
  a.dial(b);
  REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
  std::printf("threads with two nodes: %zu\n", threads());
  auto link = a.link_to("b");
  std::uint64_t got = 0;
  b.on_frames = [&](wire::link_id, std::vector<std::string>& some) {
    for (auto& f : some)
      got += f.size() / 200;
  };
  constexpr std::size_t n = 1'280'000;
  auto stream = [&](const char* what, std::size_t per_frame, std::size_t count) {
    got = 0;
    std::string frame(200 * per_frame, 'x');
    meter m;
    for (std::size_t i = 0; i < count; i += per_frame)
      while (a.service->send(link, frame) == wire::sent::full)
        h.run_for(1ms);
    REQUIRE(h.until([&] { return got == count; }, 30s));
    m.say(what, static_cast<double>(count));
  };
  for (int round = 0; round < 2; ++round) {
    stream("64 in one frame, as fast as it goes", 64, n);
    stream("one in a frame, as fast as it goes", 1, n);
  }
  // a turn at a time: 64 stanzas, then the next when they have come
  auto turns = [&](const char* what, std::size_t frames, std::size_t per_frame, std::size_t rounds) {
    std::string frame(200 * per_frame, 'x');
    meter m;
    for (std::size_t r = 0; r < rounds; ++r) {
      got = 0;
      for (std::size_t i = 0; i < frames; ++i)
        (void)a.service->send(link, frame);
      REQUIRE(h.until([&] { return got == frames * per_frame; }));
    }
    m.say(what, static_cast<double>(rounds * frames * per_frame));
  };
  turns("a turn of 64 in one frame, then wait", 1, 64, 20'000);
  turns("a turn of 64 frames, then wait", 64, 1, 20'000);
  turns("alone: one, then wait", 1, 1, 50'000);
}
