// A group of batches as one transaction in one pipeline.
#pragma once
#include "storage/sql/statements.hpp"
#include <map>

namespace storage::sql {

/// The tables with their statements.
class catalogue {
public:
  explicit catalogue(std::span<const table* const> declared);
  [[nodiscard]] const sql_tables& tables() const { return tables_; }
  [[nodiscard]] const table_statements& of(const sql_table& t) const { return *statements_.at(&t); }

private:
  sql_tables tables_;
  std::map<const sql_table*, std::unique_ptr<table_statements>> statements_;
};

/// Batches under one id in batch_log: one with preconditions, or neighbours that have none.
struct unit {
  std::int64_t seq = 0;
  std::vector<std::size_t> batches; // their places among those of compile()
  std::size_t gate = 0;             // its statement: one row affected, or nothing of the unit was done
};
struct group {
  std::vector<statement> statements; // from begin to commit
  std::vector<unit> units;
  std::vector<std::pair<std::size_t, outcome>> decided; // batches whose outcome is known without asking
  bool has_ranges = false;                              // it may take long
};

/// `which`: places in `batches`, in order. `seq`: that of the first unit; set behind the last. `clean_below`: rows of batch_log
/// of this node with a smaller one go in the same transaction; 0: none.
[[nodiscard]] group compile(const catalogue& c, std::span<const batch> batches, std::span<const std::size_t> which, std::int64_t node,
                            std::int64_t& seq, std::int64_t clean_below);

} // namespace storage::sql
