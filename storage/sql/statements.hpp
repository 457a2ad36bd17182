// The SQL of one table (docs/storage.md). $1 and $2 of what changes rows are the batch's id: nothing is done without it.
#pragma once
#include "storage/sql/columns.hpp"

namespace storage::sql {

/// Keys of one statement, column by column, with what else each row has.
class key_rows {
public:
  explicit key_rows(const sql_table& t) : columns_(t.key().size()) {}
  void add(std::vector<std::string> key) {
    for (std::size_t i = 0; i < columns_.size(); ++i)
      columns_[i].emplace_back(std::move(key[i]));
  }
  [[nodiscard]] bool is_empty() const { return columns_.front().empty(); }
  [[nodiscard]] std::size_t size() const { return columns_.front().size(); }
  [[nodiscard]] const std::vector<std::vector<cell>>& columns() const { return columns_; }

private:
  std::vector<std::vector<cell>> columns_;
};

/// Texts without arguments; $3 … are arrays of the key columns, then of the others.
class table_statements {
public:
  explicit table_statements(const sql_table& t);
  [[nodiscard]] const sql_table& table() const { return table_; }

  std::string upsert; // keys, value columns
  std::string create; // the same, where the row must be absent: an error if it is not
  std::string erase;  // keys
  std::string claim;  // keys: makes rows that must be absent, so that nobody else can; erase takes them away again
  std::string lock;   // keys from $1 on: existing rows, in their order
  /// Whether so many rows have the versions (keys from $`first` on, then versions), and whether these rows are absent.
  [[nodiscard]] std::string has_versions(std::size_t first) const;
  [[nodiscard]] std::string are_absent(std::size_t first) const;
  /// Rows of a condition (storage/sql/bounds.hpp), whose arguments follow $1, the limit.
  [[nodiscard]] std::string select(const std::string& condition, order o) const;
  /// Those of a condition, whose arguments follow $2.
  [[nodiscard]] std::string erase_where(const std::string& condition) const;

private:
  [[nodiscard]] std::string unnest(std::size_t first, bool with_values, const char* more = "") const;
  [[nodiscard]] std::string same_key(const char* of, const char* as) const;
  const sql_table& table_;
};

/// The keys as arguments: one array for each column.
[[nodiscard]] std::vector<std::string> arrays(const sql_table& t, const key_rows& keys);
/// Value columns likewise. `rows`: cells of each.
[[nodiscard]] std::vector<std::string> arrays(const sql_table& t, const std::vector<std::vector<cell>>& rows);

inline constexpr const char* if_open = " where exists (select 1 from batch_log where node = $1 and seq = $2)";

} // namespace storage::sql
