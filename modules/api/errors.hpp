// What a client is told when the store fails.
#pragma once
#include "storage/engine.hpp"
#include "xmpp/errors.hpp"

namespace modules {

[[nodiscard]] inline xmpp::stanza_error error_of(storage::errc e) {
  if (e == storage::errc::corrupt)
    return {xmpp::stanza_errc::internal_server_error, xmpp::error_type::cancel, "stored data is damaged"};
  return {xmpp::stanza_errc::resource_constraint, xmpp::error_type::wait, "the storage does not answer"};
}

[[nodiscard]] inline xmpp::stanza_error error_of(storage::outcome o) {
  return error_of(o == storage::outcome::corrupt ? storage::errc::corrupt : storage::errc::unavailable);
}

} // namespace modules
