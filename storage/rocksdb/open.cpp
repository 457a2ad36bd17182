// Opening a RocksDB database: nothing that is damaged is opened (docs/storage.md).
#include "storage/rocksdb/engine.hpp"
#include "storage/rocksdb/log_check.hpp"
#include "storage/rocksdb/parts.hpp"
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_reader.h>
#include <rocksdb/table.h>

namespace storage {

namespace {
namespace fs = std::filesystem;

rocksdb::Options options_of(const rocksdb_options& o) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // Of the modes that do not drop whole records in silence, the one that accepts the end of a log whose
  // writer died. Its gap (a damaged length in the last block) is closed by check_log().
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.write_buffer_size = o.write_buffer;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.keep_log_file_num = 4;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.compression = rocksdb::CompressionType::kLZ4Compression;
  if (o.env)
    options.env = o.env;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(o.block_cache);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

bool is_number(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// What can be known to be damaged before RocksDB begins to change files.
base::result<void, std::string> check_folder(const fs::path& folder) {
  std::error_code ec;
  std::vector<fs::path> logs;
  bool is_database = false;
  for (fs::directory_iterator i{folder, ec}, end; !ec && i != end; i.increment(ec)) {
    auto name = i->path().filename().string();
    bool is_numbered = is_number(i->path().stem().string());
    if (is_numbered && i->path().extension() == ".log")
      logs.push_back(i->path());
    is_database |= name.starts_with("MANIFEST-") || (is_numbered && (i->path().extension() == ".log" || i->path().extension() == ".sst"));
  }
  if (ec)
    return base::fail(folder.string() + ": " + ec.message());
  auto current = folder / "CURRENT";
  if (!fs::exists(current, ec)) {
    if (is_database)
      return base::fail(current.string() + ": the file is missing, but files of a database are there");
    return {};
  }
  std::ifstream in{current};
  std::string name;
  std::getline(in, name);
  if (!name.starts_with("MANIFEST-") || !is_number(std::string_view{name}.substr(9)) || in.eof() || in.peek() != EOF)
    return base::fail(current.string() + ": does not name a manifest");
  auto manifest = folder / name;
  if (!fs::exists(manifest, ec))
    return base::fail(manifest.string() + ": the file is missing, but " + current.string() + " names it");
  logs.push_back(manifest);
  for (auto& l : logs)
    if (auto ok = check_log_file(l.string()); !ok)
      return ok;
  return {};
}
} // namespace

base::result<void, std::string> check_table_file(const std::string& path) {
  rocksdb::Options options;
  options.paranoid_checks = true;
  rocksdb::SstFileReader reader{options};
  auto s = reader.Open(path);
  if (s.ok()) {
    rocksdb::ReadOptions how;
    how.readahead_size = 1u << 20;
    how.fill_cache = false;
    s = reader.VerifyChecksum(how);
  }
  std::error_code ec;
  if (s.ok() || !fs::exists(path, ec))
    return {};
  return base::fail(path + ": " + s.ToString());
}

base::result<std::unique_ptr<engine>, std::string> open_rocksdb(const rocksdb_options& o) {
  auto fail = [&](const std::string& why) { return base::fail("the database in " + o.folder + " cannot be opened: " + why); };
  std::error_code ec;
  if (fs::create_directories(o.folder, ec))
    fs::permissions(o.folder, fs::perms::owner_all, ec); // SCRAM keys and secrets
  if (ec)
    return fail(ec.message());
  if (auto ok = check_folder(o.folder); !ok)
    return fail(ok.error());
  rocksdb::DB* opened = nullptr;
  auto s = rocksdb::DB::Open(options_of(o), o.folder, &opened);
  if (!s.ok())
    return fail(s.ToString());
  std::unique_ptr<rocksdb::DB> db{opened};
  std::vector<rocksdb::LiveFileMetaData> tables;
  db->GetLiveFilesMetaData(&tables);
  std::sort(tables.begin(), tables.end(), [](auto& a, auto& b) { return a.file_number > b.file_number; });
  std::vector<std::string> later;
  std::uint64_t checked = 0;
  for (auto& t : tables) {
    auto path = t.directory + "/" + t.relative_filename;
    checked += t.size;
    if (checked > o.check_at_start)
      later.push_back(path);
    else if (auto ok = check_table_file(path); !ok)
      return fail(ok.error());
  }
  return make_rocksdb_engine(std::move(db), std::move(later));
}

} // namespace storage
