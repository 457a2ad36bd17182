// Key bytes and records as cells of typed columns, and back. Everything that is made of a declaration of storage/tables.hpp.
#pragma once
#include "storage/sql/connection.hpp"
#include "storage/table.hpp"
#include <google/protobuf/descriptor.h>

namespace storage::sql {

struct sql_column {
  std::string name;
  column_type type;
  bool is_optional = false; // of a part of the record that may be missing: null
};

/// A table of the database. Keys of bytes that no declaration covers have a table of their own: `declaration` is null, and
/// its one key column is all of the key, its one value column the record's bytes.
class sql_table {
public:
  explicit sql_table(const table& t);
  sql_table(); // for keys that no declaration covers

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const table* declaration() const { return declaration_; }
  [[nodiscard]] const std::vector<sql_column>& key() const { return key_; }
  [[nodiscard]] const std::vector<sql_column>& value() const { return value_; }
  /// A table without key columns has one row: its key column is `one_row`, always true.
  [[nodiscard]] bool is_one_row() const { return declaration_ && declaration_->key.empty(); }

  /// Nothing: no row can have this key (a text with NUL or that is not UTF-8, a number above 2^63 - 1, no key of this table).
  [[nodiscard]] std::optional<std::vector<std::string>> key_cells(std::string_view key) const;
  /// Nothing: not a record of this table, or one that columns cannot hold.
  [[nodiscard]] std::optional<std::vector<cell>> value_cells(const std::string& record) const;
  /// Errors: corrupt.
  [[nodiscard]] base::result<std::string, errc> key_of(std::span<const cell> cells) const;
  [[nodiscard]] base::result<std::string, errc> record_of(std::span<const cell> cells) const;

private:
  using path = std::vector<const google::protobuf::FieldDescriptor*>;
  const table* declaration_ = nullptr;
  std::string name_;
  std::vector<sql_column> key_, value_;
  const google::protobuf::Descriptor* record_ = nullptr; // null: rows have no record
  std::vector<path> paths_;                              // of value columns
};

/// The tables, by the first byte of their keys, and the one for all others.
class sql_tables {
public:
  /// `declared`: outlives the result.
  explicit sql_tables(std::span<const table* const> declared);
  [[nodiscard]] const sql_table& of_key(std::string_view key) const {
    auto* t = key.empty() ? nullptr : by_id_[static_cast<unsigned char>(key[0])];
    return t ? *t : other_;
  }
  [[nodiscard]] const std::vector<std::unique_ptr<sql_table>>& declared() const { return declared_; } // by id
  [[nodiscard]] const sql_table& other() const { return other_; }

private:
  std::vector<std::unique_ptr<sql_table>> declared_;
  const sql_table* by_id_[256] = {};
  sql_table other_;
};

/// "text", "bigint"; how arrays of it are handed over ("timestamptz[]"); and its default.
[[nodiscard]] const char* type_name(column_type t);
[[nodiscard]] const char* default_of(column_type t);
[[nodiscard]] std::string quoted(std::string_view name);

} // namespace storage::sql
