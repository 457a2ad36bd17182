// Frames of a link: values to protobuf bytes and back. What comes in is checked here, once.
#pragma once
#include "base/result.hpp"
#include "cluster/frame.hpp"

namespace cluster {

enum class codec_errc : std::uint8_t {
  malformed, // not protobuf, a value out of its range, a name that is no prepared JID, a stanza that is not well-formed
  too_large, // more bytes or items than `limits`
};

/// Appends nothing else; a link fills frames within the limits.
[[nodiscard]] std::string encode(const frame& f);
/// Never throws. Nothing of a frame that is refused is used.
[[nodiscard]] base::result<frame, codec_errc> decode(std::string_view bytes);

/// One row as the disk keeps it (the record of the table; docs/cluster-internals.md).
[[nodiscard]] std::string encode(const row& r);
[[nodiscard]] base::result<row, codec_errc> decode_row(std::string_view bytes);

} // namespace cluster
