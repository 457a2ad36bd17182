// Between opening and running the RocksDB engine.
#pragma once
#include "storage/engine.hpp"

namespace rocksdb { class DB; }

namespace storage {

/// Reads every block of a table file. Errors: a text that begins with the file's name. A file that has
/// gone (compaction replaced it) is none.
[[nodiscard]] base::result<void, std::string> check_table_file(const std::string& path);

/// Takes the open database. `unchecked`: table files that a thread of the engine's own checks.
[[nodiscard]] std::unique_ptr<engine> make_rocksdb_engine(std::unique_ptr<rocksdb::DB> db, std::vector<std::string> unchecked);

} // namespace storage
