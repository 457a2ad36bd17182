// Tables are declared once: a name, an id that every key begins with, key columns and value columns.
// RocksDB stores key bytes and a protobuf record; an SQL engine makes real columns of the same
// declaration (docs/storage.md).
#pragma once
#include "base/bytes.hpp"
#include "storage/engine.hpp"
#include <cassert>
#include <span>
#include <string>
#include <string_view>

namespace storage {

/// Of keys: text, u64, u128. `time_us`: microseconds since 1970. `xml`: a field of bytes that is UTF-8 without NUL.
enum class column_type : std::uint8_t { text, bytes, xml, u32, u64, u128, boolean, time_us, text_list };
/// A value column is named by the path of its field in the record, with `.` between the parts.
struct column { std::string_view name; column_type type; };

struct table {
  std::string_view name;
  char id;                       // first byte of every key; never used again for another table
  std::uint32_t version;         // of this declaration
  std::string_view record;       // protobuf message; empty: rows have no value
  std::span<const column> key;   // order preserving, in this order
  std::span<const column> value; // fields of the record
};

/// Key bytes whose order is the order of the columns (docs/storage.md). A column that the table does
/// not declare at this place is a broken invariant.
class key_builder {
public:
  explicit key_builder(const table& t) : table_(&t) { key_.push_back(t.id); }
  key_builder& text(std::string_view s);
  key_builder& number(std::uint64_t v) {
    count(column_type::u64);
    base::put_be64(key_, v);
    return *this;
  }
  key_builder& id(base::u128 v) {
    count(column_type::u128);
    base::put_be64(key_, v.a);
    base::put_be64(key_, v.b);
    return *this;
  }
  /// All columns are there.
  [[nodiscard]] std::string take() {
    assert(columns_ == table_->key.size());
    return std::move(key_);
  }
  /// Everything that begins with what was built so far.
  [[nodiscard]] key_range range();

private:
  void count([[maybe_unused]] column_type type) {
    assert(columns_ < table_->key.size() && table_->key[columns_].type == type);
    ++columns_;
  }
  const table* table_;
  std::string key_;
  std::size_t columns_ = 0;
};

/// Reads the columns of a key back, in order. Errors of all: corrupt. Never throws.
class key_reader {
public:
  key_reader(const table& t, std::string_view key) : rest_(key), is_good_(!key.empty() && key[0] == t.id) {
    rest_.remove_prefix(is_good_ ? 1 : 0);
  }
  [[nodiscard]] base::result<std::string, errc> text();
  [[nodiscard]] base::result<std::uint64_t, errc> number();
  [[nodiscard]] base::result<base::u128, errc> id();
  /// Nothing is left.
  [[nodiscard]] bool is_at_end() const { return is_good_ && rest_.empty(); }

private:
  std::string_view rest_;
  bool is_good_; // false for ever after the first error
};

/// Just this key, as a range.
[[nodiscard]] inline key_range only(std::string key) {
  auto until = key;
  until.push_back('\0');
  return {std::move(key), std::move(until)};
}
/// Whether the range is one that only() makes.
[[nodiscard]] inline bool is_one_key(const key_range& r) {
  return r.until.size() == r.from.size() + 1 && r.until.back() == '\0' && r.until.starts_with(r.from);
}

} // namespace storage
