// Looks after bound connections that are silent (RFC 6120 section 4.6): one wheel for all of a reactor.
#pragma once
#include "actors/light.hpp"
#include "net/coarse_wheel.hpp"
#include "net/timers.hpp"
#include <chrono>

namespace actors {

class home;

/// What a host does about clients of which nothing is heard.
struct keepalive {
  enum class means : std::uint8_t {
    none,
    tcp,        // the kernel asks: no byte of XMPP, no work here
    whitespace, // one byte to the client (section 4.6.1); the kernel sees whether it arrives
    ping,       // XEP-0199 to the client: proven from end to end, also through proxies
  };
  means by = means::tcp;
  std::chrono::seconds interval{300}; // of silence, then it is asked
  std::chrono::seconds timeout{120};  // then the connection is dead
};

/// Of one reactor. Counts seconds while there is somebody to look after.
class watch_keeper {
public:
  explicit watch_keeper(home& h) : home_(h) {}
  /// Calls connection::on_watch after about so many seconds, if it lives then.
  void put(light_id connection, std::chrono::seconds in);
  [[nodiscard]] std::uint32_t now() const { return seconds_; }

private:
  void tick();
  home& home_;
  net::coarse_wheel wheel_;
  std::uint32_t seconds_ = 0;
  net::timer timer_;
};

} // namespace actors
