// Finds and checks one top-level element at a time. Incremental, byte exact, never backtracks, builds
// no tree: what passes is well-formed, namespace-correct XML within the limits, free of everything
// that RFC 6120 section 11.1 forbids.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xmpp {

/// Offset and length in the bytes of one element. `at` 0 means absent (an element starts with '<').
struct span {
  std::uint32_t at = 0;
  std::uint16_t size = 0;
  explicit operator bool() const { return at != 0; }
};

enum class stanza_kind : std::uint8_t { other, message, presence, iq };

/// What one pass over a top-level element learns.
struct head {
  stanza_kind kind = stanza_kind::other; // message, presence, iq of the content namespace only
  std::uint8_t children = 0;             // counted up to 255
  bool is_empty = false;                 // <x/>
  bool has_stanza_id = false;            // a child named stanza-id: may be a forgery
  bool uses_header_prefix = false;       // a prefix inside is bound by the stream header only
  std::uint8_t name_size = 0;            // of the qualified name, which starts at 1
  span to, from, id, type, lang, origin_id;
  span ns;                               // value of xmlns='' on the start tag
  std::uint32_t to_cut = 0, from_cut = 0; // start of the white space before the attribute
  std::uint32_t tag_end = 0;             // behind the start tag
  std::uint32_t close_at = 0;            // the closing tag (equals tag_end if empty)
  std::uint32_t size = 0;
};

enum class framer_event : std::uint8_t {
  more,    // everything was consumed, nothing is complete
  header,  // stream mode: the start tag of the stream ends at position()
  element, // a top-level element ends at position()
  end,     // stream mode: the closing tag of the stream ends at position()
  error,   // see error(); the stream must end
};

/// Each maps to one stream error condition (RFC 6120 section 4.9.3).
enum class framer_errc : std::uint8_t {
  none,
  not_well_formed,
  bad_namespace_prefix,  // a prefix that nothing binds
  restricted_xml,        // comment, processing instruction, DTD, other entity (section 11.1)
  bad_encoding,          // bytes that are not UTF-8, or a declaration that names another encoding
  bad_header,            // the root is not <stream> in the namespace of streams
  too_big,               // size, depth, counts or a name over the limits: policy-violation
};

struct framer_limits {
  std::uint32_t max_size = 262'144;
  std::uint16_t max_depth = 64;
  std::uint16_t max_attributes = 24;  // per tag, at most 64
  std::uint16_t max_namespaces = 32;  // in scope at once, at most 64
  std::uint32_t max_elements = 4'096; // within one top-level element
  static framer_limits before_login() { return {16'384, 16, 16, 16, 256}; }
};

/// The attributes of a stream header, or of <open/> (RFC 7395), decoded.
struct stream_open {
  std::string to, from, id, version, lang, content_ns;
  /// Prefixes that the header binds, without "stream" and "xml": stanzas may use them.
  std::vector<std::pair<std::string, std::string>> prefixes;
};

class framer {
public:
  /// stream: one long document (TCP). frame: each frame is one whole element, <open/> and <close/>
  /// of RFC 7395 are reported as header and end.
  enum class mode : std::uint8_t { stream, frame };

  explicit framer(mode m = mode::stream, framer_limits limits = {});

  /// `bytes` starts with the first byte of the current top-level element (or white space before
  /// it) and holds all of it that came so far; what was seen before is not looked at again.
  [[nodiscard]] framer_event run(std::string_view bytes);
  /// Behind what run() consumed, from the start of `bytes`.
  [[nodiscard]] std::size_t position() const;
  /// After element, header: the next run() starts at position() of the old bytes.
  void next();
  /// A new stream on the same connection (after STARTTLS, SASL): the header comes again.
  void restart();
  void set_limits(const framer_limits& limits);
  /// True between elements with nothing half read: the connection may drop its buffer.
  [[nodiscard]] bool is_idle() const;

  [[nodiscard]] const head& result() const;
  [[nodiscard]] framer_errc error() const;
  /// After header: what the start tag said. `bytes` as given to run().
  [[nodiscard]] stream_open header(std::string_view bytes) const;
  // Private parts follow in the implementation's own part of this header.
};

} // namespace xmpp
