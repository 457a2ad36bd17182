// Everything that must outlive the machine, as one archive (docs/operation.md): while the server runs, of
// one moment; and back, while it does not.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <fstream>
#include <functional>
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
  base::result<void, std::string> add_file(const std::string& name, const std::string& path);
  std::string copy_; // the database's
  std::vector<source> sources_;
  std::size_t at_ = 0;
  std::ifstream in_;
  std::uint64_t left_ = 0, total_ = 0;
  bool is_ended_ = false;
};

/// Copies of databases that a killed server left in its data folder.
void remove_old_copies(const std::string& data_folder);

enum class restore_errc { failed, in_use, not_empty };
struct restore_problem { restore_errc what; std::string text; };
struct restored {
  std::string replaced; // the folder that holds what was there before; empty: nothing was
};
/// Unpacks beside, checks all of it, then puts it in place. `replaces`: what is there is moved aside. Blocks.
/// `on_progress`: bytes read, of so many. The server must not run: `in_use` where its database is open.
[[nodiscard]] base::result<restored, restore_problem> restore(const std::string& archive, const std::string& data_folder, bool replaces,
                                                              const std::function<void(std::uint64_t, std::uint64_t)>& on_progress);
/// A restore began there and did not end: the folder is no good until one does.
[[nodiscard]] bool is_half_restored(const std::string& data_folder);

} // namespace server
