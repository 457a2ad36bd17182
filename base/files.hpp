// Whole files.
#pragma once
#include <optional>
#include <string>

namespace base {

/// All of it. Nothing: it cannot be read. For small files: it blocks, and knows no limit.
[[nodiscard]] std::optional<std::string> read_file(const std::string& path);

} // namespace base
