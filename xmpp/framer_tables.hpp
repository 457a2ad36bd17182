// Character classes and names shared by the framer's files and the writer. Private to them.
#pragma once
#include "xmpp/framer.hpp"
#include <array>

namespace xmpp::framing {

using u8 = std::uint8_t;
using u32 = std::uint32_t;

enum : u8 { c_name = 1, /* beyond ASCII: c_start alone */ c_start = 2, c_space = 4, c_text = 8, c_value = 16 };
inline constexpr auto classes = [] {
  std::array<u8, 256> t{};
  for (int c = 0; c < 256; ++c) {
    u8 k = 0;
    bool alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
    if (alpha)
      k |= c >= 0x80 ? c_start : c_start | c_name;
    if ((c >= '0' && c <= '9') || c == '-' || c == '.')
      k |= c_name;
    bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    if (space)
      k |= c_space;
    bool plain = space || (c >= 0x20 && c < 0x80);
    if (plain && c != '<' && c != '&' && c != '>')
      k |= c_text;
    if (plain && c != '<' && c != '&' && c != '"' && c != '\'')
      k |= c_value;
    t[static_cast<std::size_t>(c)] = k;
  }
  return t;
}();
inline u8 byte(const char* b, std::size_t i) { return static_cast<u8>(b[i]); }
inline std::string_view of(const char* b, span s) { return {b + s.at, s.size}; }

inline constexpr std::string_view ns_streams = "http://etherx.jabber.org/streams";
inline constexpr std::string_view ns_framing = "urn:ietf:params:xml:ns:xmpp-framing";
inline constexpr std::string_view ns_xml = "http://www.w3.org/XML/1998/namespace";
inline constexpr std::string_view ns_xmlns = "http://www.w3.org/2000/xmlns/";
inline constexpr std::string_view utf8_name = "utf-8";
inline constexpr std::string_view cdata_open = "[CDATA[";
inline constexpr std::string_view ns_stanza_ids = "urn:xmpp:sid:0";
/// What the header may make every stanza carry: prefixes with their names, and the language.
inline constexpr std::size_t longest_header_prefixes = 1'024, longest_lang = 64;
inline constexpr std::size_t longest_name = 250, longest_declaration = 128, longest_entity = 12;

/// Are two namespace names, as written in attributes, one? References count as what they stand for.
bool means_slowly(std::string_view a, std::string_view b);
inline bool means(std::string_view a, std::string_view b) {
  constexpr std::string_view odd = "&\t\r\n";
  return a == b || ((a.find_first_of(odd) != a.npos || b.find_first_of(odd) != b.npos) && means_slowly(a, b));
}
/// The same for a name of ours, which has nothing to decode: a reference is longer than what it stands for.
inline bool is_ns(std::string_view written, std::string_view ours) {
  return written == ours || (written.size() > ours.size() && written.find('&') != written.npos && means_slowly(written, ours));
}
/// Equality with a literal, without a call.
template <std::size_t Size>
bool is(std::string_view s, const char (&literal)[Size]) {
  return s.size() == Size - 1 && __builtin_memcmp(s.data(), literal, Size - 1) == 0;
}
/// NameStartChar and NameChar of XML 1.0, beyond ASCII.
bool is_name_char(u32 c, bool is_first);
/// Bytes of the UTF-8 sequence beyond ASCII that `s` starts with if XML may carry it, else 0.
std::size_t legal_sequence(std::string_view s);
/// The one at `k` in checked UTF-8, and how many bytes it takes.
u32 code_point(const char* b, std::size_t k, std::size_t& size);
/// What stands between & and ; is one of the five names or a legal character's number.
framer_errc check_entity(std::string_view e);

} // namespace xmpp::framing
