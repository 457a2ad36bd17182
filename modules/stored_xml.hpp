// XML of clients that is kept for them, and what a client is told when the store fails.
#pragma once
#include "storage/engine.hpp"
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <optional>

namespace modules {

/// The element as it is kept. Nothing: written anew it could not be sent again (more namespaces or attributes than the
/// framer takes).
[[nodiscard]] std::optional<std::string> to_stored(const xmpp::element& el);

[[nodiscard]] xmpp::stanza_error error_of(storage::errc e);
[[nodiscard]] xmpp::stanza_error error_of(storage::outcome o);

} // namespace modules
