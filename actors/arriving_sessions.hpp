// Which sessions are on their way here from another node (session_handover.cpp): a client that loses its connection meanwhile may ask
// for the same session by another connection to this node, and what is handed over must not be parted between the two.
#pragma once
#include <cstdint>
#include <mutex>
#include <unordered_set>

namespace actors {

/// Of one node. Any thread.
class arriving_sessions {
public:
  /// False: another of this node's asks for that session, and has not been answered yet.
  [[nodiscard]] bool begin(std::uint64_t session) {
    std::lock_guard guard{mutex_};
    return now_.insert(session).second;
  }
  void end(std::uint64_t session) {
    std::lock_guard guard{mutex_};
    now_.erase(session);
  }

private:
  std::mutex mutex_;
  std::unordered_set<std::uint64_t> now_;
};

} // namespace actors
