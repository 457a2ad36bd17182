// Reads: any thread, each with a connection of its own.
#pragma once
#include "storage/sql/group.hpp"
#include "storage/sql/pool.hpp"

namespace storage::sql {

class reader {
public:
  reader(const catalogue& c, pool& p, base::duration deadline) : all_(c), pool_(p), deadline_(deadline) {}
  /// As engine::scan. A lost connection is replaced, and the read done again.
  [[nodiscard]] base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit);
  /// As engine::snapshot: one file, `rows` (storage/rows_file.hpp), of one transaction.
  [[nodiscard]] base::result<void, errc> copy(const std::string& folder);

private:
  using rows = std::vector<row>;
  /// Nothing: the connection is lost. `state`: SQLSTATE of an error.
  std::optional<base::result<rows, errc>> scan_on(connection& c, const key_range& range, order o, std::size_t limit, std::string& state) const;
  base::result<rows, errc> read_table(const sql_table& t, const reply& r) const;

  const catalogue& all_;
  pool& pool_;
  const base::duration deadline_;
};

/// Of an error that is not the connection's: corrupt or unavailable; into the log.
[[nodiscard]] errc told_error(const replies& r);

} // namespace storage::sql
