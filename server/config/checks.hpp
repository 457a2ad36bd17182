// What a configuration needs of the machine: files, folders, ports.
#pragma once
#include "server/config/load.hpp"
#include <functional>

namespace server {

[[nodiscard]] bool is_address(const std::string& text);

/// Where a key stands in the file, for the problem's place.
using place_finder = std::function<problem(const std::string& key, const std::string& host)>;

/// Certificates (there, readable, fitting, valid now, naming the host), folders (writable), ports (free).
/// Opens nothing for longer than the check.
void check_machine(loaded& l, bool with_ports, const place_finder& place);

} // namespace server
