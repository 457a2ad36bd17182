// Text of clients that is kept or logged in part.
#pragma once
#include <cstddef>
#include <string_view>

namespace xmpp {

/// The first `most` bytes of `utf8` at most, without half a character at the end.
[[nodiscard]] inline std::string_view cut(std::string_view utf8, std::size_t most) {
  if (utf8.size() <= most)
    return utf8;
  while (most > 0 && (static_cast<unsigned char>(utf8[most]) & 0xc0) == 0x80)
    --most;
  return utf8.substr(0, most);
}

} // namespace xmpp
