// What wrote a database: newer ones are refused, older ones migrated.
#include "storage/tables.hpp"
#include "tests/storage/engines.hpp"

using namespace storage;
using namespace storage::testing;
using storage::tables::check_schema;

namespace {
struct failing final : engine { // everything fails in the same way
  std::vector<outcome> commit(std::span<const batch> b) override { return std::vector<outcome>(b.size(), outcome::unavailable); }
  base::result<std::optional<row>, errc> get(std::string_view) override { return base::fail(errc::unavailable); }
  base::result<std::vector<row>, errc> scan(const key_range&, order, std::size_t) override { return base::fail(errc::unavailable); }
  base::result<bool, errc> resolve(base::u128) override { return base::fail(errc::conflict); }
  base::result<void, errc> snapshot(const std::string&) override { return base::fail(errc::unavailable); }
};
const std::string schema_key(1, '\x01');
bool says(const base::result<void, std::string>& r, std::string_view what) {
  return !r && r.error().find(what) != std::string::npos;
}
/// A migration that notes in a row that it ran.
tables::migration step(std::uint32_t to) {
  return {to, [to](engine& e) -> base::result<std::vector<change>, std::string> {
            auto log = e.get("log");
            auto before = log && *log ? (*log)->value : std::string{};
            return std::vector<change>{put{"log", before + std::to_string(to)}};
          }};
}
} // namespace

TEST_CASE_TEMPLATE("schema: written once, found again", Kind, in_memory, on_rocksdb, on_postgresql) {
  fresh<Kind> db;
  REQUIRE(check_schema(*db).has_value());
  auto row = get(*db, schema_key);
  REQUIRE(row);
  db.reopen();
  CHECK(check_schema(*db).has_value());
  CHECK(get(*db, schema_key)->version == 1);
}

TEST_CASE("schema: a newer database and another JID profile are refused and left alone") {
  memory_engine e;
  REQUIRE(check_schema(e, {3, 7, {}}).has_value());
  auto before = all(e);
  CHECK(says(check_schema(e, {2, 7, {}}), "schema 3, written by a newer covey; this one knows up to 2"));
  CHECK(says(check_schema(e, {3, 8, {}}), "JID profile 7; this covey has 8"));
  CHECK(all(e) == before);
  CHECK(check_schema(e, {3, 7, {}}).has_value());
}

TEST_CASE("schema: an older database is migrated step by step, each step once") {
  memory_engine e;
  REQUIRE(check_schema(e, {1, 1, {}}).has_value());
  REQUIRE(check_schema(e, {4, 1, {step(3), step(2), step(4)}}).has_value());
  CHECK(get(e, "log")->value == "234");
  REQUIRE(check_schema(e, {4, 1, {step(3), step(2), step(4)}}).has_value());
  CHECK(get(e, "log")->value == "234");
  // one that was interrupted goes on where it was
  auto broken = step(6);
  broken.step = [](engine&) -> base::result<std::vector<change>, std::string> { return base::fail(std::string{"no luck"}); };
  CHECK(says(check_schema(e, {6, 1, {step(5), broken}}), "migration to schema 6: no luck"));
  CHECK(get(e, "log")->value == "2345");
  REQUIRE(check_schema(e, {6, 1, {step(5), step(6)}}).has_value());
  CHECK(get(e, "log")->value == "23456");
  CHECK(says(check_schema(e, {8, 1, {step(8)}}), "no way from schema 6 to 7"));
}

TEST_CASE("schema: rows without a schema row, a damaged one, an engine that does not answer") {
  memory_engine e;
  REQUIRE(commit(e, make({put{"row", "1"}})) == outcome::done);
  CHECK(says(check_schema(e), "no schema row"));
  REQUIRE(commit(e, make({put{schema_key, "\xff\xff"}})) == outcome::done);
  CHECK(says(check_schema(e), "corrupt"));
  REQUIRE(commit(e, make({put{schema_key, ""}})) == outcome::done);
  CHECK(says(check_schema(e), "corrupt"));
  failing f;
  CHECK(says(check_schema(f), "cannot be read"));
  memory_engine other;
  other.fail_next(1, outcome::unavailable);
  CHECK(says(check_schema(other), "cannot be written"));
}

TEST_CASE_TEMPLATE("secrets: made once, the same ever after", Kind, in_memory, on_rocksdb, on_postgresql) {
  fresh<Kind> db;
  auto first = tables::secret(*db, "fake-salt", "fresh one");
  REQUIRE(first.has_value());
  CHECK(*first == "fresh one");
  db.reopen();
  CHECK(*tables::secret(*db, "fake-salt", "another") == "fresh one");
  CHECK(*tables::secret(*db, "stanza-id", "another") == "another");
  failing f;
  CHECK(tables::secret(f, "x", "y").error() == errc::unavailable);
}
