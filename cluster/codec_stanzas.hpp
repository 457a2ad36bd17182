// The stanzas of a frame, between their values and protobuf's bytes (proto/cluster.proto), without protobuf's objects: those
// cost an allocation for each string of each stanza, on the one path where there are many.
#pragma once
#include "cluster/codec.hpp"

namespace covey::cluster { class Control; }

namespace cluster::codec {

inline constexpr std::uint64_t latest_clock = std::uint64_t{1} << 63; // far beyond any honest one; leaves room to count on

/// Inside the codec only: the checks are many and small.
struct refused { codec_errc why; };
inline void require(bool is_good, codec_errc why = codec_errc::malformed) {
  if (!is_good)
    throw refused{why};
}
/// Numbers that are a stanza error's condition and type.
[[nodiscard]] constexpr bool is_error(std::uint32_t condition, std::uint32_t type) {
  return condition <= static_cast<std::uint32_t>(xmpp::stanza_errc::unexpected_request) && type <= static_cast<std::uint32_t>(xmpp::error_type::continue_);
}
/// A prepared JID, as it was written; else `refused`. The last ones are kept, for each thread.
[[nodiscard]] xmpp::jid_ref take_jid(std::string_view text);

/// Appends them as a field of a Frame.
void append(std::string& out, const stanzas& s);
/// The field's content. Throws refused: malformed, too_large.
[[nodiscard]] stanzas take_stanzas(std::string_view content);

/// A Frame's bytes without its stanzas, and those.
struct parts {
  std::string_view rest;
  std::string_view stanzas;
  bool has_stanzas = false;
  std::string kept; // of rest, where it is not in one piece
};
/// Throws refused: malformed.
void split(std::string_view frame, parts& out);

} // namespace cluster::codec
