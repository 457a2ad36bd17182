// UTF-8 keeps the order of code points, so texts are compared as bytes.
#include "storage/sql/text.hpp"

namespace storage::sql {

namespace {
constexpr char32_t last_point = 0x10ffff, surrogates = 0xd800, after_surrogates = 0xe000;

void put(std::string& out, char32_t c) {
  auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | ((c >> shift) & 0x3f))); };
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out.push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out.push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

/// The code point at the beginning and its size; size 0: none that is valid.
std::pair<char32_t, std::size_t> point_at(std::string_view s) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  if (s.empty() || byte(0) == 0)
    return {0, 0};
  if (byte(0) < 0x80)
    return {byte(0), 1};
  std::size_t size = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || s.size() < size)
    return {0, 0};
  char32_t c = byte(0) & (0xff >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80)
      return {0, 0};
    c = c << 6 | (byte(i) & 0x3f);
  }
  char32_t least = size == 2 ? 0x80 : size == 3 ? 0x800 : 0x10000;
  if (c < least || c > last_point || (c >= surrogates && c < after_surrogates))
    return {0, 0};
  return {c, size};
}
} // namespace

std::size_t valid_prefix(std::string_view s) {
  std::size_t at = 0;
  while (at < s.size()) {
    auto size = point_at(s.substr(at)).second;
    if (size == 0)
      break;
    at += size;
  }
  return at;
}

std::optional<std::string> text_from(std::string_view s) {
  auto good = valid_prefix(s);
  if (good == s.size())
    return std::string{s};
  std::string out{s.substr(0, good)};
  auto rest = s.substr(good);
  auto with = [](std::string text, char32_t c) {
    put(text, c);
    return text;
  };
  auto usable = [](char32_t c) { return c >= surrogates && c < after_surrogates ? after_surrogates : c; };
  // the smallest code point whose bytes are not below the rest
  char32_t from = 1, until = last_point + 1;
  while (from < until) {
    auto middle = from + (until - from) / 2;
    if (with({}, usable(middle)) >= rest)
      until = middle;
    else
      from = middle + 1;
  }
  if (from <= last_point)
    return with(out, usable(from));
  while (!out.empty()) { // no text that begins like this: the next one that does not
    std::size_t start = out.size() - 1;
    while ((static_cast<unsigned char>(out[start]) & 0xc0) == 0x80)
      --start;
    auto last = point_at(std::string_view{out}.substr(start)).first;
    out.resize(start);
    if (last < last_point)
      return with(out, usable(last + 1));
  }
  return std::nullopt;
}

} // namespace storage::sql
