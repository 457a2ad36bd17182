// The tick of a reactor's watch.
#include "actors/keepalive.hpp"
#include "actors/connection.hpp"
#include "actors/home.hpp"

namespace actors {

void watch_keeper::put(light_id connection, std::chrono::seconds in) {
  auto ticks = std::min<std::int64_t>(in.count(), net::coarse_wheel::longest); // early: it asks again
  wheel_.put(connection, static_cast<std::uint32_t>(ticks));
  if (!timer_.is_armed())
    tick();
}

void watch_keeper::tick() {
  home_.loop().arm(timer_, std::chrono::seconds{1}, [this] {
    ++seconds_;
    wheel_.tick([this](light_id id) {
      home_.guard(id, [this, id] { home_.find<connection>(id)->on_watch(); });
    });
    if (!wheel_.is_empty() && !timer_.is_armed())
      tick();
  });
}

} // namespace actors
