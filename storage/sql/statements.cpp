// Casts fix the types of parameters: PostgreSQL would guess others.
#include "storage/sql/statements.hpp"
#include "storage/sql/wire.hpp"

namespace storage::sql {

namespace {
std::uint32_t element_of(column_type t) {
  switch (t) {
    case column_type::bytes: return wire::of_bytea;
    case column_type::u32:
    case column_type::u64: return wire::of_bigint;
    case column_type::u128: return wire::of_uuid;
    case column_type::boolean: return wire::of_boolean;
    case column_type::time_us: return wire::of_time;
    default: return wire::of_text; // also of lists: {"a","b"}
  }
}
std::string array_type(column_type t) { return std::string{t == column_type::text_list ? "text" : type_name(t)} + "[]"; }

std::string list(const std::vector<sql_column>& columns, const char* before = "", const char* between = ", ") {
  std::string out;
  for (auto& c : columns)
    out += (out.empty() ? "" : between) + (before + quoted(c.name));
  return out;
}
} // namespace

std::string table_statements::unnest(std::size_t first, bool with_values, const char* more) const {
  std::string arrays, names;
  auto add = [&](const std::string& type, const std::string& name) {
    arrays += (arrays.empty() ? "$" : ", $") + std::to_string(first++) + "::" + type;
    names += (names.empty() ? "" : ", ") + name;
  };
  for (std::size_t i = 0; i < table_.key().size(); ++i)
    add(array_type(table_.key()[i].type), "k" + std::to_string(i));
  if (with_values)
    for (std::size_t i = 0; i < table_.value().size(); ++i)
      add(array_type(table_.value()[i].type), "v" + std::to_string(i));
  if (*more)
    add("bigint[]", more);
  return "unnest(" + arrays + ") x(" + names + ')';
}

std::string table_statements::same_key(const char* of, const char* as) const {
  std::string out;
  for (std::size_t i = 0; i < table_.key().size(); ++i)
    out += (out.empty() ? "" : " and ") + (of + quoted(table_.key()[i].name)) + " = " + as + 'k' + std::to_string(i);
  return out;
}

table_statements::table_statements(const sql_table& t) : table_(t) {
  auto name = quoted(t.name());
  std::string keys, values, replaced;
  for (std::size_t i = 0; i < t.key().size(); ++i)
    keys += (i ? ", k" : "k") + std::to_string(i);
  for (std::size_t i = 0; i < t.value().size(); ++i) {
    auto& c = t.value()[i];
    values += ", v" + std::to_string(i) + (c.type == column_type::text_list ? "::text[]" : "");
    replaced += quoted(c.name) + " = excluded." + quoted(c.name) + ", ";
  }
  create = "insert into " + name + '(' + list(t.key()) + (t.value().empty() ? "" : ", ") + list(t.value()) + ", ver) select " + keys + values
           + ", 1 from " + unnest(3, true) + if_open;
  upsert = create + " on conflict (" + list(t.key()) + ") do update set " + replaced + "ver = " + name + ".ver + 1";
  claim = "insert into " + name + '(' + list(t.key()) + ", ver) select " + keys + ", 0 from " + unnest(3, false) + if_open;
  erase = "delete from " + name + " t using " + unnest(3, false) + if_open + " and " + same_key("t.", "x.");
  lock = "select 1 from " + name + " t join " + unnest(1, false) + " on " + same_key("t.", "x.") + " order by " + list(t.key(), "t.") + " for update of t";
}

std::string table_statements::has_versions(std::size_t first) const {
  // locks, too: a row that came after the first statement of the group would otherwise be anybody's
  return "(select count(*) from (select 1 from " + quoted(table_.name()) + " t join " + unnest(first, false, "v") + " on " + same_key("t.", "x.")
         + " and t.ver = x.v for update of t) held) = cardinality($" + std::to_string(first) + "::" + array_type(table_.key().front().type) + ')';
}

std::string table_statements::are_absent(std::size_t first) const {
  return "not exists (select 1 from " + quoted(table_.name()) + " t join " + unnest(first, false) + " on " + same_key("t.", "x.") + ')';
}

std::string table_statements::select(const std::string& condition, order o) const {
  return "select " + list(table_.key()) + (table_.value().empty() ? "" : ", ") + list(table_.value()) + ", ver from " + quoted(table_.name())
         + (condition.empty() ? "" : " where ") + condition + " order by "
         + list(table_.key(), "", o == order::forward ? ", " : " desc, ") + (o == order::forward ? "" : " desc") + " limit $1::bigint";
}

std::string table_statements::erase_where(const std::string& condition) const {
  return "delete from " + quoted(table_.name()) + if_open + (condition.empty() ? "" : " and ") + condition;
}

std::vector<std::string> arrays(const sql_table& t, const key_rows& keys) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < t.key().size(); ++i)
    out.push_back(wire::array(keys.columns()[i], element_of(t.key()[i].type)));
  return out;
}

std::vector<std::string> arrays(const sql_table& t, const std::vector<std::vector<cell>>& rows) {
  std::vector<std::string> out;
  std::vector<cell> column(rows.size());
  for (std::size_t i = 0; i < t.value().size(); ++i) {
    for (std::size_t r = 0; r < rows.size(); ++r)
      column[r] = rows[r][i];
    out.push_back(wire::array(column, element_of(t.value()[i].type)));
  }
  return out;
}

} // namespace storage::sql
