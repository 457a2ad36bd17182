// Up to which stanza the server had handled what a session sent, for a client that comes too late to resume it
// (XEP-0198 section 5, `h` of <failed/>).
#pragma once
#include "xmpp/jid.hpp"
#include <boost/unordered/unordered_flat_map.hpp>
#include <mutex>
#include <optional>

namespace actors {

/// Of the last sessions that ended and could have been resumed; bounded. Any thread.
class ended_sessions {
public:
  explicit ended_sessions(std::size_t most = 16'384) : most_(most) {}

  void note(std::uint64_t session, const xmpp::jid& bare, std::uint32_t handled) {
    std::lock_guard guard{mutex_};
    if (now_.size() >= most_) { // two generations
      before_.swap(now_);
      now_.clear();
    }
    now_[session] = {bare.hash(), handled};
  }
  /// Nothing: unknown, forgotten, or another account's.
  [[nodiscard]] std::optional<std::uint32_t> find(std::uint64_t session, const xmpp::jid& bare) const {
    std::lock_guard guard{mutex_};
    for (auto* all : {&now_, &before_})
      if (auto i = all->find(session); i != all->end())
        return i->second.account == bare.hash() ? std::optional{i->second.handled} : std::nullopt;
    return std::nullopt;
  }

private:
  struct last_words {
    std::uint64_t account; // hash of the bare JID
    std::uint32_t handled;
  };
  const std::size_t most_;
  mutable std::mutex mutex_;
  boost::unordered_flat_map<std::uint64_t, last_words> now_, before_;
};

} // namespace actors
