// What `top -H` and a debugger call a thread.
#pragma once
#include <algorithm>
#include <pthread.h>
#include <string>

namespace base {

/// The calling thread's; at most 15 bytes of it are kept.
inline void name_thread(std::string name) {
  constexpr std::size_t most = 15; // pthread_setname_np(3)
  name.resize(std::min(name.size(), most));
  pthread_setname_np(pthread_self(), name.c_str());
}

} // namespace base
