// The embedded engine: RocksDB, one write-ahead log, one fsync for a whole group.
#pragma once
#include "storage/engine.hpp"

namespace rocksdb { class Env; }

namespace storage {

struct rocksdb_options {
  std::string folder;
  std::size_t write_buffer = 4u << 20;  // bytes, each of two; used as they fill
  std::size_t block_cache = 4u << 20;   // bytes, index and filter blocks included; the system caches files, too
  std::uint64_t check_at_start = 1ull << 30; // bytes of table files, newest first; the rest in the background
  rocksdb::Env* env = nullptr;          // not owned; null: the operating system's. For tests: a disk that fails
};

/// Opens or creates. Outcomes of this engine are always known: `unknown` never, and `resolve` answers
/// conflict. A full disk is `unavailable` until there is room; then it goes on by itself. Errors: a text
/// for the operator that names the file (corruption is reported, never skipped; a torn end of the
/// write-ahead log, which nobody was told of, is dropped: docs/storage.md).
[[nodiscard]] base::result<std::unique_ptr<engine>, std::string> open_rocksdb(const rocksdb_options& o);

} // namespace storage
