// Every configuration key, declared once: from here come parsing, defaults, errors, `config show` and
// docs/configuration.md.
#pragma once
#include "modules/api/module.hpp"
#include <optional>
#include <string>
#include <vector>

namespace server {

enum class key_scope : std::uint8_t { node, host }; // host: at the top for all, or under [host."…"]
using key_type = modules::setting_type;

struct key {
  std::string name;      // dotted: "limits.login_timeout"
  key_type type;
  std::string default_value; // as it is written in the file
  std::string doc;       // one line
  key_scope scope = key_scope::node;
  std::int64_t least = 0, most = INT64_MAX; // numbers, durations (ms), sizes (bytes)
  std::vector<std::string> allowed = {};    // texts: only these
  std::string example = {}; // for remedies, where the default says nothing
};

/// Whether a reload puts a new value in force (docs/operation.md says for whom). If not, the next start does.
[[nodiscard]] bool is_live(const key& k);

/// The server's own keys, then those of the modules (`modules.<name>.<key>`).
[[nodiscard]] std::vector<key> all_keys(const std::vector<std::unique_ptr<modules::module>>& modules);

/// A value with where it came from.
struct value {
  std::int64_t number = 0; // flags: 0 or 1; durations in ms; sizes in bytes
  std::string text;
  std::vector<std::string> list;
};

/// "30s", "10m", "1h", "30d", "500ms". Nothing: not of this form, or beyond ten years.
[[nodiscard]] std::optional<std::int64_t> parse_duration(std::string_view text);
/// "4096", "64 kB", "1 MB", "2 GB" (1,024 each).
[[nodiscard]] std::optional<std::int64_t> parse_size(std::string_view text);
inline constexpr std::int64_t longest_duration = 3'650LL * 86'400'000; // ms
inline constexpr std::int64_t largest_size = std::int64_t{1} << 40;    // bytes
/// The shortest way to write it: 90'000 is "90s", 3'600'000 is "1h".
[[nodiscard]] std::string duration_text(std::int64_t ms);
[[nodiscard]] std::string size_text(std::int64_t bytes);
/// What is allowed, for people: "a whole number from 1 to 65535".
[[nodiscard]] std::string allowed_text(const key& k);
/// The nearest of `names`, at most two edits away (and fewer than half of it), or nothing.
[[nodiscard]] std::optional<std::string> nearest(std::string_view typed, const std::vector<std::string>& names);

/// docs/configuration.md.
[[nodiscard]] std::string document(const std::vector<key>& keys);

} // namespace server
