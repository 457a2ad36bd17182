// What is checked of a RocksDB folder before it is opened (docs/storage.md).
#include "base/bytes.hpp"
#include "storage/rocksdb/log_check.hpp"
#include "storage/rocksdb/parts.hpp"
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <limits>
#include <optional>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_checksum.h>
#include <rocksdb/options.h>
#include <sstream>

namespace rocksdb {
// Exported, but its header (util/file_checksum_helper.h) is not installed. The other ways to these
// checksums open the tables first, and RocksDB parses parts of them before it verifies them: a damaged
// one can end the process.
Status GetFileChecksumsFromManifest(Env* env, const std::string& path, std::uint64_t size, FileChecksumList* list);
} // namespace rocksdb

namespace storage {

namespace {
namespace fs = std::filesystem;

struct files {
  std::vector<std::pair<std::uint64_t, fs::path>> logs; // in order of their numbers
  bool has_tables = false;
  bool is_database = false;
};

base::result<files, std::string> list(const fs::path& folder) {
  files found;
  std::error_code ec;
  for (fs::directory_iterator i{folder, ec}, end; !ec && i != end; i.increment(ec)) {
    auto& path = i->path();
    auto number = base::to_number<std::uint64_t>(path.stem().string());
    if (number && path.extension() == ".log")
      found.logs.emplace_back(*number, path);
    found.has_tables |= number && path.extension() == ".sst";
    found.is_database |= path.filename().string().starts_with("MANIFEST-");
  }
  if (ec)
    return base::fail(folder.string() + ": " + ec.message());
  std::sort(found.logs.begin(), found.logs.end());
  found.is_database |= !found.logs.empty() || found.has_tables;
  return found;
}

/// The manifest that CURRENT names.
base::result<fs::path, std::string> manifest_of(const fs::path& current) {
  std::ifstream in{current};
  std::string name;
  std::getline(in, name);
  if (!name.starts_with("MANIFEST-") || !base::to_number<std::uint64_t>(std::string_view{name}.substr(9)) || in.eof() || in.peek() != EOF)
    return base::fail(current.string() + ": does not name a MANIFEST");
  auto manifest = current.parent_path() / name;
  std::error_code ec;
  if (!fs::exists(manifest, ec))
    return base::fail(manifest.string() + ": the file is missing, but " + current.string() + " names it");
  return manifest;
}

/// What the manifest knows of tables, newest first.
base::result<std::vector<table_file>, std::string> tables_of(const fs::path& manifest) {
  std::unique_ptr<rocksdb::FileChecksumList> list{rocksdb::NewFileChecksumList()};
  auto s = rocksdb::GetFileChecksumsFromManifest(rocksdb::Env::Default(), manifest.string(), std::numeric_limits<std::uint64_t>::max(), list.get());
  std::vector<std::uint64_t> numbers;
  std::vector<std::string> sums, functions;
  if (s.ok())
    s = list->GetAllFileChecksums(&numbers, &sums, &functions);
  if (!s.ok())
    return base::fail(manifest.string() + ": " + s.ToString());
  std::vector<std::pair<std::uint64_t, table_file>> found;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::ostringstream name;
    name << std::setw(6) << std::setfill('0') << numbers[i] << ".sst";
    auto path = (manifest.parent_path() / name.str()).string();
    if (functions[i] != rocksdb::kStandardDbFileChecksumFuncName)
      return base::fail(path + ": " + manifest.string() + " has no checksum of it");
    found.emplace_back(numbers[i], table_file{std::move(path), std::move(sums[i])});
  }
  std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first > b.first; });
  std::vector<table_file> tables;
  for (auto& f : found)
    tables.push_back(std::move(f.second));
  return tables;
}

class no_log final : public rocksdb::Logger {
public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

/// The number of the last change that the manifest knows of: read without the write-ahead logs.
base::result<std::uint64_t, std::string> last_in_manifest(const fs::path& folder) {
  rocksdb::Options options;
  options.paranoid_checks = true;
  options.max_open_files = 16;
  options.info_log = std::make_shared<no_log>();
  auto nothing = folder / "no-logs";
  std::error_code ec;
  fs::create_directory(nothing, ec);
  options.wal_dir = nothing.string();
  rocksdb::DB* opened = nullptr;
  auto s = rocksdb::DB::OpenForReadOnly(options, folder.string(), &opened);
  std::unique_ptr<rocksdb::DB> db{opened};
  fs::remove(nothing, ec);
  if (!s.ok())
    return base::fail(s.ToString());
  return db->GetLatestSequenceNumber();
}

std::uint64_t little_endian(std::string_view b) {
  std::uint64_t v = 0;
  for (auto i = b.size(); i-- > 0;)
    v = v << 8 | static_cast<std::uint8_t>(b[i]);
  return v;
}

/// Changes are numbered without gaps: the logs must go on where the tables that the manifest knows end.
/// So a manifest that was cut between two records is found, and a log from the middle that is gone.
base::result<void, std::string> check_logs(const files& all, const fs::path& manifest) {
  auto last = last_in_manifest(manifest.parent_path());
  if (!last)
    return base::fail(last.error());
  if (all.logs.empty() && *last > 0) // there is one before the first change is done; copies have it too
    return base::fail(manifest.parent_path().string() + ": the .log file is missing");
  auto next = *last + 1;
  auto before = manifest;
  std::optional<std::string> gap;
  for (auto& [number, path] : all.logs) {
    auto ok = check_log_file(path.string(), [&](std::string_view head) {
      if (head.size() < 12)
        return;
      auto first = little_endian(head.substr(0, 8)), count = little_endian(head.substr(8, 4));
      if (first > next && !gap)
        gap = path.string() + ": begins with change " + std::to_string(first) + ", but the last one before it, by " + before.string()
              + ", is " + std::to_string(next - 1) + ": one of the two is not whole";
      next = std::max(next, first + count);
    });
    if (!ok)
      return ok;
    before = path;
  }
  if (gap)
    return base::fail(*gap);
  return {};
}
} // namespace

base::result<void, std::string> check_table_file(const table_file& file) {
  std::error_code ec;
  if (!fs::exists(file.path, ec))
    return {};
  auto sum = rocksdb::GetFileChecksumGenCrc32cFactory()->CreateFileChecksumGenerator({});
  std::ifstream in{file.path, std::ios::binary};
  std::vector<char> part(1u << 20);
  while (in.read(part.data(), static_cast<std::streamsize>(part.size())) || in.gcount() > 0)
    sum->Update(part.data(), static_cast<std::size_t>(in.gcount()));
  sum->Finalize();
  if (in.bad() || !in.eof())
    return base::fail(file.path + ": cannot be read");
  if (sum->GetChecksum() != file.checksum)
    return base::fail(file.path + ": the checksum of the file is not the one that was written");
  return {};
}

base::result<std::vector<table_file>, std::string> check_folder(const std::string& name, std::uint64_t most_bytes) {
  fs::path folder{name}, current = folder / "CURRENT";
  auto all = list(folder);
  if (!all)
    return base::fail(all.error());
  std::error_code ec;
  if (!fs::exists(current, ec)) {
    if (all->is_database)
      return base::fail(current.string() + ": the file is missing, but files of a database are there");
    return std::vector<table_file>{};
  }
  auto manifest = manifest_of(current);
  if (!manifest)
    return base::fail(manifest.error());
  if (auto ok = check_log_file(manifest->string()); !ok)
    return base::fail(ok.error());
  auto tables = tables_of(*manifest);
  if (!tables)
    return base::fail(tables.error());
  std::uint64_t bytes = 0;
  std::vector<table_file> unchecked;
  for (auto& t : *tables) {
    bytes += fs::file_size(t.path, ec);
    if (ec)
      return base::fail(t.path + ": " + ec.message() + ", but " + manifest->string() + " names it");
    if (bytes > most_bytes)
      unchecked.push_back(std::move(t));
    else if (auto ok = check_table_file(t); !ok)
      return base::fail(ok.error());
  }
  if (auto ok = check_logs(*all, *manifest); !ok)
    return base::fail(ok.error());
  return unchecked;
}

} // namespace storage
