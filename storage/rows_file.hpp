// Rows of any engine in one file, and back: what a copy of a database is that has no files of its own (docs/storage.md).
#pragma once
#include "storage/engine.hpp"
#include <fstream>

namespace storage {

/// Writes; nothing is good before finish().
class rows_writer {
public:
  explicit rows_writer(const std::string& path);
  void add(const row& r);
  /// Writes the number of rows and closes. False: the disk did not take all of it.
  [[nodiscard]] bool finish();

private:
  std::ofstream out_;
  std::uint64_t rows_ = 0;
};

/// Puts all rows into an engine that has none of them; versions begin anew. Returns how many. Errors: a text for the operator
/// that begins with the path.
[[nodiscard]] base::result<std::uint64_t, std::string> load_rows(const std::string& path, engine& to);

} // namespace storage
