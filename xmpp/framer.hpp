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
  bool uses_header_prefix = false;       // a prefix inside is bound by the stream header only:
  std::uint32_t header_prefixes = 0;     // bit k: stream_open::prefixes[k], bit 31: that of its root
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
  header,  // the start tag of the stream ends at position(); frame mode: <open/> does
  element, // a top-level element ends at position()
  end,     // the closing tag of the stream ends at position(); frame mode: <close/> does
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
  std::uint16_t max_depth = 64;       // at most 64
  std::uint16_t max_attributes = 24;  // per tag, at most 32
  std::uint16_t max_namespaces = 24;  // in scope at once, at most 32
  std::uint32_t max_elements = 4'096; // within one top-level element
  friend bool operator==(const framer_limits&, const framer_limits&) = default;
  static framer_limits before_login() { return {16'384, 16, 16, 16, 256}; }
};

/// The attributes of a stream header, or of <open/> (RFC 7395), decoded.
struct stream_open {
  std::string to, from, id, version, lang, content_ns;
  std::string root = "stream:stream"; // the qualified name, which the closing tag repeats
  /// Prefixes that the header binds, without its root's and "xml": stanzas may use them. At most 31,
  /// 1 KiB together, as what of them a stanza uses is written into its start tag. Names of namespaces
  /// here are escaped as in an attribute (append_attribute_escaped), not decoded.
  std::vector<std::pair<std::string, std::string>> prefixes;
};

class framer {
public:
  /// stream: one long document (TCP). frame: each frame is one whole element, <open/> and <close/>
  /// of RFC 7395 are reported as header and end.
  enum class mode : std::uint8_t { stream, frame };
  static constexpr std::size_t most_depth = 64, most_attributes = 32, most_namespaces = 32;

  explicit framer(mode m = mode::stream, framer_limits limits = {}) : mode_(m) {
    set_limits(limits);
    restart();
  }

  /// `bytes` starts with the first byte of the current top-level element and holds all of it that
  /// came so far; what was seen before is not looked at again. White space between elements is the
  /// caller's to skip (it is what keeps connections alive): leading_space(). In frame mode a frame
  /// that gives `more` or has anything but white space behind position() is not one element.
  [[nodiscard]] framer_event run(std::string_view bytes);
  /// Behind what run() consumed, from the start of `bytes`.
  [[nodiscard]] std::size_t position() const { return i_; }
  /// After element: the next run() starts at position() of the old bytes.
  void next();
  /// A new stream on the same connection (after STARTTLS, SASL): the header comes again.
  void restart();
  /// Inside a stream, between two elements: after header, or in place of a framer that is shared by
  /// many connections. `open`: where stanzas rely on the header (kept by the caller); null for the
  /// usual one: <stream:stream xmlns='jabber:client'> without further prefixes.
  void enter_stream(const stream_open* open);
  /// Values over the hard maxima count as these.
  void set_limits(const framer_limits& limits);
  /// True between elements with nothing half read: the connection may drop its buffer.
  [[nodiscard]] bool is_idle() const { return state_ == state::gap; }

  [[nodiscard]] const head& result() const { return head_; }
  [[nodiscard]] framer_errc error() const { return error_; }
  /// After header: what the start tag said. `bytes` as given to run().
  [[nodiscard]] stream_open header(std::string_view bytes) const;

private:
  enum class state : std::uint8_t {
    gap, text, lt, name, tag, attr_name, equals, quote, value, entity, empty, end_tag, end_tag_space,
    bang, cdata, declaration, after_declaration,
  };
  struct binding { span prefix, uri; std::uint8_t depth; };

  framer_event stop(framer_errc why) {
    error_ = why;
    return framer_event::error;
  }
  int high(const char* b, std::size_t& i, std::size_t n);
  bool good_name(const char* b, std::uint32_t at, std::size_t end) const;
  framer_errc attribute(const char* b, std::size_t i);
  framer_errc check_declaration(std::string_view d) const;
  /// Where a prefix is bound: in the element, or by bit `header` of head::header_prefixes.
  struct bound { bool found = false; std::uint32_t header = 0; std::string_view uri; };
  [[nodiscard]] bound resolve(const char* b, std::string_view prefix) const;
  [[nodiscard]] std::string_view own_namespace(const char* b) const;
  framer_errc check_namespaces(const char* b);
  framer_event opened(const char* b, std::size_t i, bool empty);
  framer_event opened_root(const char* b, std::size_t i, bool empty);
  framer_event opened_top(const char* b, std::size_t i, bool empty);
  void opened_child(const char* b);
  framer_event closed(std::size_t i);
  [[nodiscard]] bool is_content_ns(std::string_view uri) const;

  head head_;
  std::size_t i_ = 0;
  const stream_open* outer_ = nullptr;
  framer_limits limits_;
  mode mode_;
  state state_ = state::gap, back_ = state::text;
  framer_errc error_ = framer_errc::none;
  bool space_ = false, wide_name_ = false, default_is_content_ = true, speaks_server_ = false;
  framer_event ends_as_ = framer_event::element; // what closing the top-level element reports
  char quote_ = 0;
  std::uint8_t need_ = 0, low_ = 0, high_ = 0, matched_ = 0; // UTF-8 and <![CDATA[ over a split
  std::uint32_t depth_ = 0, elements_ = 0, attributes_ = 0, prefixed_ = 0, bindings_ = 0;
  std::uint32_t name_at_ = 0, colon_ = 0, value_at_ = 0, entity_at_ = 0, text_at_ = 0, cut_ = 0, element_colon_ = 0;
  std::uint16_t attr_name_size_ = 0;
  span element_;
  span stack_[most_depth], names_[most_attributes], values_[most_attributes];
  std::uint32_t colons_[most_attributes];
  binding ns_[most_namespaces];
};

/// How many bytes of white space `bytes` starts with.
[[nodiscard]] inline std::size_t leading_space(std::string_view bytes) {
  auto at = bytes.find_first_not_of(" \t\r\n");
  return at == bytes.npos ? bytes.size() : at;
}

/// The five predefined entities and character references, decoded. In text that was not checked
/// others are left as they are.
[[nodiscard]] std::string decode_entities(std::string_view text);

} // namespace xmpp
