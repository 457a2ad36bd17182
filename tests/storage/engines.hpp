// Fresh engines for tests: each with a folder of its own that goes when the test ends.
#pragma once
#include "storage/memory/engine.hpp"
#include "storage/rocksdb/engine.hpp"
#include "storage/rows_file.hpp"
#include "storage/sql/connection.hpp"
#include "storage/sql/engine.hpp"
#include "storage/tables.hpp"
#include "tests/support/postgres.hpp"
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

/// One server for the whole program; each engine has a schema of its own.
inline covey_tests::postgres& shared_postgres() {
  static covey_tests::postgres_folder folder;
  static covey_tests::postgres server{folder, "main", "fsync = off"};
  static bool once = (server.start(), true);
  (void)once;
  return server;
}
inline std::unique_ptr<sql::connection> connect_or_fail(const std::string& to) {
  auto c = sql::connection::open(*sql::parse_connection(to));
  if (!c)
    FAIL(c.error());
  return std::move(*c);
}
/// Fails the test unless the server does it.
inline std::vector<sql::reply> ask(sql::connection& c, std::vector<sql::statement> todo) {
  auto r = c.run(todo, base::steady::now() + std::chrono::seconds{10});
  REQUIRE(r);
  if (!r->is_ok())
    FAIL(r->text);
  return r->all;
}
/// The schema that belongs to `name`, made if it is not there.
inline std::string schema_connection(const std::string& name) {
  auto& server = shared_postgres();
  auto schema = "s" + std::to_string(base::hash_bytes(name));
  ask(*connect_or_fail(server.connection()), {{"create schema if not exists " + schema, {}}});
  return server.connection() + " options='-c search_path=" + schema + "'";
}
inline std::unique_ptr<engine> open_or_fail(const sql_options& o) {
  auto e = open_sql(o);
  if (!e)
    FAIL(e.error());
  return std::move(*e);
}
/// Keys that no table declares: as bytes.
struct on_postgresql {
  static constexpr bool is_on_disk = true;
  static std::unique_ptr<engine> open(const std::string& folder) {
    auto e = open_or_fail({.connection = schema_connection(folder)});
    if (auto copy = folder + "/rows"; std::filesystem::exists(copy)) // of a snapshot
      REQUIRE(load_rows(copy, *e).has_value());
    return e;
  }
};

/// Any bytes as rows of a declared table, in the same order: a key's bytes are spread over its columns, as hexadecimal digits.
class as_columns final : public engine {
public:
  explicit as_columns(std::unique_ptr<engine> e) : inner_(std::move(e)) {}
  std::vector<outcome> commit(std::span<const batch> batches) override {
    std::vector<batch> all{batches.begin(), batches.end()};
    for (auto& b : all) {
      for (auto& p : b.preconditions)
        p.key = key(p.key);
      for (auto& c : b.changes)
        if (auto* p = std::get_if<put>(&c))
          *p = {key(p->key), tables::encode_private_xml(base::to_hex(p->value))};
        else if (auto* e = std::get_if<erase>(&c))
          e->key = key(e->key);
        else
          c = erase_range{key(std::get<erase_range>(c).from), key(std::get<erase_range>(c).until)};
    }
    return inner_->commit(all);
  }
  base::result<std::optional<row>, errc> get(std::string_view k) override {
    auto r = inner_->get(key(k));
    if (r && *r)
      **r = back(**r);
    return r;
  }
  base::result<std::vector<row>, errc> scan(const key_range& range, order o, std::size_t limit) override {
    auto rows = is_one_key(range) ? inner_->scan(only(key(range.from)), o, limit) : inner_->scan({key(range.from), key(range.until)}, o, limit);
    if (rows)
      for (auto& r : *rows)
        r = back(r);
    return rows;
  }
  base::result<bool, errc> resolve(base::u128 id) override { return inner_->resolve(id); }
  base::result<void, errc> snapshot(const std::string& folder) override { return inner_->snapshot(folder); }

private:
  static std::string key(std::string_view k) {
    key_builder b{tables::private_xml};
    for (std::size_t i = 0; i < 4; ++i)
      b.text(k.size() <= i ? std::string{} : base::to_hex(i < 3 ? k.substr(i, 1) : k.substr(3)));
    return b.take();
  }
  static std::string from_hex(const std::string& hex) {
    std::string out;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      out.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    return out;
  }
  static row back(const row& r) {
    key_reader k{tables::private_xml, r.key};
    std::string hex;
    for (int i = 0; i < 4; ++i)
      hex += k.text().value();
    return {from_hex(hex), from_hex(tables::decode_private_xml(r).value()), r.version};
  }
  std::unique_ptr<engine> inner_;
};
struct in_columns {
  static constexpr bool is_on_disk = true;
  static std::unique_ptr<engine> open(const std::string& folder) { return std::make_unique<as_columns>(on_postgresql::open(folder)); }
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
