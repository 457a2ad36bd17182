// Values are stored as version (8 bytes, big endian) and record.
#include "storage/rocksdb/engine.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"
#include "storage/rocksdb/parts.hpp"
#include "storage/table.hpp"
#include <atomic>
#include <limits>
#include <mutex>
#include <rocksdb/db.h>
#include <rocksdb/utilities/checkpoint.h>
#include <shared_mutex>
#include <thread>
#include <unordered_map>

namespace storage {

namespace {

outcome outcome_of(const rocksdb::Status& s) {
  return s.ok() ? outcome::done : s.IsCorruption() ? outcome::corrupt : outcome::unavailable;
}
errc errc_of(const rocksdb::Status& s) { return s.IsCorruption() ? errc::corrupt : errc::unavailable; }
constexpr std::size_t most_in_memory = 64; // rows, and as many that are gone: more take longer than a reader's thread needs to wake up
constexpr auto with_its_log = std::numeric_limits<std::uint64_t>::max(); // not flushed into tables
rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

rocksdb::Status add_row(std::string_view key, std::string_view value, std::vector<row>& found) {
  if (value.size() < 8)
    return rocksdb::Status::Corruption("a row without version");
  found.push_back({std::string{key}, std::string{value.substr(8)}, base::get_be64(value)});
  return rocksdb::Status::OK();
}

/// An iterator over the rows of a range, which outlives it.
class bounded {
public:
  bounded(rocksdb::DB& db, rocksdb::ReadOptions how, const key_range& range) : lower_(slice(range.from)), upper_(slice(range.until)) {
    how.iterate_lower_bound = &lower_;
    how.iterate_upper_bound = &upper_;
    rows_.reset(db.NewIterator(how));
  }
  void begin(order o) { o == order::forward ? rows_->SeekToFirst() : rows_->SeekToLast(); }
  void next(order o) { o == order::forward ? rows_->Next() : rows_->Prev(); }
  [[nodiscard]] bool is_valid() const { return rows_->Valid(); }
  rocksdb::Iterator* operator->() const { return rows_.get(); }

private:
  rocksdb::Slice lower_, upper_; // the iterator refers to them
  std::unique_ptr<rocksdb::Iterator> rows_;
};

/// What one commit writes, and how rows look after the batches it has so far.
class write_group {
public:
  explicit write_group(rocksdb::DB& db) : db_(db) {}

  /// A batch that fails leaves nothing behind: all that can fail comes before the first change.
  outcome add(const batch& b) {
    for (auto& p : b.preconditions) {
      auto v = version_of(p.key);
      if (!v)
        return outcome_of(v.error());
      if (*v != p.expected)
        return outcome::conflict;
    }
    for (auto& c : b.changes)
      if (auto* p = std::get_if<put>(&c))
        if (auto v = version_of(p->key); !v)
          return outcome_of(v.error());
    for (auto& c : b.changes)
      if (auto* p = std::get_if<put>(&c))
        add(*p);
      else if (auto* e = std::get_if<erase>(&c))
        add(*e);
      else
        add(std::get<erase_range>(c));
    is_durable_ |= b.durability == durability::durable;
    return outcome::done;
  }

  [[nodiscard]] bool is_empty() const { return writes_.Count() == 0; }
  [[nodiscard]] bool is_durable() const { return is_durable_; }
  [[nodiscard]] rocksdb::WriteBatch& writes() { return writes_; }

private:
  void add(const put& p) {
    auto& v = known_[p.key];
    ++v;
    value_.clear();
    base::put_be64(value_, v);
    value_ += p.value;
    writes_.Put(p.key, value_);
  }
  void add(const erase& e) {
    known_[e.key] = 0;
    writes_.Delete(e.key);
  }
  void add(const erase_range& r) {
    if (r.until <= r.from)
      return;
    for (auto& [key, v] : known_)
      if (key >= r.from && key < r.until)
        v = 0;
    ranges_.push_back(r);
    writes_.DeleteRange(r.from, r.until);
  }

  /// 0: absent.
  base::result<version, rocksdb::Status> version_of(const std::string& key) {
    if (auto i = known_.find(key); i != known_.end())
      return i->second;
    version v = 0;
    bool is_erased = false;
    for (auto& r : ranges_)
      is_erased |= key >= r.from && key < r.until;
    if (!is_erased) {
      rocksdb::PinnableSlice value;
      auto s = db_.Get(rocksdb::ReadOptions{}, db_.DefaultColumnFamily(), key, &value);
      if (s.ok() && value.size() < 8)
        s = rocksdb::Status::Corruption("a row without version");
      if (!s.ok() && !s.IsNotFound())
        return base::fail(s);
      if (s.ok())
        v = base::get_be64(value.ToStringView());
    }
    known_.emplace(key, v);
    return v;
  }

  rocksdb::DB& db_;
  rocksdb::WriteBatch writes_;
  std::unordered_map<std::string, version> known_;
  std::vector<erase_range> ranges_;
  std::string value_;
  bool is_durable_ = false;
};

class rocksdb_engine final : public engine {
public:
  rocksdb_engine(std::unique_ptr<rocksdb::DB> db, std::vector<table_file> unchecked, reopen again, has_room room)
    : db_(std::move(db)), reopen_(std::move(again)), has_room_(std::move(room)) {
    if (!unchecked.empty())
      checker_ = std::thread{[this, files = std::move(unchecked)] { check(files); }};
  }
  ~rocksdb_engine() override {
    stops_ = true;
    if (checker_.joinable())
      checker_.join();
    close();
  }

  std::vector<outcome> commit(std::span<const batch> batches) override {
    std::lock_guard guard{mutex_}; // preconditions are read and written by one caller at a time
    if (is_failing_)
      recover();
    if (!db_)
      return std::vector<outcome>(batches.size(), outcome::unavailable);
    std::vector<outcome> outcomes;
    outcomes.reserve(batches.size());
    write_group group{*db_};
    for (auto& b : batches) {
      outcomes.push_back(group.add(b));
      if (outcomes.back() == outcome::corrupt)
        report("a batch names a damaged row");
    }
    if (group.is_empty())
      return outcomes;
    if (auto s = write(group); !s.ok())
      for (auto& o : outcomes)
        if (o == outcome::done)
          o = outcome_of(s);
    return outcomes;
  }

  base::result<std::optional<row>, errc> get(std::string_view key) override {
    std::shared_lock open{open_};
    std::vector<row> found;
    if (auto s = read_one({}, key, found); !s.ok())
      return failed(s);
    return found.empty() ? std::optional<row>{} : std::optional{std::move(found.front())};
  }

  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override {
    std::shared_lock open{open_};
    std::vector<row> found;
    if (auto s = read({}, range, o, limit, found); !s.ok())
      return failed(s);
    return found;
  }

  std::optional<std::vector<row>> scan_in_memory(const key_range& range, order o, std::size_t limit) override {
    std::shared_lock open{open_, std::try_to_lock};
    rocksdb::ReadOptions how;
    how.read_tier = rocksdb::ReadTier::kBlockCacheTier; // else Incomplete
    how.max_skippable_internal_keys = most_in_memory;   // what has been erased costs time, too
    std::vector<row> found;
    if (!open || !read(how, range, o, std::min(limit, most_in_memory + 1), found).ok() || found.size() > most_in_memory)
      return std::nullopt;
    return found;
  }

  /// Nobody needs to ask: this engine always knows what became of a batch.
  base::result<bool, errc> resolve(base::u128) override { return base::fail(errc::conflict); }

  base::result<void, errc> snapshot(const std::string& folder) override {
    std::shared_lock open{open_};
    if (!db_)
      return base::fail(errc::unavailable);
    rocksdb::Checkpoint* made = nullptr;
    if (auto s = rocksdb::Checkpoint::Create(db_.get(), &made); !s.ok())
      return failed(s);
    std::unique_ptr<rocksdb::Checkpoint> checkpoint{made};
    if (auto s = checkpoint->CreateCheckpoint(folder, with_its_log); !s.ok()) {
      base::log::error("storage.snapshot_failed", "no copy was made", {{"folder", folder}, {"error", s.ToString()}});
      return base::fail(errc::unavailable);
    }
    return {};
  }

private:
  // With open_ held.
  rocksdb::Status read_one(const rocksdb::ReadOptions& how, std::string_view key, std::vector<row>& found) {
    if (!db_)
      return rocksdb::Status::IOError("not open");
    rocksdb::PinnableSlice value;
    auto s = db_->Get(how, db_->DefaultColumnFamily(), slice(key), &value);
    if (!s.ok())
      return s.IsNotFound() ? rocksdb::Status::OK() : s;
    return add_row(key, value.ToStringView(), found);
  }
  rocksdb::Status read(const rocksdb::ReadOptions& how, const key_range& range, order o, std::size_t limit, std::vector<row>& found) {
    if (range.until <= range.from || limit == 0)
      return rocksdb::Status::OK();
    if (is_one_key(range)) // an iterator costs twice as much and asks no Bloom filter
      return read_one(how, range.from, found);
    if (!db_)
      return rocksdb::Status::IOError("not open");
    bounded i{*db_, how, range};
    for (i.begin(o); i.is_valid() && found.size() < limit; i.next(o))
      if (auto s = add_row(i->key().ToStringView(), i->value().ToStringView(), found); !s.ok())
        return s;
    return i->status();
  }

  tl::unexpected<errc> failed(const rocksdb::Status& s) {
    if (s.IsCorruption())
      report(s.ToString());
    return base::fail(errc_of(s));
  }

  /// Once a second at most: a damaged block is met again and again. Any thread.
  void report(const std::string& what) {
    auto now = base::steady::now().time_since_epoch().count();
    auto last = last_report_.load();
    if (last != 0 && now - last < std::chrono::nanoseconds{std::chrono::seconds{1}}.count())
      return;
    if (last_report_.compare_exchange_strong(last, now))
      base::log::error("storage.corrupt", "bytes on disk are not what was written", {{"error", what}});
  }

  rocksdb::Status write(write_group& group) {
    rocksdb::WriteOptions how;
    how.sync = group.is_durable();
    auto s = db_->Write(how, &group.writes());
    if (!s.ok() && !std::exchange(is_failing_, true)) {
      base::log::error("storage.write_failed", "commits fail", {{"error", s.ToString()}});
      next_try_ = base::steady::now() + pause;
    }
    if (s.ok() && std::exchange(is_failing_, false))
      base::log::info("storage.recovered", "commits are done again", {});
    return s;
  }

  /// After a failed write RocksDB is read-only. Its own way out writes on behind what was half written,
  /// and does not always succeed (7.8.3); opening again is the way that every start takes.
  void recover() {
    auto now = base::steady::now();
    if (now < next_try_)
      return;
    next_try_ = now + pause;
    if (!has_room_())
      return; // reads go on with what is open
    std::unique_lock alone{open_};
    if (db_)
      close();
    auto fresh = reopen_();
    if (fresh)
      db_ = std::move(*fresh);
    else
      base::log::error("storage.open_failed", "the database cannot be opened again", {{"error", fresh.error()}});
  }

  void close() {
    if (db_)
      if (auto s = db_->Close(); !s.ok() && !is_failing_)
        base::log::error("storage.close", "the database did not close cleanly", {{"error", s.ToString()}});
    db_ = nullptr;
  }

  void check(const std::vector<table_file>& files) {
    for (auto& f : files) {
      if (stops_)
        return;
      if (auto ok = check_table_file(f); !ok)
        base::log::error("storage.corrupt", "bytes on disk are not what was written", {{"error", ok.error()}});
    }
  }

  static constexpr std::chrono::milliseconds pause{500};
  std::unique_ptr<rocksdb::DB> db_;  // changed with mutex_ and open_; null: it could not be opened again
  const reopen reopen_;
  const has_room has_room_;
  std::mutex mutex_;                 // of commits
  std::shared_mutex open_;           // held while db_ is used without mutex_
  bool is_failing_ = false;          // with mutex_
  base::time_point next_try_{};      // with mutex_
  std::atomic<std::int64_t> last_report_{0};
  std::atomic<bool> stops_{false};
  std::thread checker_;
};

} // namespace

std::unique_ptr<engine> make_rocksdb_engine(std::unique_ptr<rocksdb::DB> db, std::vector<table_file> unchecked, reopen again, has_room room) {
  return std::make_unique<rocksdb_engine>(std::move(db), std::move(unchecked), std::move(again), std::move(room));
}

} // namespace storage
