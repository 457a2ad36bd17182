// Unpacks beside, has it checked, then renames.
#include "server/restore.hpp"
#include "server/archive.hpp"
#include "server/files.hpp"
#include "server/tar.hpp"
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace server {

namespace fs = std::filesystem;

namespace {
constexpr const char* staging_name = "restoring";
using namespace archive;
} // namespace

bool is_half_restored(const std::string& data_folder) {
  std::error_code ec;
  return fs::exists(data_folder + '/' + staging_name, ec);
}

namespace {
restore_problem failed(std::string text) { return {restore_errc::failed, std::move(text)}; }

/// store/000012.sst and the like; nothing that leads elsewhere.
bool is_good_name(const std::string& name) {
  if (name == list_name || name == "covey.toml")
    return true;
  auto slash = name.find('/');
  return slash != name.npos && std::find(std::begin(folders), std::end(folders), name.substr(0, slash)) != std::end(folders)
         && slash + 1 < name.size() && name[slash + 1] != '.' && name.find('/', slash + 1) == name.npos;
}

/// A process has the database of this folder open (RocksDB locks this file).
bool is_open_elsewhere(const std::string& data_folder) {
  int fd = open((data_folder + "/store/LOCK").c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0)
    return false;
  struct flock l{};
  l.l_type = F_WRLCK;
  l.l_whence = SEEK_SET;
  bool is_locked = fcntl(fd, F_GETLK, &l) == 0 && l.l_type != F_UNLCK;
  close(fd);
  return is_locked;
}

base::result<void, std::string> unpack(const std::string& archive, const std::string& to, const std::function<void(std::uint64_t, std::uint64_t)>& on_progress) {
  auto fail = [&](const std::string& why) { return base::fail(archive + ": " + why); };
  std::ifstream in{archive, std::ios::binary};
  std::error_code ec;
  auto total = fs::file_size(archive, ec);
  if (!in || ec)
    return fail(std::string{"cannot be read: "} + (ec ? ec.message() : std::strerror(errno)));
  std::uint64_t done = 0;
  std::string head(tar::block, '\0'), list, found{list_head};
  std::vector<char> part(piece);
  while (list.empty()) {
    if (!in.read(head.data(), tar::block))
      return fail("it ends too early: it is not whole");
    auto m = tar::parse_header(head);
    if (!m || !is_good_name(m->name) || (m->name == list_name && m->size > longest_list))
      return fail("it is no backup of covey, or it is damaged");
    std::ofstream out;
    if (m->name != list_name) {
      fs::create_directories(fs::path{to + '/' + m->name}.parent_path(), ec);
      out.open(to + '/' + m->name, std::ios::binary);
      found += line_of(m->name, m->size);
    }
    for (auto left = m->size + tar::padding(m->size); left > 0;) {
      auto n = std::min<std::uint64_t>(left, part.size());
      if (!in.read(part.data(), static_cast<std::streamsize>(n)))
        return fail("it ends too early: it is not whole");
      auto padding = tar::padding(m->size);
      auto content = left > padding ? std::min<std::uint64_t>(n, left - padding) : 0;
      if (m->name == list_name)
        list.append(part.data(), content);
      else if (!out.write(part.data(), static_cast<std::streamsize>(content)))
        return base::fail(to + '/' + m->name + " cannot be written: " + std::strerror(errno));
      left -= n;
      done += n;
      on_progress(done, total);
    }
    if (out.is_open())
      out.close();
    if (!out)
      return base::fail(to + '/' + m->name + " cannot be written: " + std::strerror(errno));
  }
  if (list != found)
    return fail("its list names other files: it is not whole");
  return {};
}

/// Everything below belongs to whom the data folder belongs to, and is on the disk.
base::result<void, std::string> settle(const std::string& folder, const std::string& data_folder) {
  struct stat owner{};
  if (stat(data_folder.c_str(), &owner) != 0)
    return base::fail(data_folder + ": " + std::strerror(errno));
  auto own = [&](const std::string& path) { return geteuid() != 0 || lchown(path.c_str(), owner.st_uid, owner.st_gid) == 0; };
  bool ok = own(folder);
  std::error_code ec;
  for (auto& e : fs::recursive_directory_iterator{folder, ec})
    ok &= own(e.path().string());
  int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ok &= fd >= 0 && syncfs(fd) == 0;
  if (fd >= 0)
    close(fd);
  if (ec || !ok)
    return base::fail(folder + ": " + (ec ? ec.message() : std::strerror(errno)));
  return {};
}
} // namespace

base::result<restored, restore_problem> restore(const std::string& archive, const std::string& data_folder, bool replaces,
                                                const std::function<void(std::uint64_t, std::uint64_t)>& on_progress, const database_check& check) {
  if (is_open_elsewhere(data_folder))
    return base::fail(restore_problem{restore_errc::in_use, "a server uses " + data_folder + ": stop it first"});
  std::error_code ec;
  bool has_any = std::any_of(std::begin(folders), std::end(folders), [&](auto* name) { return fs::exists(data_folder + '/' + name, ec); });
  if (has_any && !replaces)
    return base::fail(restore_problem{restore_errc::not_empty, data_folder + " is not empty"});
  auto staging = data_folder + '/' + staging_name;
  fs::remove_all(staging, ec);
  fs::create_directories(staging, ec);
  if (ec)
    return base::fail(failed(staging + " cannot be made: " + ec.message()));
  auto ok = unpack(archive, staging, on_progress);
  if (ok && fs::exists(staging + "/store", ec)) // nothing is put in place that the server would not open
    ok = check(staging + "/store");
  if (ok)
    ok = settle(staging, data_folder);
  if (!ok) {
    fs::remove_all(staging, ec);
    return base::fail(failed(ok.error()));
  }
  restored r;
  auto aside = data_folder + "/replaced-" + std::to_string(std::time(nullptr));
  for (auto* name : folders) {
    auto from = staging + '/' + name, to = data_folder + '/' + name;
    if (fs::exists(to, ec)) {
      fs::create_directories(aside, ec);
      fs::rename(to, aside + '/' + name, ec);
      r.replaced = aside;
    }
    if (!ec && fs::exists(from, ec))
      fs::rename(from, to, ec);
    if (ec)
      return base::fail(failed(to + " cannot be put in place: " + ec.message()));
  }
  if (!sync_folder(data_folder))
    return base::fail(failed(data_folder + ": " + std::strerror(errno)));
  fs::remove_all(staging, ec);
  return r;
}

} // namespace server
