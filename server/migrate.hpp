// A node's rows from one engine to another, while no server runs (docs/operation.md).
#pragma once
#include "server/config/config.hpp"
#include <functional>

namespace server {

/// `from`, `to`: "rocksdb" (that of the data folder), "postgresql" (the one that the configuration names) or "postgresql:DOMAIN" (that
/// host's). `from` may be a file of rows of a backup, too. The source stays as it is. Returns how many rows there are. Blocks.
/// Errors: a text for the operator.
[[nodiscard]] base::result<std::uint64_t, std::string> migrate(const config& c, const std::string& from, const std::string& to,
                                                               const std::function<void(std::uint64_t)>& on_progress);

} // namespace server
