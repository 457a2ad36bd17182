// A backup's way back, while no server runs (docs/operation.md). Needs no database of its own: `covey` has none.
#pragma once
#include "base/result.hpp"
#include <cstdint>
#include <functional>
#include <string>

namespace server {

enum class restore_errc { failed, in_use, not_empty };
struct restore_problem { restore_errc what; std::string text; };
/// What became of the node's part in a cluster (DATA/cluster).
enum class cluster_part {
  none,     // the archive has none
  restored, // put in place
  kept,     // there is a node's certificate, or another authority or key: all of it stays as it was
};
struct restored {
  std::string replaced; // the folder that holds what was there before; empty: nothing was
  cluster_part cluster = cluster_part::none;
};
/// Whether the server would open the database in this folder (check_database). Errors: a text for the operator.
using database_check = std::function<base::result<void, std::string>(const std::string& folder)>;

/// Unpacks beside, checks all of it, then puts it in place. `replaces`: what is there is moved aside, but nothing of a cluster:
/// that is put where no node's certificate is, and over no file. Only the owner can read what is restored, certificates excepted.
/// Blocks.
/// `on_progress`: bytes read, of so many. The server must not run: `in_use` where its database is open.
[[nodiscard]] base::result<restored, restore_problem> restore(const std::string& archive, const std::string& data_folder, bool replaces,
                                                              const std::function<void(std::uint64_t, std::uint64_t)>& on_progress, const database_check& check);
/// A restore began there and did not end: the folder is no good until one does.
[[nodiscard]] bool is_half_restored(const std::string& data_folder);

} // namespace server
