// Opening a RocksDB database: nothing that is damaged is opened (docs/storage.md).
#include "storage/rocksdb/engine.hpp"
#include "storage/rocksdb/parts.hpp"
#include <filesystem>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_checksum.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

namespace storage {

namespace {
namespace fs = std::filesystem;

/// Nobody but the engine decides when to go on after a failed write. A compaction without room is
/// RocksDB's own affair: writes go on meanwhile.
class no_recovery final : public rocksdb::EventListener {
public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status s, bool* auto_recovery) override {
    if (s.severity() >= rocksdb::Status::Severity::kHardError)
      *auto_recovery = false;
  }
};

rocksdb::Options options_of(const rocksdb_options& o) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // Of the modes that do not drop whole records in silence, the one that accepts the end of a log whose
  // writer died. Its gap (a damaged length in the last block) is closed by check_log().
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.write_buffer_size = o.write_buffer;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.keep_log_file_num = 4;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.compression = rocksdb::CompressionType::kLZ4Compression;
  options.file_checksum_gen_factory = rocksdb::GetFileChecksumGenCrc32cFactory(); // of whole tables, in the manifest
  options.listeners.push_back(std::make_shared<no_recovery>());
  if (o.env)
    options.env = o.env;
  rocksdb::BlockBasedTableOptions table;
  // Two shards: what is larger than a shard is never cached. Index and filter in pieces, for the same
  // reason: whole, they have megabytes with a million rows, and were read again for each row (850 µs).
  table.block_cache = rocksdb::NewLRUCache(o.block_cache, 1);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  table.index_type = rocksdb::BlockBasedTableOptions::kTwoLevelIndexSearch;
  table.partition_filters = true;
  table.pin_top_level_index_and_filter = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}
base::result<std::unique_ptr<rocksdb::DB>, std::string> open(const rocksdb_options& o) {
  rocksdb::DB* opened = nullptr;
  auto s = rocksdb::DB::Open(options_of(o), o.folder, &opened);
  std::unique_ptr<rocksdb::DB> db{opened};
  if (s.ok()) {
    rocksdb::WriteBatch mark; // no row: in the log only, with the number of the next change, for check_folder()
    mark.PutLogData("opened");
    rocksdb::WriteOptions durable;
    durable.sync = true;
    s = db->Write(durable, &mark);
  }
  if (!s.ok())
    return base::fail(s.ToString());
  return db;
}

/// As much as opening may write: what is in the logs, as tables.
bool can_write(const rocksdb_options& o) {
  auto* env = o.env ? o.env : rocksdb::Env::Default();
  auto name = o.folder + "/room";
  std::unique_ptr<rocksdb::WritableFile> f;
  auto s = env->NewWritableFile(name, &f, rocksdb::EnvOptions{});
  std::string part(1u << 20, 'x');
  for (std::size_t n = 0; s.ok() && n < 2 * o.write_buffer; n += part.size())
    s = f->Append(part);
  if (s.ok())
    s = f->Sync();
  if (f) {
    auto closed = f->Close();
    f = nullptr;
    auto gone = env->DeleteFile(name);
    if (s.ok())
      s = closed.ok() ? gone : closed;
  }
  return s.ok();
}
} // namespace

base::result<std::unique_ptr<engine>, std::string> open_rocksdb(const rocksdb_options& o) {
  auto fail = [&](const std::string& why) { return base::fail("the database in " + o.folder + " cannot be opened: " + why); };
  std::error_code ec;
  if (fs::create_directories(o.folder, ec))
    fs::permissions(o.folder, fs::perms::owner_all, ec); // SCRAM keys and secrets
  if (ec)
    return fail(ec.message());
  auto unchecked = check_folder(o.folder, o.check_at_start);
  if (!unchecked)
    return fail(unchecked.error());
  auto db = open(o);
  if (!db)
    return fail(db.error());
  return make_rocksdb_engine(std::move(*db), std::move(*unchecked), [o] { return open(o); }, [o] { return can_write(o); });
}

} // namespace storage
