// The engine on PostgreSQL: real columns, one transaction and one round trip for a whole group (docs/storage.md).
#pragma once
#include "base/clock.hpp"
#include "storage/engine.hpp"
#include "storage/table.hpp"
#include <span>

namespace storage {

struct sql_options {
  std::string connection;      // libpq's: keywords or URI, several hosts
  std::size_t readers = 2;     // connections beside the writer's
  base::duration patience = std::chrono::seconds{30}; // a database that is away is waited for, before all is `unavailable`
  base::duration deadline = std::chrono::seconds{10}; // of one transaction; the connection ends then
  std::span<const table* const> tables = {};          // empty: storage::tables::all. Lives as long as the engine
};

/// Connects, and makes or completes the tables. One engine for one database: its committer and readers share it. A lost answer
/// is looked after before commit() returns: `unknown` only if the database stayed away. Blocks. Errors: a text for the operator
/// that says what to do; it never has the password in it.
[[nodiscard]] base::result<std::unique_ptr<engine>, std::string> open_sql(const sql_options& o);

/// What a look at a database tells, without changing anything.
struct sql_state {
  std::string text;       // "PostgreSQL 15.18 at db1 5432, 1 synchronous standby"
  bool is_durable = true; // false: fsync or full_page_writes is off, so that a crash of its machine loses what was acknowledged
};
/// Connects, asks, goes. Blocks. Errors: a text without the password.
[[nodiscard]] base::result<sql_state, std::string> look_at_sql(const std::string& connection);

} // namespace storage
