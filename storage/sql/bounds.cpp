// Key bytes may end anywhere, also within a column.
#include "storage/sql/bounds.hpp"
#include "storage/sql/text.hpp"
#include "storage/sql/wire.hpp"

namespace storage::sql {

namespace {
/// Before the first text that is not below `s`.
bound at_text(bound b, std::string_view s) {
  if (auto least = text_from(s))
    b.cells.push_back(std::move(*least));
  else
    b.is_after = true; // of all that begin like this
  return b;
}

/// Takes `size` bytes; what is missing at the end is zeros.
std::string take(std::string_view& in, std::size_t size) {
  std::string out{in.substr(0, size)};
  in.remove_prefix(out.size());
  out.resize(size, '\0');
  return out;
}

std::string row_of(const sql_table& t, std::size_t from, std::size_t until) {
  std::string out;
  for (auto i = from; i < until; ++i)
    out += (out.empty() ? "" : ", ") + quoted(t.key()[i].name);
  return until - from > 1 ? '(' + out + ')' : out;
}
} // namespace

bound place_of(const sql_table& t, std::string_view key) {
  if (!t.declaration())
    return {{std::string{key}}, false};
  bound b;
  auto id = static_cast<unsigned char>(t.declaration()->id);
  if (key.empty() || static_cast<unsigned char>(key[0]) != id) {
    b.is_after = !key.empty() && static_cast<unsigned char>(key[0]) > id;
    return b;
  }
  key.remove_prefix(1);
  for (auto& c : t.declaration()->key) {
    if (key.empty())
      return b;
    if (c.type == column_type::text) {
      auto nul = key.find('\0');
      if (nul == key.npos || nul + 1 == key.size())
        return at_text(std::move(b), key.substr(0, nul));
      auto text = key.substr(0, nul);
      if (!is_storable(text))
        return at_text(std::move(b), text);
      b.cells.emplace_back(text);
      if (key[nul + 1] != '\0') { // texts with NUL, which no row has, or what lies above this text
        b.is_after = true;
        return b;
      }
      key.remove_prefix(nul + 2);
    } else if (c.type == column_type::u64) {
      bool is_whole = key.size() >= 8;
      auto n = take(key, 8);
      if (static_cast<unsigned char>(n[0]) > 0x7f) {
        b.is_after = true;
        return b;
      }
      b.cells.push_back(std::move(n));
      if (!is_whole)
        return b;
    } else {
      bool is_whole = key.size() >= 16;
      b.cells.push_back(take(key, 16));
      if (!is_whole)
        return b;
    }
  }
  b.is_after = !key.empty();
  return b;
}

std::optional<statement> condition(const sql_table& t, const key_range& range, std::size_t first) {
  if (range.until <= range.from)
    return std::nullopt;
  auto lower = place_of(t, range.from), upper = place_of(t, range.until);
  if ((lower.cells.empty() && lower.is_after) || (upper.cells.empty() && !upper.is_after))
    return std::nullopt;
  std::size_t shared = 0;
  while (shared < lower.cells.size() && shared < upper.cells.size() && lower.cells[shared] == upper.cells[shared])
    ++shared;
  // the lower place lies after, or the upper one before, all rows that begin with what both have
  if ((shared == lower.cells.size() && lower.is_after && shared > 0) || (shared == upper.cells.size() && !upper.is_after && shared > 0))
    return std::nullopt;
  statement out;
  auto argument = [&](std::size_t column, const std::string& value) {
    out.args.push_back(value);
    return '$' + std::to_string(first + out.args.size() - 1) + "::" + type_name(t.key()[column].type);
  };
  auto both = [&](const std::string& text) { out.text += (out.text.empty() ? "" : " and ") + text; };
  auto compare = [&](const bound& b, const char* how) {
    if (b.cells.size() == shared)
      return;
    std::string values;
    for (auto i = shared; i < b.cells.size(); ++i)
      values += (values.empty() ? "" : ", ") + argument(i, b.cells[i]);
    both(row_of(t, shared, b.cells.size()) + how + (b.cells.size() - shared > 1 ? '(' + values + ')' : values));
  };
  for (std::size_t i = 0; i < shared; ++i)
    both(quoted(t.key()[i].name) + " = " + argument(i, lower.cells[i]));
  compare(lower, lower.is_after ? " > " : " >= ");
  compare(upper, upper.is_after ? " <= " : " < ");
  return out;
}

std::vector<const sql_table*> tables_in(const sql_tables& all, const key_range& range) {
  std::vector<const sql_table*> found;
  if (range.until <= range.from)
    return found;
  auto lowest = range.from.empty() ? 0 : static_cast<unsigned char>(range.from[0]);
  int highest = static_cast<unsigned char>(range.until[0]); // not empty: it is above `from`
  if (range.until.size() == 1)
    --highest; // only what lies below
  bool is_one = false;
  for (auto& t : all.declared()) {
    auto id = static_cast<unsigned char>(t->declaration()->id);
    if (id < lowest || id > highest)
      continue;
    found.push_back(t.get());
    is_one = lowest == highest;
  }
  if (!is_one)
    found.push_back(&all.other());
  return found;
}

} // namespace storage::sql
