// Between opening and running the RocksDB engine.
#pragma once
#include "storage/engine.hpp"

namespace rocksdb { class DB; }

namespace storage {

/// A table file and the checksum that the manifest has of it.
struct table_file { std::string path, checksum; };

/// What can be known to be damaged before RocksDB opens the folder, and so begins to change its files:
/// missing files, damaged logs, manifest or tables, changes that neither tables nor logs have. Tables are
/// read newest first, at most `most_bytes` of them; returns the others. Errors: a text that names the file.
[[nodiscard]] base::result<std::vector<table_file>, std::string> check_folder(const std::string& folder, std::uint64_t most_bytes);

/// Reads the whole file. Errors: a text that begins with its name. A file that has gone (compaction
/// replaced it) is none.
[[nodiscard]] base::result<void, std::string> check_table_file(const table_file& file);

/// Opens without checks; blocks.
using reopen = std::function<base::result<std::unique_ptr<rocksdb::DB>, std::string>()>;
/// Whether so much can be written into the folder that opening will not fail for want of room.
using has_room = std::function<bool()>;

/// Takes the open database. `unchecked`: table files that a thread of the engine's own checks. After a
/// failed write the database is opened again as soon as there is room.
[[nodiscard]] std::unique_ptr<engine> make_rocksdb_engine(std::unique_ptr<rocksdb::DB> db, std::vector<table_file> unchecked,
                                                          reopen again, has_room room);

} // namespace storage
