// The CAF actor that hosts one client's connection, stream and session: what is rare or wants an
// answer. No stanza comes here, nor anything whose order against stanzas matters.
#pragma once
#include "actors/light.hpp"
#include "actors/reactor.hpp"
#include "actors/session_info.hpp"
#include "xmpp/errors.hpp"
#include <string>

namespace actors {

struct describe {};
struct kick { xmpp::stream_errc why; std::string text; };
struct client_over {}; // connection and stream are gone, and no session waits for another

} // namespace actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(actors::session_info)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(actors::describe)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(actors::kick)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(actors::client_over)

namespace actors {

using client_ref = caf::typed_actor<caf::replies_to<describe>::with<session_info>,
                                    caf::reacts_to<kick>, caf::reacts_to<client_over>>;

/// Spawned on the reactor that the connection was dealt to. An exit message (shutdown of the node)
/// ends the stream with `system-shutdown`.
client_ref spawn_client(reactor& at, light_id stream);

} // namespace actors
