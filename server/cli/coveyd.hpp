// What needs a database is done by coveyd: this program has none.
#pragma once
#include "base/result.hpp"
#include <functional>
#include <string>
#include <vector>

namespace cli {

/// Runs the one beside this program, or that of PATH, to its end; what it prints comes line by line. Returns its exit status (-1:
/// it was killed). Errors: a text for the operator.
[[nodiscard]] base::result<int, std::string> run_coveyd(std::vector<std::string> words, const std::function<void(const std::string&)>& on_line);

} // namespace cli
