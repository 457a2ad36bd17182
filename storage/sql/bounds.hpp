// Ranges of key bytes as conditions on the key columns of one table.
#pragma once
#include "storage/sql/columns.hpp"

namespace storage::sql {

/// A place between rows: before all that begin with these cells, or after them. No cells: before or after all rows.
struct bound {
  std::vector<std::string> cells; // of the first key columns
  bool is_after = false;
};
/// Keys from `key` on (whole key, with the table's id) are those behind this place.
[[nodiscard]] bound place_of(const sql_table& t, std::string_view key);

/// Its text without "where" (empty: all rows), with arguments from $`first` on. Nothing: no row is in the range.
[[nodiscard]] std::optional<statement> condition(const sql_table& t, const key_range& range, std::size_t first);

/// Tables that may have rows in the range, by id; the one of all others last.
[[nodiscard]] std::vector<const sql_table*> tables_in(const sql_tables& all, const key_range& range);

} // namespace storage::sql
