// The log facade. One event is one line, with a stable code that docs/log.md explains; text or JSON
// is one switch. Any thread. Secrets are never passed in.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>

namespace base::log {

enum class level { debug, info, warning, error };
enum class format { text, json };
struct field { std::string_view name; std::string_view value; };

/// `file`: empty for standard error. Throws std::runtime_error if it cannot be opened.
void start(level least, format as, const std::string& file = {});
void set_level(level least);
[[nodiscard]] bool is_on(level l);
/// `code` names the event for ever ("auth.failed"); `text` is for people and may change.
void event(level l, std::string_view code, std::string_view text,
           std::initializer_list<field> fields = {});
void flush();

inline void debug(std::string_view code, std::string_view text, std::initializer_list<field> f = {}) {
  if (is_on(level::debug)) event(level::debug, code, text, f);
}
inline void info(std::string_view code, std::string_view text, std::initializer_list<field> f = {}) {
  event(level::info, code, text, f);
}
inline void warning(std::string_view code, std::string_view text, std::initializer_list<field> f = {}) {
  event(level::warning, code, text, f);
}
inline void error(std::string_view code, std::string_view text, std::initializer_list<field> f = {}) {
  event(level::error, code, text, f);
}

} // namespace base::log
