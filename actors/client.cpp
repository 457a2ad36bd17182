// Supervision of one client: describe, kick, the node's shutdown.
#include "actors/client.hpp"
#include "actors/connection.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"

namespace actors {

namespace {
struct client_state {
  static inline const char* name = "client";
  light_id stream = 0;
};
using client_self = caf::stateful_actor<client_state, pinned<client_ref::base>>;

client_ref::behavior_type run_client(client_self* self, light_id stream) {
  self->state.stream = stream;
  auto close = [self](xmpp::stream_errc why, std::string text) {
    auto& h = self->home().lights();
    h.post<actors::stream>(h.index(), self->state.stream,
                           [why, text = std::move(text)](actors::stream& s) { s.close(why, text); });
  };
  self->set_exit_handler([self, close](caf::exit_msg&) { close(xmpp::stream_errc::system_shutdown, {}); });
  return {
      [self](describe) -> caf::result<session_info> {
        auto& h = self->home().lights();
        auto* s = h.find<actors::stream>(self->state.stream);
        auto* bound = s ? h.find<session>(s->session()) : nullptr;
        if (!bound || !bound->is_bound())
          return caf::sec::invalid_argument; // no session yet, or no longer
        return bound->describe();
      },
      [close](const kick& k) { close(k.why, k.text); },
      [self](client_over) { self->quit(); },
  };
}
} // namespace

client_ref spawn_client(reactor& at, light_id stream) {
  return at.spawn(run_client, stream);
}

} // namespace actors
