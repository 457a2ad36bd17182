// XML of clients that is kept for them.
#pragma once
#include "modules/api/errors.hpp"
#include "xmpp/element.hpp"
#include <optional>

namespace modules {

/// The element as it is kept. Nothing: written anew it could not be sent again (more namespaces or attributes than the
/// framer takes).
[[nodiscard]] std::optional<std::string> to_stored(const xmpp::element& el);

} // namespace modules
