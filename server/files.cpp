// rename() is what makes a file appear at once.
#include "server/files.hpp"
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace server {

std::string folder_of(const std::string& path) {
  auto folder = std::filesystem::path{path}.parent_path().string();
  return folder.empty() ? "." : folder;
}

bool is_there(const std::string& path) {
  std::error_code ec;
  return std::filesystem::exists(std::filesystem::symlink_status(path, ec));
}

bool sync_folder(const std::string& folder) {
  int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0)
    close(fd);
  return ok;
}

base::result<void, std::string> write_whole(const std::string& path, const std::string& text, mode_t mode) {
  auto beside = path + ".new";
  auto fail = [&] {
    auto why = path + " cannot be written: " + std::strerror(errno);
    unlink(beside.c_str());
    return base::fail(why);
  };
  int fd = open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  auto* f = fd < 0 ? nullptr : fdopen(fd, "w");
  if (!f)
    return fail();
  bool ok = std::fwrite(text.data(), 1, text.size(), f) == text.size() && std::fflush(f) == 0 && fsync(fd) == 0;
  ok = std::fclose(f) == 0 && ok;
  if (!ok || std::rename(beside.c_str(), path.c_str()) != 0 || !sync_folder(folder_of(path)))
    return fail();
  return {};
}

base::result<void, std::string> remove_file(const std::string& path) {
  if ((unlink(path.c_str()) != 0 && errno != ENOENT) || !sync_folder(folder_of(path)))
    return base::fail(path + " cannot be removed: " + std::strerror(errno));
  return {};
}

} // namespace server
