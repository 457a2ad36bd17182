// The tables in the database: made, completed, checked.
#pragma once
#include "storage/sql/columns.hpp"

namespace storage::sql {

/// Of the tables as they stand here. 1: those of docs/storage.md.
inline constexpr std::int64_t layout_version = 1;

/// Makes what is not there (tables, and columns that a declaration got since) and notes the version; changes nothing where all is
/// there, so that a user without the right to create tables will do. Errors: a text for the operator (a newer covey's layout,
/// tables of somebody else, rights that are missing, another encoding than UTF-8).
[[nodiscard]] base::result<void, std::string> provide_layout(connection& c, const sql_tables& tables, base::time_point deadline,
                                                             std::int64_t version = layout_version);

} // namespace storage::sql
