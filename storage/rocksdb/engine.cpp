// Values are stored as version (8 bytes, big endian) and record.
#include "storage/rocksdb/engine.hpp"
#include "base/log.hpp"
#include <filesystem>
#include <mutex>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <unordered_map>

namespace storage {

namespace {

outcome outcome_of(const rocksdb::Status& s) {
  return s.ok() ? outcome::done : s.IsCorruption() ? outcome::corrupt : outcome::unavailable;
}
errc errc_of(const rocksdb::Status& s) { return s.IsCorruption() ? errc::corrupt : errc::unavailable; }

class rocksdb_engine final : public engine {
public:
  rocksdb_engine(std::unique_ptr<rocksdb::DB> db) : db_(std::move(db)) {}
  ~rocksdb_engine() override {
    if (auto s = db_->Close(); !s.ok())
      base::log::error("storage.close", "the database did not close cleanly", {{"error", s.ToString()}});
  }

  std::vector<outcome> commit(std::span<const batch> batches) override {
    std::lock_guard guard{mutex_}; // preconditions are read and written by one caller at a time
    std::vector<outcome> outcomes(batches.size(), outcome::done);
    rocksdb::WriteBatch writes;
    pending_.clear();
    ranges_.clear();
    bool durable = false;
    for (std::size_t i = 0; i < batches.size(); ++i) {
      outcomes[i] = check(batches[i]);
      if (outcomes[i] != outcome::done)
        continue;
      if (auto failed = append(writes, batches[i]); failed != outcome::done)
        return std::vector<outcome>(batches.size(), failed); // nothing has been written
      durable |= batches[i].durability == durability::durable;
    }
    if (writes.Count() == 0)
      return outcomes;
    rocksdb::WriteOptions how;
    how.sync = durable;
    auto s = db_->Write(how, &writes);
    if (!s.ok() && !s.IsCorruption()) { // a full disk makes RocksDB read-only until it is told to go on
      base::log::error("storage.write_failed", "a commit failed", {{"error", s.ToString()}});
      if (db_->Resume().ok())
        s = db_->Write(how, &writes);
    }
    if (!s.ok())
      for (auto& o : outcomes)
        if (o == outcome::done)
          o = outcome_of(s);
    return outcomes;
  }

  base::result<std::optional<row>, errc> get(std::string_view key) override {
    std::string value;
    auto s = db_->Get(rocksdb::ReadOptions{}, slice(key), &value);
    if (s.IsNotFound())
      return std::optional<row>{};
    if (!s.ok())
      return base::fail(errc_of(s));
    return unpack(key, value).map([](row r) { return std::optional<row>{std::move(r)}; });
  }

  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override {
    std::vector<row> found;
    if (range.until <= range.from)
      return found;
    rocksdb::ReadOptions how;
    auto lower = slice(range.from), upper = slice(range.until);
    how.iterate_lower_bound = &lower;
    how.iterate_upper_bound = &upper;
    std::unique_ptr<rocksdb::Iterator> i{db_->NewIterator(how)};
    o == order::forward ? i->SeekToFirst() : i->SeekToLast();
    for (; i->Valid() && found.size() < limit; o == order::forward ? i->Next() : i->Prev()) {
      auto r = unpack(i->key().ToStringView(), i->value().ToStringView());
      if (!r)
        return base::fail(r.error());
      found.push_back(std::move(*r));
    }
    if (!i->status().ok())
      return base::fail(errc_of(i->status()));
    return found;
  }

  /// An embedded engine always knows what became of a batch, so nobody needs to ask.
  base::result<bool, errc> resolve(base::u128) override { return base::fail(errc::conflict); }

  base::result<void, errc> snapshot(const std::string& folder) override {
    rocksdb::Checkpoint* made = nullptr;
    if (!rocksdb::Checkpoint::Create(db_.get(), &made).ok())
      return base::fail(errc::unavailable);
    std::unique_ptr<rocksdb::Checkpoint> checkpoint{made};
    if (!checkpoint->CreateCheckpoint(folder).ok())
      return base::fail(errc::unavailable);
    return {};
  }

private:
  static rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }
  static base::result<row, errc> unpack(std::string_view key, std::string_view value) {
    if (value.size() < 8)
      return base::fail(errc::corrupt);
    return row{std::string{key}, std::string{value.substr(8)}, base::get_be64(value)};
  }

  /// As the row will be after the batches before it in this call. 0: absent.
  base::result<version, outcome> version_of(const std::string& key) {
    if (auto i = pending_.find(key); i != pending_.end())
      return i->second;
    for (auto& r : ranges_)
      if (key >= r.from && key < r.until)
        return version{0};
    std::string value;
    auto s = db_->Get(rocksdb::ReadOptions{}, key, &value);
    if (s.IsNotFound())
      return version{0};
    if (!s.ok())
      return base::fail(outcome_of(s));
    if (value.size() < 8)
      return base::fail(outcome::corrupt);
    return base::get_be64(value);
  }

  outcome check(const batch& b) {
    for (auto& p : b.preconditions) {
      auto v = version_of(p.key);
      if (!v)
        return v.error();
      if (*v != p.expected)
        return outcome::conflict;
    }
    return outcome::done;
  }

  outcome append(rocksdb::WriteBatch& writes, const batch& b) {
    for (auto& c : b.changes) {
      if (auto* p = std::get_if<put>(&c)) {
        auto v = version_of(p->key);
        if (!v)
          return v.error();
        std::string value;
        value.reserve(8 + p->value.size());
        base::put_be64(value, *v + 1);
        value += p->value;
        writes.Put(p->key, value);
        pending_[p->key] = *v + 1;
      } else if (auto* e = std::get_if<erase>(&c)) {
        writes.Delete(e->key);
        pending_[e->key] = 0;
      } else {
        auto& r = std::get<erase_range>(c);
        writes.DeleteRange(r.from, r.until);
        std::erase_if(pending_, [&](auto& x) { return x.first >= r.from && x.first < r.until; });
        ranges_.push_back(r);
      }
    }
    return outcome::done;
  }

  std::unique_ptr<rocksdb::DB> db_;
  std::mutex mutex_;
  std::unordered_map<std::string, version> pending_; // of the group that is being made
  std::vector<erase_range> ranges_;
};

} // namespace

base::result<std::unique_ptr<engine>, std::string> open_rocksdb(const rocksdb_options& o) {
  std::error_code ec;
  std::filesystem::create_directories(o.folder, ec);
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // What ends in the middle of a record was never acknowledged. Anything else that does not add up is an
  // error: only the tail of the last log may be torn.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.write_buffer_size = o.write_buffer;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.keep_log_file_num = 4;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.compression = rocksdb::CompressionType::kLZ4Compression;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(o.block_cache);
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  table.cache_index_and_filter_blocks = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  rocksdb::DB* db = nullptr;
  auto s = rocksdb::DB::Open(options, o.folder, &db);
  if (!s.ok())
    return base::fail("the database in " + o.folder + " cannot be opened: " + s.ToString());
  return std::make_unique<rocksdb_engine>(std::unique_ptr<rocksdb::DB>{db});
}

} // namespace storage
