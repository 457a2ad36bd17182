// What metrics show of the server and its process beside what is counted where it happens (docs/metrics.md).
#pragma once
#include <memory>

namespace server {

class runner;

/// Reads the running server when somebody looks, until it is destroyed: that before the runner ends.
class watch {
public:
  explicit watch(runner& r);
  ~watch();
  watch(const watch&) = delete;

private:
  struct target;
  std::shared_ptr<target> target_;
};

} // namespace server
