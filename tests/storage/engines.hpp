// Fresh engines for tests: each with a folder of its own that goes when the test ends.
#pragma once
#include "storage/memory/engine.hpp"
#include "storage/rocksdb/engine.hpp"
#include <doctest/doctest.h>
#include <filesystem>
#include <stdlib.h>

namespace storage::testing {

class temporary_folder {
public:
  temporary_folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "covey-storage-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()));
    path_ = pattern;
  }
  ~temporary_folder() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  [[nodiscard]] std::string operator/(const char* name) const { return (path_ / name).string(); }

private:
  std::filesystem::path path_;
};

inline rocksdb_options small(const std::string& folder) { return {folder, 1u << 20, 1u << 20}; }

inline std::unique_ptr<engine> open_or_fail(const rocksdb_options& o) {
  auto e = open_rocksdb(o);
  if (!e)
    FAIL(e.error());
  return std::move(*e);
}

/// Names of engines, as types: a test template is instantiated with each.
struct in_memory {
  static constexpr bool is_on_disk = false;
  static std::unique_ptr<engine> open(const std::string&) { return std::make_unique<memory_engine>(); }
};
struct on_rocksdb {
  static constexpr bool is_on_disk = true;
  static std::unique_ptr<engine> open(const std::string& folder) { return open_or_fail(small(folder)); }
};

template <class Kind>
class fresh {
public:
  fresh() : engine_(Kind::open(folder_ / "db")) {}
  engine* operator->() { return engine_.get(); }
  engine& operator*() { return *engine_; }
  /// What the next process would see; for memory the same engine.
  void reopen() {
    if constexpr (Kind::is_on_disk) {
      engine_ = nullptr;
      engine_ = Kind::open(folder_ / "db");
    }
  }
  [[nodiscard]] const temporary_folder& folder() const { return folder_; }

private:
  temporary_folder folder_;
  std::unique_ptr<engine> engine_;
};

// --- batches in few words
inline batch make(std::vector<change> changes, std::vector<precondition> preconditions = {}) {
  batch b;
  b.changes = std::move(changes);
  b.preconditions = std::move(preconditions);
  return b;
}
inline outcome commit(engine& e, batch b) { return e.commit({&b, 1}).front(); }
inline std::optional<row> get(engine& e, std::string_view key) {
  auto r = e.get(key);
  REQUIRE(r.has_value());
  return *r;
}
/// "key=value@version key=value@version", in the order of the scan.
inline std::string text(const base::result<std::vector<row>, errc>& rows) {
  REQUIRE(rows.has_value());
  std::string out;
  for (auto& r : *rows)
    out += (out.empty() ? "" : " ") + r.key + "=" + r.value + "@" + std::to_string(r.version);
  return out;
}
inline std::string all(engine& e, order o = order::forward, std::size_t limit = 1'000'000) {
  return text(e.scan({std::string(1, '\0'), "\xff\xff"}, o, limit));
}

} // namespace storage::testing
