// The id of a session that can be resumed (XEP-0198 section 5): opaque to clients, and made by nobody else. Where the
// session lives is not in it: the registry knows, however often it has moved.
#pragma once
#include "base/bytes.hpp"
#include <optional>
#include <string>

namespace actors {

[[nodiscard]] std::string resumption_text(std::uint64_t session, const base::siphash_key& key);
/// The session's id. Null: we did not write this.
[[nodiscard]] std::optional<std::uint64_t> parse_resumption(std::string_view text, const base::siphash_key& key);

} // namespace actors
