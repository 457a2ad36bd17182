// What `covey doctor` finds: passed, or wrong with its remedy. docs/doctor.md lists the codes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace server::doctor {

/// ok and note are passed; a note is worth knowing.
enum class severity : std::uint8_t { ok, note, warning, error };
[[nodiscard]] constexpr std::string_view name_of(severity s) {
  using enum severity;
  return s == ok ? "ok" : s == note ? "note" : s == warning ? "warning" : "error";
}

struct finding {
  std::string code;   // stable
  severity how = severity::ok;
  std::string text;   // for people
  std::string remedy; // what to do; empty where nothing is to do
};
using findings = std::vector<finding>;

} // namespace server::doctor
