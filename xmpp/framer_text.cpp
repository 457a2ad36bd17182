// Code points and references: what the framer asks about names, entities and names of namespaces.
#include "xmpp/framer_tables.hpp"
#include <algorithm>

namespace xmpp {

namespace framing {

namespace {
/// Of `#65` or `#x41`; over any code point if it is none.
u32 number_in(std::string_view reference) {
  constexpr u32 none = ~u32{0};
  bool hex = reference.size() > 1 && reference[1] == 'x';
  auto digits = reference.substr(hex ? 2 : 1);
  u32 v = 0;
  for (char c : digits) {
    u32 lower = static_cast<u32>(c) | 32;
    u32 d = c >= '0' && c <= '9' ? static_cast<u32>(c - '0') : hex && lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
    if (d == 99 || (v = v * (hex ? 16 : 10) + d) > 0x10ffff)
      return none;
  }
  return digits.empty() ? none : v;
}

void append_code_point(std::string& out, u32 v) {
  auto low = [v](int shift) { return static_cast<char>(0x80 | (v >> shift & 63)); };
  if (v < 0x80)
    out += static_cast<char>(v);
  else if (v < 0x800)
    (out += static_cast<char>(0xc0 | v >> 6)) += low(0);
  else if (v < 0x10000)
    ((out += static_cast<char>(0xe0 | v >> 12)) += low(6)) += low(0);
  else
    (((out += static_cast<char>(0xf0 | v >> 18)) += low(12)) += low(6)) += low(0);
}
} // namespace

framer_errc check_entity(std::string_view e) {
  if (e == "lt" || e == "gt" || e == "amp" || e == "quot" || e == "apos")
    return framer_errc::none;
  if (e.empty() || e[0] != '#')
    return e.empty() ? framer_errc::not_well_formed : framer_errc::restricted_xml;
  auto v = number_in(e);
  bool legal = v == 9 || v == 10 || v == 13 || (v >= 0x20 && v < 0xd800) || (v >= 0xe000 && v < 0xfffe)
               || (v >= 0x10000 && v <= 0x10ffff);
  return legal ? framer_errc::none : framer_errc::not_well_formed;
}

bool means_slowly(std::string_view a, std::string_view b) {
  auto normal = [](std::string_view v) { // attribute-value normalisation: XML 1.0 section 3.3.3
    std::string spaced{v};
    std::replace_if(spaced.begin(), spaced.end(), [](char c) { return c == '\t' || c == '\r' || c == '\n'; }, ' ');
    return decode_entities(spaced);
  };
  return normal(a) == normal(b);
}

bool is_name_char(u32 c, bool is_first) {
  struct range { u32 from, to; };
  static constexpr range start[] = {{0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x2ff}, {0x370, 0x37d}, {0x37f, 0x1fff},
      {0x200c, 0x200d}, {0x2070, 0x218f}, {0x2c00, 0x2fef}, {0x3001, 0xd7ff}, {0xf900, 0xfdcf}, {0xfdf0, 0xfffd},
      {0x10000, 0xeffff}};
  static constexpr range further[] = {{0xb7, 0xb7}, {0x300, 0x36f}, {0x203f, 0x2040}};
  auto has = [c](const range& r) { return c >= r.from && c <= r.to; };
  return std::any_of(std::begin(start), std::end(start), has)
         || (!is_first && std::any_of(std::begin(further), std::end(further), has));
}

std::size_t legal_sequence(std::string_view s) {
  auto at = [s](std::size_t k) { return k < s.size() ? byte(s.data(), k) : u32{0}; };
  auto c = at(0);
  std::size_t size = c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
  auto low = c == 0xe0 ? 0xa0u : c == 0xf0 ? 0x90u : 0x80u, high = c == 0xed ? 0x9fu : c == 0xf4 ? 0x8fu : 0xbfu;
  for (std::size_t k = 1; k < size; ++k, low = 0x80, high = 0xbf)
    if (at(k) < low || at(k) > high)
      return 0;
  return c == 0xef && at(1) == 0xbf && at(2) >= 0xbe ? 0 : size; // U+FFFE, U+FFFF
}

u32 code_point(const char* b, std::size_t k, std::size_t& size) {
  u32 c = byte(b, k);
  size = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
  if (size > 1)
    c &= 0x3fu >> (size - 1);
  for (std::size_t m = 1; m < size; ++m)
    c = c << 6 | (byte(b, k + m) & 0x3f);
  return c;
}

} // namespace framing

std::string decode_entities(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    auto amp = text.find('&');
    out += text.substr(0, amp);
    if (amp == text.npos)
      break;
    text.remove_prefix(amp);
    auto end = text.substr(0, framing::longest_entity + 1).find(';');
    auto e = end == text.npos ? std::string_view{} : text.substr(1, end - 1);
    if (framing::check_entity(e) != framer_errc::none) {
      out += '&';
      text.remove_prefix(1);
      continue;
    }
    text.remove_prefix(end + 1);
    if (e == "lt") out += '<';
    else if (e == "gt") out += '>';
    else if (e == "amp") out += '&';
    else if (e == "quot") out += '"';
    else if (e == "apos") out += '\'';
    else framing::append_code_point(out, framing::number_in(e));
  }
  return out;
}

} // namespace xmpp
