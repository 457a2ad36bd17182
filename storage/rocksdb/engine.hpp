// The embedded engine: RocksDB, one write-ahead log, one fsync for a whole group.
#pragma once
#include "storage/engine.hpp"

namespace storage {

struct rocksdb_options {
  std::string folder;
  std::size_t write_buffer = 16u << 20; // bytes, each of two
  std::size_t block_cache = 32u << 20;  // bytes
};

/// Opens or creates. Errors: a text for the operator that names the file (corruption is reported, never
/// skipped; a torn end of the write-ahead log, which nobody was told of, is dropped).
[[nodiscard]] base::result<std::unique_ptr<engine>, std::string> open_rocksdb(const rocksdb_options& o);

} // namespace storage
