// What a text column can hold: UTF-8 without NUL (RFC 3629: no surrogates, nothing above 10FFFF, shortest forms).
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace storage::sql {

/// Bytes at the beginning of `s` that a text column can hold.
[[nodiscard]] std::size_t valid_prefix(std::string_view s);
[[nodiscard]] inline bool is_storable(std::string_view s) { return valid_prefix(s) == s.size(); }
/// The smallest storable text that is not below `s`, by bytes. Nothing: there is none.
[[nodiscard]] std::optional<std::string> text_from(std::string_view s);

} // namespace storage::sql
