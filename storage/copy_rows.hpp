// All rows of one engine into another that has none.
#pragma once
#include "storage/engine.hpp"

namespace storage {

/// Errors: a text for the operator (it has rows, or cannot be read).
[[nodiscard]] base::result<void, std::string> check_empty(engine& to);
/// Copies, then reads both and compares row by row. The schema's row comes last: what was interrupted is no database that a server
/// takes. Versions begin anew. `on_progress`: rows so far, of both passes. Returns how many rows there are. Nothing else may use
/// either meanwhile; blocks. Errors: a text for the operator (the target has rows; a row that it cannot hold, or that came out
/// differently; an engine that does not answer).
[[nodiscard]] base::result<std::uint64_t, std::string> copy_rows(engine& from, engine& to, const std::function<void(std::uint64_t)>& on_progress);

} // namespace storage
