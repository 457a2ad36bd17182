// What commands print: for people, or as JSON.
#pragma once
#include "server/cli/client.hpp"
#include <nlohmann/json.hpp>
#include <chrono>
#include <string>

namespace cli {

/// `{"ok": true, …}` on standard output, or `text`. Returns `code`.
int say(bool as_json, int code, const std::string& text, nlohmann::json extra = nlohmann::json::object());
int say(bool as_json, const covey::admin::status& s, const std::string& done);
/// Nothing listens there, or not for this user.
int say_unreachable(bool as_json, const std::string& socket_file, reach why = reach::nobody);

/// The password by the way that was chosen: a prompt without echo, standard input, a file, an environment
/// variable. Never an argument. Nothing: it could not be had; the reason was printed.
struct password_source {
  bool from_stdin = false;
  std::string file, variable;
};
[[nodiscard]] std::optional<std::string> read_password(const password_source& from, bool twice);
/// Asks a person; false without a terminal.
[[nodiscard]] bool confirm(const std::string& question);

/// How far something has come: on a terminal (standard error), once it takes longer than two seconds.
class progress {
public:
  explicit progress(std::string what) : what_(std::move(what)) {}
  ~progress();
  /// `total` 0: not known.
  void show(std::uint64_t done, std::uint64_t total, const char* unit);

private:
  std::string what_;
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now(), shown_{};
  bool is_shown_ = false;
};

} // namespace cli
