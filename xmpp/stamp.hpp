// XEP-0082 dates, and the delay element of XEP-0203.
#pragma once
#include "base/clock.hpp"
#include "xmpp/element.hpp"
#include <string>

namespace xmpp {

/// "2026-01-31T12:34:56.789Z" (XEP-0082 section 3.2).
[[nodiscard]] std::string stamp(base::wall_time t);
/// `<delay xmlns='urn:xmpp:delay' from='…' stamp='…'/>`
[[nodiscard]] std::string delay(base::wall_time t, std::string_view from);

} // namespace xmpp
