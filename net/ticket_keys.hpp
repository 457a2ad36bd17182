// The keys under which TLS sessions are handed to clients (RFC 5077, RFC 8446 section 4.6.1): made at
// random, changed after a while, taken for one while longer, then forgotten. They are nowhere on disk.
#pragma once
#include "base/clock.hpp"
#include "base/random.hpp"
#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace net {

/// Any thread.
class ticket_keys {
public:
  struct key {
    std::uint64_t id = 0;
    std::array<std::uint8_t, 32> cipher{}, mac{};
  };
  ticket_keys(base::random& random, base::duration rotation) : random_(random), rotation_(rotation) {}
  ~ticket_keys();
  ticket_keys(const ticket_keys&) = delete;

  /// Keys that other nodes have, too, instead of own ones from now on: the first is for new tickets. Whoever calls this
  /// does the rotation.
  void share(std::vector<key> all);
  /// The one for new tickets: never older than the rotation.
  [[nodiscard]] key current(base::time_point now);
  struct found { key with; bool is_current; };
  /// Of a ticket that came: nothing when it is older than twice the rotation, or was never ours.
  [[nodiscard]] std::optional<found> find(std::uint64_t id, base::time_point now);
  [[nodiscard]] base::duration rotation() const { return rotation_; }

private:
  struct kept { key k; base::time_point since; };
  void forget_old(base::time_point now);
  void forget_shared();
  base::random& random_;
  const base::duration rotation_;
  std::mutex mutex_; // one look per handshake
  std::vector<kept> keys_; // oldest first; two, while tickets are asked for
  std::vector<key> shared_;
};

} // namespace net
