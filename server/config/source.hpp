// The file as tables, with every line that is no TOML: reading goes on behind each of them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#define TOML_EXCEPTIONS 0
// its parser asserts what some broken headers make false, and says the right thing right after
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

namespace server {

using table_path = std::vector<std::string>; // {"host", "example.org", "limits"}

/// A line that toml++ refuses.
struct broken_line {
  std::uint32_t line = 0, column = 0;
  std::string text;  // the line, trimmed
  table_path path;   // of the table that it stands in, and its key where it has one
  std::string key;   // as written before '=', or empty
  std::string rest;  // what stands behind '='
  std::string why;   // toml++'s words
  bool is_again = false;      // this key or table stands there for the second time
  bool is_unfinished = false; // a list, table or text that begins here does not end
};

/// A table whose header could not be taken as it stands: its keys are under `name` in the root.
struct aliased_table {
  std::string name;
  table_path path;
};

struct source {
  toml::table table;
  std::vector<std::string> lines;
  std::vector<broken_line> broken;
  std::vector<aliased_table> aliases;
  std::string unreadable, remedy; // why there is no table at all, and what to do
};

/// Never throws. At most 100 broken lines; a file over 1 MB is unreadable.
[[nodiscard]] source read_source(const std::string& file);
/// The same from text.
[[nodiscard]] source read_text(std::string text);

/// `limits.roster = 5` to ("limits.roster", "5"); nothing where the line is no assignment.
[[nodiscard]] std::optional<std::pair<std::string, std::string>> split_assignment(const std::string& line);

} // namespace server
