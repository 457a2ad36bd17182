// What a burst of logins leaves in the heap goes back to the system once the server is quiet: glibc by itself keeps it.
#pragma once
#include "base/clock.hpp"

namespace server {

/// One thread at a time.
class heap_keeper {
public:
  /// Call it every half a minute or so. True: memory was given back. Does nothing while the process has been busy since the
  /// last call, for every thread waits while its arena is looked through.
  bool tend(base::time_point now);

private:
  base::time_point last_{};
  double cpu_ = 0, cpu_at_trim_ = 0; // seconds, then
};

} // namespace server
