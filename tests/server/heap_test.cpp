// The heap goes back to the system when the server is quiet, and only then.
#include "server/heap.hpp"
#include <ctime>
#include <doctest/doctest.h>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // the sanitizers bring a heap of their own
using namespace std::chrono_literals;

namespace {
std::size_t resident_kb() {
  std::ifstream in{"/proc/self/status"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("RssAnon:"))
      return std::stoul(line.substr(8));
  return 0;
}
} // namespace

TEST_CASE("heap: what a burst left is given back in quiet, and not while there is work") {
  server::heap_keeper heap;
  base::time_point now{1h};
  std::vector<std::unique_ptr<char[]>> burst;
  for (auto until = std::clock() + CLOCKS_PER_SEC; std::clock() < until;) { // a second of work
    burst.clear();
    for (int n = 0; n < 100'000; ++n)
      burst.push_back(std::make_unique<char[]>(500));
  }
  auto last = std::move(burst.back()); // on top of all that is freed: by itself glibc gives nothing back
  burst.clear();
  auto before = resident_kb();
  CHECK_FALSE(heap.tend(now)); // nothing is known yet
  CHECK_FALSE(heap.tend(now + 1us)); // all of it was work
  CHECK(resident_kb() + 20'000 > before);
  CHECK(heap.tend(now + 1h));
  CHECK(resident_kb() + 30'000 < before);
  CHECK_FALSE(heap.tend(now + 2h)); // nothing happened since
}
#endif
