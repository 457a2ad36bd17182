// Opens both, copies, compares.
#include "server/migrate.hpp"
#include "storage/copy_rows.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/rows_file.hpp"
#include "storage/schema.hpp"
#include "storage/sql/engine.hpp"
#include <filesystem>
#include <set>

namespace server {

namespace {
using opened = base::result<std::unique_ptr<storage::engine>, std::string>;

opened open_database(const config& c, const std::string& name) {
  auto colon = name.find(':');
  std::set<std::string> found;
  for (auto& h : c.hosts)
    if (!h.connection.empty() && (colon == name.npos || h.domain == name.substr(colon + 1)))
      found.insert(h.connection);
  if (found.empty())
    return base::fail(std::string{"the configuration names no database: storage.connection = \"host=db1,db2 dbname=covey user=covey\""});
  if (found.size() > 1)
    return base::fail(std::string{"hosts have different databases: say postgresql:DOMAIN"});
  return storage::open_sql({.connection = *found.begin()});
}

opened open_store(const config& c, const std::string& name, bool is_source) {
  if (name == "postgresql" || name.starts_with("postgresql:"))
    return open_database(c, name);
  if (name != "rocksdb")
    return base::fail('"' + name + "\" is neither rocksdb nor postgresql");
  std::error_code ec;
  auto folder = c.data_folder + "/store";
  if (is_source && !std::filesystem::exists(folder + "/CURRENT", ec)) // else one would be made
    return base::fail(folder + " holds no database");
  return storage::open_rocksdb({folder, c.write_buffer, c.block_cache});
}
} // namespace

base::result<std::uint64_t, std::string> migrate(const config& c, const std::string& from, const std::string& to,
                                                 const std::function<void(std::uint64_t)>& on_progress) {
  if (from == to)
    return base::fail(std::string{"from and to are the same"});
  std::error_code ec;
  bool is_file = std::filesystem::is_regular_file(from, ec);
  opened source;
  if (!is_file) {
    source = open_store(c, from, true);
    if (!source)
      return base::fail(from + ": " + source.error());
    if (auto ok = storage::tables::check_schema(**source); !ok)
      return base::fail(from + ": " + ok.error());
  }
  auto target = open_store(c, to, false);
  if (!target)
    return base::fail(to + ": " + target.error());
  if (!is_file) {
    auto rows = storage::copy_rows(**source, **target, on_progress);
    return rows ? rows : base::fail(to + ": " + rows.error());
  }
  if (auto ok = storage::check_empty(**target); !ok)
    return base::fail(to + ": " + ok.error());
  auto rows = storage::load_rows(from, **target);
  if (rows)
    if (auto ok = storage::tables::check_schema(**target); !ok)
      return base::fail(from + ": " + ok.error());
  return rows;
}

} // namespace server
