// Files that are there whole or not at all.
#pragma once
#include "base/result.hpp"
#include <string>
#include <sys/types.h>

namespace server {

/// Written beside, synced, renamed, and the folder synced; by default for the owner alone. Errors: a text for the operator.
[[nodiscard]] base::result<void, std::string> write_whole(const std::string& path, const std::string& text, mode_t mode = 0600);
/// Gone for good when this returns; a file that is not there is none. Errors as above.
[[nodiscard]] base::result<void, std::string> remove_file(const std::string& path);
/// Whether the name is taken, be it by a link to nowhere.
[[nodiscard]] bool is_there(const std::string& path);
/// Of a file: "." where its path names none.
[[nodiscard]] std::string folder_of(const std::string& path);
/// What was created, renamed or removed in the folder outlives a power cut.
[[nodiscard]] bool sync_folder(const std::string& folder);

} // namespace server
