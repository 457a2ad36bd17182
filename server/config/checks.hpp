// What a configuration needs of the machine: files, folders, ports.
#pragma once
#include "server/config/values.hpp"

namespace server {

/// An IPv4 or IPv6 address, without brackets.
[[nodiscard]] bool is_address(const std::string& text);
/// Whether sockets of IPv6 can be bound here at all.
[[nodiscard]] bool has_ipv6();

/// Certificates (there, readable, fitting, valid now, naming the host), folders (writable), ports (free).
/// Opens nothing for longer than the check.
void check_machine(loaded& l, bool with_ports, value_table& values);

} // namespace server
