// /metrics, /livez, /readyz and /readyz/alone, on a loop and thread of their own, so that they answer while reactors do not.
#pragma once
#include "base/result.hpp"
#include "server/config/config.hpp"
#include <memory>
#include <string>
#include <vector>

namespace server {

class runner;

class health {
public:
  explicit health(runner& r);
  ~health();
  /// Errors: a text for the operator.
  [[nodiscard]] base::result<void, std::string> listen(const std::vector<listen_at>& all);
  void close();
  /// What /livez says: every reactor answered within the last 10 s. Any thread.
  [[nodiscard]] bool is_alive() const;

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace server
