// Everything that must outlive the machine, as one archive of one moment while the server runs (docs/operation.md).
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace server {

class runner;

/// The archive, piece by piece. The data folder holds a copy of the database meanwhile, whose tables are
/// links and take no room.
class backup {
public:
  /// `config_file` is put in, too. Blocks while it makes the copy. Errors of all: a text for the operator.
  static base::result<std::unique_ptr<backup>, std::string> begin(runner& r, const std::string& config_file);
  ~backup();
  backup(const backup&) = delete;
  /// Of the whole archive, in bytes.
  [[nodiscard]] std::uint64_t total() const { return total_; }
  /// At most 256 kB; empty: that was all.
  [[nodiscard]] base::result<std::string, std::string> next();

private:
  struct source { std::string name, path, text; std::uint64_t size; }; // of a file, or a text
  backup() = default;
  base::result<void, std::string> add_folder(const std::string& name, const std::string& path);
  base::result<void, std::string> add_cluster(const std::string& path);
  base::result<void, std::string> add_file(const std::string& name, const std::string& path);
  std::string copy_; // the database's
  std::vector<std::string> more_copies_; // of PostgreSQL: files of rows
  std::vector<source> sources_;
  std::size_t at_ = 0;
  std::ifstream in_;
  std::uint64_t left_ = 0, total_ = 0;
  bool is_ended_ = false;
};

/// Copies of databases that a killed server left in its data folder.
void remove_old_copies(const std::string& data_folder);

/// Opens it, verifying each checksum. Errors: a text for the operator.
[[nodiscard]] base::result<void, std::string> check_database(const std::string& folder);

} // namespace server
