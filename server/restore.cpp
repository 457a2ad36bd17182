// Unpacks beside, has it checked, then renames.
#include "server/restore.hpp"
#include "base/files.hpp"
#include "server/archive.hpp"
#include "server/cluster_folder.hpp"
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
  if (slash != name.npos && name.substr(0, slash) == cluster_folder_name) // no life or token of a node
    return std::find(std::begin(cluster_files), std::end(cluster_files), name.substr(slash + 1)) != std::end(cluster_files);
  return slash != name.npos && std::find(std::begin(folders), std::end(folders), name.substr(0, slash)) != std::end(folders)
         && slash + 1 < name.size() && name[slash + 1] != '.' && name.find('/', slash + 1) == name.npos;
}

/// For its owner alone from the first byte: there are keys among what comes.
std::error_code make_private_folder(const std::string& path) {
  std::error_code ec;
  fs::create_directories(path, ec);
  if (!ec)
    fs::permissions(path, fs::perms::owner_all, ec);
  return ec;
}
void make_file(std::ofstream& out, const std::string& path) {
  constexpr mode_t own = 0600, everybodys = 0644;
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, path.ends_with(".pem") ? everybodys : own);
  if (fd < 0)
    return out.setstate(std::ios::failbit);
  close(fd);
  out.open(path, std::ios::binary);
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
      if (make_private_folder(fs::path{to + '/' + m->name}.parent_path().string()))
        out.setstate(std::ios::failbit);
      else
        make_file(out, to + '/' + m->name);
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

/// Over nothing that is there, and not beside what it does not belong to. Errors: a text for the operator.
base::result<cluster_part, std::string> put_cluster(const std::string& from, const std::string& to) {
  auto fail = [&](const std::string& why) { return base::fail(to + " cannot be put in place: " + why); };
  std::error_code ec;
  if (!fs::exists(from, ec))
    return cluster_part::none;
  if (is_there(cluster_folder{to}.certificate()))
    return cluster_part::kept;
  std::vector<std::string> missing;
  for (std::string name : cluster_files) {
    auto file = '/' + name;
    if (!fs::exists(from + file, ec))
      continue;
    if (!is_there(to + file))
      missing.push_back(file);
    else if (name != "seeds" && base::read_file(to + file) != base::read_file(from + file)) // other seeds do no harm
      return cluster_part::kept;
  }
  if (missing.empty())
    return cluster_part::kept;
  if (!is_there(to)) {
    if (fs::rename(from, to, ec); ec)
      return fail(ec.message());
    return cluster_part::restored;
  }
  for (auto& file : missing)
    if (fs::rename(from + file, to + file, ec); ec)
      return fail(ec.message());
  if (!sync_folder(to))
    return fail(std::strerror(errno));
  return cluster_part::restored;
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
  if (ec = make_private_folder(staging); ec)
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
  auto cluster = put_cluster(staging + '/' + cluster_folder_name, cluster_folder_in(data_folder).path);
  if (!cluster)
    return base::fail(failed(cluster.error()));
  r.cluster = *cluster;
  if (!sync_folder(data_folder))
    return base::fail(failed(data_folder + ": " + std::strerror(errno)));
  fs::remove_all(staging, ec);
  return r;
}

} // namespace server
