// malloc_trim() costs a few ms per 100 MB, so only where there is much to gain.
#include "server/heap.hpp"
#include <malloc.h>
#include <sys/resource.h>

namespace server {

namespace {
constexpr double busy = 0.2;               // of one core
constexpr double work = 0.5;               // seconds of processor time, before it is looked at again
constexpr std::size_t worth_it = 4u << 20; // bytes that are free

double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(u.ru_utime) + seconds(u.ru_stime);
}
} // namespace

bool heap_keeper::tend(base::time_point now) {
  auto cpu = cpu_seconds();
  auto wall = std::chrono::duration<double>(now - last_).count();
  bool is_quiet = last_ != base::time_point{} && cpu - cpu_ < busy * wall;
  last_ = now;
  cpu_ = cpu;
  if (!is_quiet || cpu - cpu_at_trim_ < work)
    return false;
  cpu_at_trim_ = cpu;
#ifdef __GLIBC__
  auto heap = mallinfo2();
  if (heap.fordblks < worth_it || heap.fordblks < heap.uordblks / 16)
    return false;
  return malloc_trim(0) == 1;
#else
  return false;
#endif
}

} // namespace server
