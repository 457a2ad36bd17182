// Reads the catalogue, then does what is missing in one transaction.
#include "storage/sql/layout.hpp"
#include "base/log.hpp"
#include "storage/sql/wire.hpp"
#include <map>
#include <set>

namespace storage::sql {

namespace {
using columns = std::map<std::string, std::string>; // name: type

constexpr const char* batch_log_text =
    "create table batch_log (node bigint not null, seq bigint not null, state smallint not null default 1, "
    "at timestamp with time zone not null default now(), primary key (node, seq))";
constexpr const char* version_text =
    "create table table_layout (one_row boolean primary key default true check (one_row), version bigint not null)";

std::string definition(const sql_column& c, bool is_key) {
  bool is_text = c.type == column_type::text || c.type == column_type::xml;
  auto out = quoted(c.name) + ' ' + type_name(c.type) + (is_text ? " collate \"C\"" : "");
  if (is_key)
    return out + " not null";
  return c.is_optional ? out : out + " not null default " + default_of(c.type);
}

std::string create_text(const sql_table& t) {
  std::string out = "create table " + quoted(t.name()) + " (", key;
  for (auto& c : t.key()) {
    out += definition(c, true) + (t.is_one_row() ? " check (one_row), " : ", ");
    key += (key.empty() ? "" : ", ") + quoted(c.name);
  }
  for (auto& c : t.value())
    out += definition(c, false) + ", ";
  return out + "ver bigint not null, primary key (" + key + "))";
}

std::string words(const replies& r, const std::string& doing) {
  auto out = doing + ": " + r.text + " (" + r.state + ')';
  if (r.state == "42501")
    out += ". Let covey's user own its database or schema: grant create, usage on schema public to covey";
  if (r.state == "42P07")
    out += ". Give covey a database of its own, or a schema (options='-c search_path=covey' in storage.connection)";
  return out;
}

class work {
public:
  work(connection& c, base::time_point deadline) : c_(c), deadline_(deadline) {}
  base::result<replies, std::string> run(const std::vector<statement>& todo, const std::string& doing) {
    auto r = c_.run(todo, deadline_);
    if (!r)
      return base::fail("the connection to PostgreSQL at " + c_.peer() + " was lost: " + doing);
    if (!r->is_ok())
      return base::fail(words(*r, doing));
    return std::move(*r);
  }

private:
  connection& c_;
  base::time_point deadline_;
};

/// Tables that the search path finds, with their columns.
base::result<std::map<std::string, columns>, std::string> read_catalogue(work& w, const std::vector<std::string>& names) {
  std::vector<cell> cells(names.begin(), names.end());
  auto r = w.run({{"select n, a.attname::text, format_type(a.atttypid, -1)::text from unnest($1::text[]) n "
                   "join pg_attribute a on a.attrelid = to_regclass(quote_ident(n)) where a.attnum > 0 and not a.attisdropped",
                   {wire::array(cells, wire::of_text)}}},
                 "the tables of the database cannot be read");
  if (!r)
    return base::fail(r.error());
  std::map<std::string, columns> out;
  for (auto& row : r->all.front().rows)
    out[row[0].value_or("")].emplace(row[1].value_or(""), row[2].value_or(""));
  return out;
}
} // namespace

base::result<void, std::string> provide_layout(connection& c, const sql_tables& tables, base::time_point deadline, std::int64_t version) {
  if (auto encoding = c.told("server_encoding"); encoding != "UTF8")
    return base::fail("the database has the encoding " + encoding + ", covey needs UTF8: createdb -E UTF8 -T template0 -O covey covey");
  work w{c, deadline};
  std::vector<const sql_table*> all{&tables.other()};
  std::vector<std::string> names{"batch_log", "table_layout", tables.other().name()};
  for (auto& t : tables.declared()) {
    all.push_back(t.get());
    names.push_back(t->name());
  }
  auto there = read_catalogue(w, names);
  if (!there)
    return base::fail(there.error());
  std::vector<statement> todo{{"begin", {}}};
  if (there->contains("table_layout")) {
    auto r = w.run({{"select version from table_layout", {}}}, "the version of the tables cannot be read");
    if (!r)
      return base::fail(r.error());
    auto& rows = r->all.front().rows;
    auto found = rows.empty() ? std::nullopt : wire::read_number(rows[0][0]);
    if (!found)
      return base::fail(std::string{"table_layout has no version: the tables of this database are damaged, or not covey's"});
    if (*found > version)
      return base::fail("the tables of this database have layout " + std::to_string(*found) + ", made by a newer covey; this one knows up to "
                        + std::to_string(version));
    if (*found < version)
      todo.push_back({"update table_layout set version = $1::bigint", {wire::number(version)}});
  } else {
    todo.push_back({version_text, {}});
    todo.push_back({"insert into table_layout(version) values ($1::bigint)", {wire::number(version)}});
  }
  if (!there->contains("batch_log"))
    todo.push_back({batch_log_text, {}});
  for (auto* t : all) {
    auto has = there->find(t->name());
    if (has == there->end()) {
      todo.push_back({create_text(*t), {}});
      continue;
    }
    if (!there->contains("table_layout"))
      return base::fail("there is a table " + t->name() + " that covey did not make. Give covey a database of its own, or a schema "
                        "(options='-c search_path=covey' in storage.connection)");
    auto wrong = [&](const std::string& column) { return base::fail("the table " + t->name() + " has another column " + column + " than covey made: it was changed, or is not covey's"); };
    for (auto& column : t->key())
      if (auto i = has->second.find(column.name); i == has->second.end() || i->second != type_name(column.type))
        return wrong(column.name);
    if (auto i = has->second.find("ver"); i == has->second.end() || i->second != "bigint")
      return wrong("ver");
    for (auto& column : t->value()) {
      auto i = has->second.find(column.name);
      if (i == has->second.end())
        todo.push_back({"alter table " + quoted(t->name()) + " add column " + definition(column, false), {}});
      else if (i->second != type_name(column.type))
        return wrong(column.name);
    }
  }
  if (todo.size() == 1)
    return {};
  auto changes = todo.size() - 1;
  todo.push_back({"commit", {}});
  if (auto r = w.run(todo, "the tables cannot be made"); !r) {
    statement rollback{"rollback", {}};
    (void)c.run({&rollback, 1}, deadline);
    return base::fail(r.error());
  }
  base::log::info("storage.layout_made", "tables or columns were made in the database", {{"changes", std::to_string(changes)}});
  return {};
}

} // namespace storage::sql
