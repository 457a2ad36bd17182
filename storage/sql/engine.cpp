// Writer and readers over one pool.
#include "storage/sql/engine.hpp"
#include "storage/sql/layout.hpp"
#include "storage/sql/pool.hpp"
#include "storage/sql/reader.hpp"
#include "storage/sql/writer.hpp"
#include "storage/tables.hpp"

namespace storage {

namespace {

class sql_engine final : public engine {
public:
  sql_engine(const sql_options& o, sql::parameters to)
    : catalogue_(o.tables.empty() ? std::span<const table* const>{tables::all} : o.tables), pool_(std::move(to), o.readers, o.patience),
      reader_(catalogue_, pool_, o.deadline), writer_(catalogue_, pool_, o.deadline) {}

  base::result<void, std::string> start() {
    auto c = pool_.try_open();
    if (!c)
      return base::fail("PostgreSQL cannot be reached: " + c.error()
                        + ". See that it runs and lets covey in (psql with the same storage.connection tells more: docs/postgresql.md)");
    for (int attempt = 1;; ++attempt) {
      auto made = sql::provide_layout(**c, catalogue_.tables(), base::steady::now() + std::chrono::minutes{5});
      if (made)
        break;
      if (attempt == 3 || (*c)->is_lost()) // another node may just make the same tables
        return base::fail("PostgreSQL at " + (*c)->peer() + ": " + made.error());
    }
    writer_.use(std::move(*c));
    return {};
  }

  std::vector<outcome> commit(std::span<const batch> batches) override { return writer_.commit(batches); }
  base::result<std::optional<row>, errc> get(std::string_view key) override {
    auto rows = reader_.scan(only(std::string{key}), order::forward, 1);
    if (!rows)
      return base::fail(rows.error());
    return rows->empty() ? std::optional<row>{} : std::optional<row>{std::move(rows->front())};
  }
  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override { return reader_.scan(range, o, limit); }
  base::result<bool, errc> resolve(base::u128 id) override { return writer_.resolve(id); }
  base::result<void, errc> snapshot(const std::string& folder) override { return reader_.copy(folder); }

private:
  const sql::catalogue catalogue_;
  sql::pool pool_;
  sql::reader reader_;
  sql::writer writer_;
};

} // namespace

base::result<std::unique_ptr<engine>, std::string> open_sql(const sql_options& o) {
  auto to = sql::parse_connection(o.connection);
  if (!to)
    return base::fail("storage.connection: " + to.error());
  auto e = std::make_unique<sql_engine>(o, std::move(*to));
  if (auto ok = e->start(); !ok)
    return base::fail(ok.error());
  return e;
}

base::result<sql_state, std::string> look_at_sql(const std::string& connection) {
  auto to = sql::parse_connection(connection);
  if (!to)
    return base::fail(to.error());
  auto c = sql::connection::open(*to);
  if (!c)
    return base::fail(c.error());
  sql::statement ask{"select (current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on')::text, "
                     "(select count(*)::text from pg_stat_replication where sync_state in ('sync', 'quorum'))",
                     {}};
  auto r = (*c)->run({&ask, 1}, base::steady::now() + std::chrono::seconds{5});
  if (!r || !r->is_ok())
    return base::fail(r ? r->text : std::string{"the connection was lost"});
  auto& row = r->all.front().rows.front();
  auto n = row[1].value_or("0");
  return sql_state{"PostgreSQL " + (*c)->told("server_version") + " at " + (*c)->peer() + ", " + n + " synchronous standby" + (n == "1" ? "" : "s"),
                   row[0] == "true"};
}

} // namespace storage
