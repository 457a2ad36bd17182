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

enum class column_type : std::uint8_t { text, bytes, u64, u128, boolean, text_list };
struct column { std::string_view name; column_type type; };

struct table {
  std::string_view name;
  char id;                       // first byte of every key; never used again for another table
  std::uint32_t version;         // of this declaration
  std::span<const column> key;   // order preserving, in this order
  std::span<const column> value; // fields of the record
};

/// Key bytes whose order is the order of the columns.
class key_builder {
public:
  explicit key_builder(const table& t) { key_.push_back(t.id); }
  /// Without NUL, which ends it: prepared JIDs have none.
  key_builder& text(std::string_view s) {
    assert(s.find('\0') == s.npos);
    key_.append(s);
    key_.push_back('\0');
    return *this;
  }
  key_builder& number(std::uint64_t v) {
    base::put_be64(key_, v);
    return *this;
  }
  key_builder& id(base::u128 v) { return number(v.a).number(v.b); }
  [[nodiscard]] std::string take() { return std::move(key_); }
  /// Everything that begins with what was built so far.
  [[nodiscard]] key_range range() {
    auto until = key_;
    for (;;) { // the smallest key above the prefix
      auto& last = until.back();
      if (static_cast<unsigned char>(last) != 0xff) {
        ++last;
        break;
      }
      until.pop_back();
    }
    return {std::move(key_), std::move(until)};
  }

private:
  std::string key_;
};

/// Just this key, as a range.
[[nodiscard]] inline key_range only(std::string key) {
  auto until = key;
  until.push_back('\0');
  return {std::move(key), std::move(until)};
}

} // namespace storage
