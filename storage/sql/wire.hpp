// PostgreSQL's binary forms.
#pragma once
#include "storage/sql/connection.hpp"
#include <span>
#include <string_view>

namespace storage::sql::wire {

[[nodiscard]] std::string number(std::int64_t v); // bigint
[[nodiscard]] std::string flag(bool v);
/// Errors of all that read: nothing, where it is not of this form.
[[nodiscard]] std::optional<std::int64_t> read_number(const cell& c);
/// µs since 1970; the ends of int64 are -infinity and infinity. Nothing: years that PostgreSQL does not know.
[[nodiscard]] std::optional<std::string> time(std::int64_t us);
[[nodiscard]] std::optional<std::int64_t> read_time(const cell& c);
/// One dimension. `element`: OID of the type.
[[nodiscard]] std::string array(std::span<const cell> cells, std::uint32_t element);
[[nodiscard]] std::string numbers(std::span<const std::int64_t> all);
/// As text, since arrays of arrays must be rectangles: {"a","b"}.
[[nodiscard]] std::string text_list(std::span<const std::string> all);
[[nodiscard]] std::optional<std::vector<std::string>> read_text_list(const cell& c);

inline constexpr std::uint32_t of_boolean = 16, of_bytea = 17, of_bigint = 20, of_text = 25, of_time = 1184, of_uuid = 2950;

} // namespace storage::sql::wire
