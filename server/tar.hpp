// Archives of regular files (POSIX ustar): as much of tar as a backup needs.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace server::tar {

inline constexpr std::size_t block = 512;
inline constexpr std::uint64_t largest_member = (std::uint64_t{1} << 33) - 1; // 11 octal digits
inline constexpr std::size_t longest_name = 99;

struct member {
  std::string name;
  std::uint64_t size = 0;
};

/// One block. The name and size are within the limits above.
[[nodiscard]] std::string header(const member& m);
/// Nothing: not a header of a regular file, or its checksum is wrong.
[[nodiscard]] std::optional<member> parse_header(std::string_view bytes);
/// Bytes that follow contents of this size.
[[nodiscard]] constexpr std::size_t padding(std::uint64_t size) { return static_cast<std::size_t>((block - size % block) % block); }
/// What ends an archive.
[[nodiscard]] inline std::string end() { return std::string(2 * block, '\0'); }

} // namespace server::tar
