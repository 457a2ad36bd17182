// How answers of the storage's threads come back: one call per group and target.
#pragma once
#include "storage/engine.hpp"

namespace storage {

using on_outcome = std::function<void(outcome)>;
using on_rows = std::function<void(base::result<std::vector<row>, errc>)>;
using on_row = std::function<void(base::result<std::optional<row>, errc>)>;

/// Where continuations run: a reactor. Outlives what was asked in its name.
class completion_target {
public:
  virtual ~completion_target() = default;
  /// Called on a thread of the storage, once for each group that has answers for this target. It
  /// must not block; the answers are run in this order.
  virtual void post(std::vector<std::function<void()>> answers) = 0;
};

struct answer_to {
  on_outcome then;
  completion_target* target = nullptr; // null: at once, on the thread of the storage
};

/// Gathers the answers of one group by target. One thread.
class answers {
public:
  /// A null `run` is dropped.
  void add(completion_target* to, std::function<void()> run);
  /// Runs and posts everything gathered; empty afterwards. An exception from a continuation ends
  /// there, and is logged.
  void send();

private:
  struct group { completion_target* to; std::vector<std::function<void()>> runs; };
  std::vector<group> groups_; // few: one per reactor
};

} // namespace storage
