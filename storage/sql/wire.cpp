// Numbers are big endian; an array is dimensions, whether it has nulls, element type, then size, lower bound, elements.
#include "storage/sql/wire.hpp"
#include "base/bytes.hpp"
#include <limits>

namespace storage::sql::wire {

namespace {
constexpr std::int64_t epoch_us = 946'684'800'000'000;       // 2000-01-01, from 1970-01-01
constexpr std::int64_t first_us = -211'813'488'000'000'000;  // 4714-11-24 BC, from 2000-01-01
constexpr std::int64_t end_us = 9'223'371'331'200'000'000;   // 294277-01-01
constexpr auto lowest = std::numeric_limits<std::int64_t>::min(), highest = std::numeric_limits<std::int64_t>::max();

void put32(std::string& out, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(v >> shift));
}
std::optional<std::uint32_t> take32(std::string_view& in) {
  if (in.size() < 4)
    return std::nullopt;
  std::uint32_t v = 0;
  for (int i = 0; i < 4; ++i)
    v = v << 8 | static_cast<unsigned char>(in[static_cast<std::size_t>(i)]);
  in.remove_prefix(4);
  return v;
}
} // namespace

std::string number(std::int64_t v) {
  std::string out;
  base::put_be64(out, static_cast<std::uint64_t>(v));
  return out;
}

std::string flag(bool v) { return std::string(1, v ? '\1' : '\0'); }

std::optional<std::int64_t> read_number(const cell& c) {
  if (!c || c->size() != 8)
    return std::nullopt;
  return static_cast<std::int64_t>(base::get_be64(*c));
}

std::optional<std::string> time(std::int64_t us) {
  if (us == lowest || us == highest)
    return number(us);
  if (us < lowest + epoch_us || us - epoch_us < first_us || us - epoch_us >= end_us)
    return std::nullopt;
  return number(us - epoch_us);
}

std::optional<std::int64_t> read_time(const cell& c) {
  auto v = read_number(c);
  if (!v || *v == lowest || *v == highest)
    return v;
  if (*v > highest - epoch_us)
    return std::nullopt;
  return *v + epoch_us;
}

std::string array(std::span<const cell> cells, std::uint32_t element) {
  bool has_null = false;
  for (auto& c : cells)
    has_null |= !c;
  std::string out;
  put32(out, cells.empty() ? 0 : 1);
  put32(out, has_null ? 1 : 0);
  put32(out, element);
  if (cells.empty())
    return out;
  put32(out, static_cast<std::uint32_t>(cells.size()));
  put32(out, 1);
  for (auto& c : cells) {
    put32(out, c ? static_cast<std::uint32_t>(c->size()) : 0xffff'ffff);
    if (c)
      out += *c;
  }
  return out;
}

std::string numbers(std::span<const std::int64_t> all) {
  std::vector<cell> cells;
  for (auto n : all)
    cells.emplace_back(number(n));
  return array(cells, of_bigint);
}

std::string text_list(std::span<const std::string> all) {
  std::string out = "{";
  for (auto& s : all) {
    out += out.size() == 1 ? "\"" : ",\"";
    for (char c : s) {
      if (c == '"' || c == '\\')
        out.push_back('\\');
      out.push_back(c);
    }
    out.push_back('"');
  }
  return out + '}';
}

std::optional<std::vector<std::string>> read_text_list(const cell& c) {
  if (!c)
    return std::nullopt;
  std::string_view in = *c;
  auto dimensions = take32(in), has_null = take32(in), element = take32(in);
  if (!dimensions || !has_null || !element || *dimensions > 1 || *element != of_text)
    return std::nullopt;
  std::vector<std::string> out;
  if (*dimensions == 0)
    return out;
  auto n = take32(in), first = take32(in);
  if (!n || !first || *n > in.size() / 4)
    return std::nullopt;
  for (std::uint32_t i = 0; i < *n; ++i) {
    auto size = take32(in);
    if (!size || *size > in.size()) // a null among them, too
      return std::nullopt;
    out.emplace_back(in.substr(0, *size));
    in.remove_prefix(*size);
  }
  return out;
}

} // namespace storage::sql::wire
