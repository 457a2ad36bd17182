// One connection to PostgreSQL by libpq: pipelines of prepared statements with binary arguments, and one deadline for all
// of a pipeline. libpq's header stays in the .cpp files of this folder.
#pragma once
#include "base/clock.hpp"
#include "base/result.hpp"
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace storage::sql {

struct statement {
  std::string text;              // the same text is prepared once
  std::vector<std::string> args; // in PostgreSQL's binary form, of the types that casts in the text name
};
using cell = std::optional<std::string>; // binary; nothing: null
struct reply {
  std::vector<std::vector<cell>> rows;
  std::uint64_t affected = 0;
  std::string tag; // the command's: "COMMIT"
};
/// Of a pipeline. The first error ends its transaction: what came after was not done.
struct replies {
  std::vector<reply> all;        // up to the error
  std::string state;             // SQLSTATE of the error; empty: none
  std::string text;              // the error's first line, without details (they have values of rows in them)
  bool has_warning = false;      // the server warned: a COMMIT that did is no promise
  [[nodiscard]] bool is_ok() const { return state.empty(); }
};

class connection {
public:
  /// Blocks: at most connect_timeout for each address. `parameters`: libpq's, as keywords and values. Errors: libpq's text,
  /// which never has the password in it.
  [[nodiscard]] static base::result<std::unique_ptr<connection>, std::string> open(const std::vector<std::pair<std::string, std::string>>& parameters);
  ~connection();
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  /// One round trip. Nothing: the connection is lost, or the deadline passed; it is no good for anything any more, and
  /// what the server did or still does is not known. Never cancels: a cancelled COMMIT says that it succeeded.
  [[nodiscard]] std::optional<replies> run(std::span<const statement> todo, base::time_point deadline);
  /// A setting that some servers refuse; tells whether it was taken. Nothing as above.
  [[nodiscard]] std::optional<bool> set(const std::string& text, base::time_point deadline);
  [[nodiscard]] bool is_lost() const { return is_lost_; }
  /// No good any more, whatever the reason.
  void give_up() { is_lost_ = true; }
  /// What the server told at the start ("server_encoding"); empty: nothing.
  [[nodiscard]] std::string told(const char* name) const;
  /// For people: "host port".
  [[nodiscard]] std::string peer() const;

private:
  struct raw; // libpq's types
  explicit connection(std::unique_ptr<raw> r);
  bool wait(short events, base::time_point deadline) const;
  std::unique_ptr<raw> raw_;
  std::unordered_map<std::string, std::string> prepared_; // text: name
  std::uint64_t names_ = 0;
  bool is_lost_ = false;
};

/// The parameters of a connection string (keywords or URI), with defaults for those that it leaves out. Errors:
/// a text without any of it.
[[nodiscard]] base::result<std::vector<std::pair<std::string, std::string>>, std::string> parse_connection(const std::string& text);

/// Errors after which nothing is known but that the server or this connection of it goes away, or may not write any more.
[[nodiscard]] bool is_going_away(std::string_view state);
/// Errors of two that got in each other's way: the same again may succeed.
[[nodiscard]] bool is_worth_again(std::string_view state);

} // namespace storage::sql
