// What a service manager (systemd) wants to know: ready, alive, stopping.
#pragma once
#include <chrono>
#include <string>

namespace server {

/// Sends `state` ("READY=1") to the socket that NOTIFY_SOCKET names, as sd_notify(3) describes it. Does
/// nothing where there is none. Never waits.
void tell_service_manager(const std::string& state);

/// How often "WATCHDOG=1" is wanted (half of WATCHDOG_USEC); zero: not at all.
[[nodiscard]] std::chrono::milliseconds watchdog_interval();

} // namespace server
