// Writes the archive.
#include "server/backup.hpp"
#include "base/files.hpp"
#include "server/archive.hpp"
#include "server/cluster_folder.hpp"
#include "server/files.hpp"
#include "server/runner.hpp"
#include "server/tar.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/schema.hpp"
#include "storage/store.hpp"
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <limits>

namespace server {

namespace fs = std::filesystem;

namespace {
constexpr const char* copy_name = "backup.";
using namespace archive;
} // namespace

base::result<std::unique_ptr<backup>, std::string> backup::begin(runner& r, const std::string& config_file) {
  static std::atomic<int> number{0};
  auto data = r.settings()->data_folder;
  std::unique_ptr<backup> b{new backup};
  b->copy_ = data + '/' + copy_name + std::to_string(++number);
  std::error_code ec;
  fs::remove_all(b->copy_, ec);
  if (auto* store = r.embedded_store()) { // what is kept in memory is not kept here either
    if (!store->blocking().snapshot(b->copy_))
      return base::fail("no copy of the database can be made in " + b->copy_ + ": the log says why");
    if (auto ok = b->add_folder("store", b->copy_); !ok)
      return base::fail(ok.error());
  }
  int database = 0;
  for (auto* store : r.databases()) {
    auto folder = b->copy_ + "-database" + std::to_string(++database);
    b->more_copies_.push_back(folder);
    fs::remove_all(folder, ec);
    if (!store->blocking().snapshot(folder))
      return base::fail("no copy of the PostgreSQL database can be made in " + folder + ": the log says why");
    if (auto ok = b->add_file("databases/" + std::to_string(database) + ".rows", folder + "/rows"); !ok)
      return base::fail(ok.error());
  }
  for (auto* name : {"hosts", "certificates"})
    if (auto ok = b->add_folder(name, data + '/' + name); !ok)
      return base::fail(ok.error());
  if (auto ok = b->add_cluster(cluster_folder_in(data).path); !ok)
    return base::fail(ok.error());
  if (auto ok = b->add_file("covey.toml", config_file); !ok)
    return base::fail(ok.error());
  std::string list{list_head};
  for (auto& s : b->sources_)
    list += line_of(s.name, s.size);
  b->sources_.push_back({list_name, {}, list, list.size()});
  for (auto& s : b->sources_)
    b->total_ += tar::block + s.size + tar::padding(s.size);
  b->total_ += tar::end().size();
  return b;
}

backup::~backup() {
  std::error_code ec;
  fs::remove_all(copy_, ec);
  for (auto& copy : more_copies_)
    fs::remove_all(copy, ec);
}

base::result<void, std::string> backup::add_folder(const std::string& name, const std::string& path) {
  std::error_code ec;
  std::vector<fs::path> files;
  for (fs::directory_iterator i{path, ec}, end; !ec && i != end; i.increment(ec))
    if (i->is_regular_file() && i->path().extension() != ".new")
      files.push_back(i->path());
  if (ec && ec != std::errc::no_such_file_or_directory)
    return base::fail(path + ": " + ec.message());
  std::sort(files.begin(), files.end());
  for (auto& f : files)
    if (auto ok = add_file(name + '/' + f.filename().string(), f.string()); !ok)
      return ok;
  return {};
}

/// Read at once: a node that joins anew, or whose certificate is renewed, has other files from one moment to the next.
base::result<void, std::string> backup::add_cluster(const std::string& path) {
  for (auto* name : cluster_files) {
    auto file = path + '/' + name;
    if (!is_there(file))
      continue;
    auto text = base::read_file(file);
    if (!text)
      return base::fail(file + " cannot be read");
    auto size = text->size();
    sources_.push_back({std::string{cluster_folder_name} + '/' + name, {}, std::move(*text), size});
  }
  return {};
}

base::result<void, std::string> backup::add_file(const std::string& name, const std::string& path) {
  std::error_code ec;
  auto size = fs::file_size(path, ec);
  if (ec)
    return base::fail(path + ": " + ec.message());
  if (name.size() > tar::longest_name || size > tar::largest_member)
    return base::fail(path + ": the name is too long, or the file too large");
  sources_.push_back({name, path, {}, size});
  return {};
}

base::result<std::string, std::string> backup::next() {
  std::string out;
  while (out.size() < piece && at_ < sources_.size()) {
    auto& s = sources_[at_];
    if (left_ == 0 && !in_.is_open()) { // it begins
      out += tar::header({s.name, s.size});
      left_ = s.size;
      if (s.path.empty()) {
        out += s.text;
        left_ = 0;
      } else {
        in_ = std::ifstream{s.path, std::ios::binary};
      }
    }
    if (left_ > 0) {
      auto from = out.size();
      auto n = std::min<std::uint64_t>(left_, piece - std::min(piece, from));
      out.resize(from + n);
      if (!in_.read(out.data() + from, static_cast<std::streamsize>(n)))
        return base::fail(s.path + " became shorter, or cannot be read");
      left_ -= n;
    }
    if (left_ == 0) {
      out.append(tar::padding(s.size), '\0');
      in_ = {};
      ++at_;
    }
  }
  if (at_ == sources_.size() && !std::exchange(is_ended_, true))
    out += tar::end();
  return out;
}

void remove_old_copies(const std::string& data_folder) {
  std::error_code ec;
  std::vector<fs::path> old;
  for (fs::directory_iterator i{data_folder, ec}, end; !ec && i != end; i.increment(ec))
    if (i->path().filename().string().starts_with(copy_name) && i->is_directory())
      old.push_back(i->path());
  for (auto& p : old)
    fs::remove_all(p, ec);
}

base::result<void, std::string> check_database(const std::string& folder) {
  std::error_code ec;
  if (!fs::exists(folder + "/CURRENT", ec)) // else one would be made
    return base::fail(folder + " holds no database");
  auto engine = storage::open_rocksdb({.folder = folder, .check_at_start = std::numeric_limits<std::uint64_t>::max()});
  if (!engine)
    return base::fail(engine.error());
  return storage::tables::check_schema(**engine);
}

} // namespace server
