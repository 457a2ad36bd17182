// Completion scripts, made from the commands themselves.
#pragma once
#include <string>

namespace CLI { class App; }

namespace cli {

/// `shell`: bash, zsh or fish.
[[nodiscard]] std::string completion(const CLI::App& app, const std::string& shell);

} // namespace cli
