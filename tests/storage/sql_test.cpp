// PostgreSQL: keys and records as columns, and back; the tables that it makes; two nodes on one database.
#include "proto/storage.pb.h"
#include "storage/copy_rows.hpp"
#include "storage/sql/bounds.hpp"
#include "storage/sql/layout.hpp"
#include "storage/sql/text.hpp"
#include "storage/sql/wire.hpp"
#include "tests/storage/engines.hpp"
#include <random>
#include <thread>

using namespace storage;
using namespace storage::testing;
using namespace std::string_literals;

namespace {
namespace pb = google::protobuf;

/// Every kind of key column, and one value.
constexpr column mixed_key[]{{"a", column_type::text}, {"n", column_type::u64}, {"b", column_type::text}, {"i", column_type::u128}};
constexpr column mixed_value[]{{"created_us", column_type::time_us}};
constexpr table mixed{"mixed", '\x50', 1, "block", mixed_key, mixed_value};
constexpr const table* with_mixed[]{&tables::secrets, &mixed, &tables::accounts};

std::mt19937_64 seeded{7};
std::uint64_t random_to(std::uint64_t n) { return seeded() % n; }

std::string some_text() {
  static const std::string letters[]{"a", "b", "\x7f", "\x01", "é", "ß", "\xef\xbf\xbf", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"};
  std::string out;
  for (auto n = random_to(4); n > 0; --n)
    out += letters[random_to(10)];
  return out;
}
std::string some_key() {
  static constexpr std::uint64_t numbers[]{0, 1, 255, 256, 1ull << 32, (1ull << 63) - 1};
  return key_builder{mixed}.text(some_text()).number(numbers[random_to(6)]).text(some_text()).id({random_to(3) << 62, random_to(300)}).take();
}
/// A key, cut or changed anywhere.
std::string some_bound() {
  auto k = some_key();
  if (random_to(2))
    k.resize(random_to(k.size() + 1));
  if (random_to(3) == 0 && !k.empty())
    k[random_to(k.size())] = static_cast<char>(random_to(256));
  if (random_to(4) == 0)
    k.push_back(static_cast<char>(random_to(2) ? 0xff : 0));
  return k;
}

/// Random values in every field, some parts left out.
void fill(pb::Message& m) {
  auto& d = *m.GetDescriptor();
  auto& r = *m.GetReflection();
  for (int i = 0; i < d.field_count(); ++i) {
    auto* f = d.field(i);
    if (random_to(4) == 0)
      continue;
    if (f->is_repeated()) {
      for (auto n = random_to(4); n > 0; --n)
        r.AddString(&m, f, "q\"u\\o,{t}e'" + some_text());
      continue;
    }
    switch (f->cpp_type()) {
      case pb::FieldDescriptor::CPPTYPE_MESSAGE: fill(*r.MutableMessage(&m, f)); break;
      case pb::FieldDescriptor::CPPTYPE_STRING: r.SetString(&m, f, random_to(5) ? some_text() + "x" : ""); break;
      case pb::FieldDescriptor::CPPTYPE_UINT32: r.SetUInt32(&m, f, static_cast<std::uint32_t>(seeded())); break;
      case pb::FieldDescriptor::CPPTYPE_UINT64: r.SetUInt64(&m, f, seeded()); break;
      case pb::FieldDescriptor::CPPTYPE_BOOL: r.SetBool(&m, f, random_to(2)); break;
      case pb::FieldDescriptor::CPPTYPE_INT64:
        r.SetInt64(&m, f, random_to(8) ? static_cast<std::int64_t>(seeded() >> 12) - (1ll << 50) : random_to(2) ? INT64_MAX : INT64_MIN);
        break;
      default: FAIL("a field of a new type: " << f->full_name());
    }
  }
}
std::string key_of(const table& t) {
  key_builder k{t};
  for (auto& c : t.key)
    c.type == column_type::text ? k.text(some_text()) : c.type == column_type::u64 ? k.number(seeded() >> 1) : k.id({seeded(), seeded()});
  return k.take();
}
std::string first_cell(sql::connection& c, const std::string& text) {
  auto r = ask(c, {{text, {}}});
  REQUIRE(r[0].rows.size() == 1);
  return r[0].rows[0][0].value_or("null");
}
bool says(const base::result<std::unique_ptr<engine>, std::string>& e, std::string_view what) {
  if (!e)
    CAPTURE(e.error());
  return !e && e.error().find(what) != std::string::npos;
}
} // namespace

TEST_CASE("sql: the text from which a range begins is the smallest that a column can hold") {
  using sql::text_from;
  CHECK(text_from("") == "");
  CHECK(text_from("abc") == "abc");
  CHECK(text_from("a\0"s) == "a\x01");
  CHECK(text_from("a\x80") == "a\xc2\x80");
  CHECK(text_from("a\xc3") == "a\xc3\x80");
  CHECK(text_from("a\xed\xa0") == "a\xee\x80\x80");     // surrogates
  CHECK(text_from("a\xf5") == "b");
  CHECK(text_from("a\xf4\x8f\xbf\xbf\xff") == "b");
  CHECK_FALSE(text_from("\xff"));
  CHECK_FALSE(text_from("\xf4\x8f\xbf\xbf\xff"));
  for (int i = 0; i < 20'000; ++i) {
    std::string s;
    for (auto n = random_to(5); n > 0; --n)
      s += random_to(2) ? some_text() : std::string(1, static_cast<char>(random_to(256)));
    auto least = text_from(s);
    CHECK((!least || (*least >= s && sql::is_storable(*least))));
    auto other = some_text() + some_text();
    CHECK((other < s || (least && other >= *least)));
  }
}

TEST_CASE("sql: binary forms of times and lists") {
  using namespace sql::wire;
  for (std::int64_t us : {0ll, 1ll, -1ll, 1'700'000'000'000'000ll, 946'684'800'000'000ll, -210'866'803'200'000'000ll})
    CHECK(read_time(time(us)) == us);
  CHECK(read_time(time(INT64_MAX)) == INT64_MAX);
  CHECK(read_time(time(INT64_MIN)) == INT64_MIN);
  CHECK(read_time(time(INT64_MAX - 1)) == INT64_MAX - 1);
  CHECK_FALSE(time(-210'866'803'200'000'001ll));
  CHECK_FALSE(time(INT64_MIN + 1));
  CHECK(text_list(std::vector<std::string>{}) == "{}");
  CHECK(text_list(std::vector<std::string>{"a\"b", "c\\d", ""}) == R"({"a\"b","c\\d",""})");
  for (auto& bad : {""s, "\0\0\0\1"s, "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\2\0\0\0\1\0\0\0\1a"s, "\0\0\0\1\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\0\0\0\1"s})
    CHECK_FALSE(read_text_list(bad));
}

TEST_CASE("sql: ranges of any bytes take the same rows as in a sorted map") {
  temporary_folder folder;
  sql_options o{.connection = schema_connection(folder / "db")};
  o.tables = with_mixed;
  auto db = open_or_fail(o);
  memory_engine model;
  auto both = [&](batch b) {
    auto r = commit(*db, b);
    CHECK(r == commit(model, std::move(b)));
    return r;
  };
  std::vector<std::string> keys;
  batch all;
  for (int i = 0; i < 400; ++i) {
    keys.push_back(some_key());
    all.changes.emplace_back(put{keys.back(), ""});
  }
  for (auto k : {"\x02" "b\0\0"s, "\x02" "c\0\0"s, "\x4f"s, "\x51z"s, "\xff\xff"s})
    all.changes.emplace_back(put{k, ""});
  REQUIRE(both(all) == outcome::done);
  auto texts = [](base::result<std::vector<row>, errc> rows) {
    REQUIRE(rows.has_value());
    std::string out;
    for (auto& r : *rows)
      out += base::to_hex(r.key) + '@' + std::to_string(r.version) + ' ';
    return out;
  };
  for (int i = 0; i < 1'500; ++i) {
    key_range r{random_to(4) ? some_bound() : keys[random_to(keys.size())], some_bound()};
    if (random_to(4) == 0)
      r = only(keys[random_to(keys.size())]);
    if (random_to(5) == 0)
      r.from = random_to(2) ? std::string{} : std::string(1, static_cast<char>(random_to(256)));
    if (random_to(5) == 0)
      r.until = std::string(1, static_cast<char>(random_to(256)));
    auto how = random_to(2) ? order::forward : order::reverse;
    auto limit = random_to(3) ? 1'000 : random_to(10);
    CAPTURE(base::to_hex(r.from));
    CAPTURE(base::to_hex(r.until));
    REQUIRE(texts(db->scan(r, how, limit)) == texts(model.scan(r, how, limit)));
    if (i % 30 == 0) {
      REQUIRE(both(make({erase_range{r.from, r.until}})) == outcome::done);
      REQUIRE(both(all) == outcome::done);
    }
  }
}

TEST_CASE("sql: rows of every table come back as they went") {
  temporary_folder folder;
  auto db = open_or_fail(sql_options{.connection = schema_connection(folder / "db")});
  memory_engine model;
  for (auto* t : tables::all) {
    CAPTURE(t->name);
    for (int i = 0; i < 20; ++i) {
      auto* d = pb::DescriptorPool::generated_pool()->FindMessageTypeByName("covey.storage." + std::string{t->record});
      REQUIRE(d);
      std::unique_ptr<pb::Message> m{pb::MessageFactory::generated_factory()->GetPrototype(d)->New()};
      if (i > 0)
        fill(*m);
      auto b = make({put{key_of(*t), m->SerializeAsString()}});
      REQUIRE(commit(*db, b) == outcome::done);
      REQUIRE(commit(model, b) == outcome::done);
    }
  }
  CHECK(all(*db) == all(model));
}

TEST_CASE("sql: an operator sees columns") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  auto db = open_or_fail(sql_options{.connection = to});
  covey::storage::account a;
  a.set_created_us(1'700'000'000'000'000);
  a.mutable_sha256()->set_iterations(4'096);
  covey::storage::roster_item item;
  item.add_groups("Capulets");
  item.add_groups("of \"Verona\"");
  item.set_request("<presence/>");
  REQUIRE(commit(*db, make({put{key_builder{tables::accounts}.text("capulet.example").text("juliet").take(), a.SerializeAsString()},
                            put{key_builder{tables::rosters}.text("capulet.example").text("juliet").text("nurse@capulet.example").take(), item.SerializeAsString()},
                            put{key_builder{tables::offline}.text("capulet.example").text("juliet").number(9).id({1, 2}).take(), ""}}))
          == outcome::done);
  auto c = connect_or_fail(to);
  CHECK(first_cell(*c, "select (created_us at time zone 'UTC')::text || ' ' || sha256_iterations || ' ' || coalesce(sha1_iterations::text, 'none') from accounts "
                       "where host = 'capulet.example' and account = 'juliet'") == "2023-11-14 22:13:20 4096 none");
  CHECK(first_cell(*c, "select contact || ' ' || array_to_string(groups, '/') || ' ' || request || ' ' || ver::text from rosters")
        == "nurse@capulet.example Capulets/of \"Verona\" <presence/> 1");
  CHECK(first_cell(*c, "select stanza_id::text || ' ' || entry from offline") == "00000000-0000-0001-0000-000000000002 9");
  // what an operator writes is read, too
  ask(*c, {{"update rosters set name = 'Angelica', ver = ver + 1", {}}});
  auto rows = db->scan(key_builder{tables::rosters}.text("capulet.example").range(), order::forward, 9);
  REQUIRE(rows->size() == 1);
  CHECK(rows->front().version == 2);
  REQUIRE(item.ParseFromString(rows->front().value));
  CHECK(item.name() == "Angelica");
}

TEST_CASE("sql: what columns cannot hold fails alone") {
  temporary_folder folder;
  auto db = open_or_fail(sql_options{.connection = schema_connection(folder / "db")});
  auto secret = [](std::string name) { return key_builder{tables::secrets}.text(name).take(); };
  auto vcard = key_builder{tables::vcards}.text("h").text("a").take();
  std::vector<batch> group{
      make({put{secret("good"), ""}}),
      make({put{secret("NUL\0"s), ""}}),
      make({put{secret("\xc3\x28"), ""}, put{secret("lost"), ""}}),
      make({put{vcard, tables::encode_vcard("\xff")}}),
      make({put{vcard, "\xff\xff"}}),                                          // no record
      make({put{"\x02" "cut", ""}}),                                            // no key of its table
      make({put{key_builder{tables::offline}.text("h").text("a").number(1ull << 63).id({0, 0}).take(), ""}}),
      make({put{secret("good"), ""}}, {{secret("\xff"), 0}}),                  // absent, for ever
      make({put{secret("good"), ""}}, {{secret("\xff"), 1}}),
      make({erase{secret("\xff")}, put{secret("last"), ""}}),
  };
  using enum outcome;
  CHECK(db->commit(group) == std::vector<outcome>{done, corrupt, corrupt, corrupt, corrupt, corrupt, corrupt, done, conflict, done});
  CHECK(all(*db) == "\x02good\0\0=@2 \x02last\0\0=@1"s);
  CHECK_FALSE(get(*db, secret("\xff")));
}

TEST_CASE("sql: one transaction for neighbours and for many, whatever their number") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  auto db = open_or_fail(sql_options{.connection = to});
  std::vector<batch> group;
  for (int i = 0; i < 1'000; ++i)
    group.push_back(make({put{"k" + std::to_string(i % 700), "v"}}));
  CHECK(db->commit(group) == std::vector<outcome>(1'000, outcome::done));
  CHECK(get(*db, "k0")->version == 2);
  CHECK(get(*db, "k699")->version == 1);
  auto c = connect_or_fail(to);
  CHECK(first_cell(*c, "select count(*)::text from batch_log") == "4"); // 256 batches at once, under one id
  // ids whose outcome is known go
  for (int i = 0; i < 3'000; ++i)
    group.push_back(make({}, {{"k0", 2}}));
  CHECK(db->commit(group).back() == outcome::conflict);
  for (int i = 0; i < 600; ++i)
    REQUIRE(commit(*db, make({}, {{"k1", 4}})) == outcome::done);
  CHECK(std::stoi(first_cell(*c, "select count(*)::text from batch_log")) < 700);
}

TEST_CASE("sql: tables of a newer covey, of somebody else, and columns that came later") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  auto c = connect_or_fail(to);
  ask(*c, {{"create table accounts (id bigint)", {}}});
  CHECK(says(open_sql({.connection = to}), "a table accounts that covey did not make"));
  ask(*c, {{"drop table accounts", {}}});
  auto key = key_builder{tables::accounts}.text("h").text("a").take();
  {
    auto db = open_or_fail(sql_options{.connection = to});
    REQUIRE(commit(*db, make({put{key, ""}})) == outcome::done);
  }
  ask(*c, {{"alter table accounts drop column disabled, drop column sha512_salt", {}}, {"drop table blocks", {}}});
  {
    auto db = open_or_fail(sql_options{.connection = to});
    CHECK(get(*db, key)->value.empty());
    CHECK(commit(*db, make({put{key_builder{tables::blocks}.text("h").text("a").text("c").take(), ""}})) == outcome::done);
  }
  CHECK(first_cell(*c, "select disabled::text || ' ' || coalesce(length(sha512_salt)::text, 'none') from accounts") == "false none");
  ask(*c, {{"alter table accounts alter column sha1_iterations type text", {}}});
  CHECK(says(open_sql({.connection = to}), "accounts has another column sha1_iterations"));
  ask(*c, {{"alter table accounts alter column sha1_iterations type bigint using null", {}}, {"update table_layout set version = 2", {}}});
  CHECK(says(open_sql({.connection = to}), "layout 2, made by a newer covey; this one knows up to 1"));
  // up is automatic
  sql::sql_tables all{tables::all};
  ask(*c, {{"update table_layout set version = 1", {}}});
  REQUIRE(sql::provide_layout(*c, all, base::steady::now() + std::chrono::seconds{10}, 2).has_value());
  CHECK(first_cell(*c, "select version::text from table_layout") == "2");
}

TEST_CASE("sql: a user that may not make tables is enough where they are") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  auto c = connect_or_fail(to);
  auto schema = first_cell(*c, "select current_schema()::text");
  ask(*c, {{"create role less login", {}}, {"grant usage on schema " + schema + " to less", {}}});
  auto as_less = to + " user=less";
  CHECK(says(open_sql({.connection = as_less}), "grant create, usage on schema"));
  auto db = open_or_fail(sql_options{.connection = to});
  ask(*c, {{"grant select, insert, update, delete on all tables in schema " + schema + " to less", {}}});
  auto less = open_or_fail(sql_options{.connection = as_less});
  CHECK(commit(*less, make({put{"k", "v"}}, {{"k", 0}})) == outcome::done);
  CHECK(get(*db, "k")->value == "v");
  // rights that go while it runs: an error, and no lost connection
  ask(*c, {{"revoke insert on other_rows from less", {}}});
  CHECK(commit(*less, make({put{"l", "v"}})) == outcome::unavailable);
  std::vector<batch> group{make({put{"l", "v"}}), make({erase{"k"}}), make({put{"\x02" "a\0\0"s, ""}})};
  CHECK(less->commit(group) == std::vector<outcome>{outcome::unavailable, outcome::done, outcome::done});
  less = nullptr;
  ask(*c, {{"drop owned by less", {}}, {"drop role less", {}}});
}

TEST_CASE("sql: what is told when the database is not there or does not want us, without the password") {
  auto& server = shared_postgres();
  for (auto& [to, what] : std::vector<std::pair<std::string, std::string>>{
           {"host=/nowhere password=sesame", "PostgreSQL cannot be reached"},
           {"host=" + server.socket_folder() + " user=covey dbname=absent password=sesame", "\"absent\" does not exist"},
           {"host=" + server.socket_folder() + " user=nobody_at_all dbname=postgres password=sesame", "nobody_at_all"},
           {"postgresql://covey:sesame@/absent?host=" + server.socket_folder(), "\"absent\" does not exist"},
           {"password=open sesame", "not a connection string"},
           {"colour=sesame", "not a connection string"}}) {
    auto e = open_sql({.connection = to});
    CAPTURE(to);
    CHECK(says(e, what));
    CHECK(e.error().find("sesame") == std::string::npos);
  }
  auto c = connect_or_fail(server.connection());
  ask(*c, {{"create database ascii encoding 'SQL_ASCII' template template0", {}}});
  CHECK(says(open_sql({.connection = "host=" + server.socket_folder() + " user=covey dbname=ascii"}), "covey needs UTF8"));
}

TEST_CASE("sql: durable means durable, whatever the role's default is") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  auto c = connect_or_fail(to);
  ask(*c, {{"create role careless superuser login", {}}, {"alter role careless set synchronous_commit = off", {}}});
  auto db = open_or_fail(sql_options{.connection = to + " user=careless"});
  // a trigger tells what was in force
  ask(*c, {{"create table seen (what text)", {}},
           {"create function see() returns trigger language plpgsql as $$ begin insert into seen values (current_setting('synchronous_commit')); return new; end $$", {}},
           {"create trigger see before insert on other_rows for each row execute function see()", {}}});
  auto relaxed = make({put{"r", ""}});
  relaxed.durability = durability::relaxed;
  REQUIRE(commit(*db, make({put{"d", ""}})) == outcome::done);
  REQUIRE(commit(*db, relaxed) == outcome::done);
  std::vector<batch> group{relaxed, make({put{"d", ""}})};
  REQUIRE(db->commit(group) == std::vector<outcome>(2, outcome::done));
  CHECK(first_cell(*c, "select string_agg(what, ' ' order by ctid) from seen") == "on off on on");
}

TEST_CASE("sql: two nodes on the same rows: every success counts once") {
  temporary_folder folder;
  auto to = schema_connection(folder / "db");
  constexpr int nodes = 2, rounds = 60, rows = 6;
  std::vector<std::thread> threads;
  std::atomic<int> successes{0}, created{0}, others{0};
  for (int n = 0; n < nodes; ++n)
    threads.emplace_back([&, n] {
      auto e = open_sql({.connection = to});
      if (!e) {
        ++others;
        return;
      }
      auto& db = **e;
      std::mt19937_64 mine{static_cast<std::uint64_t>(n)};
      for (int i = 0; i < rounds; ++i) {
        std::vector<batch> group;
        for (int k = 0; k < rows; ++k) {
          auto key = "k" + std::to_string(mine() % rows), own = "n" + std::to_string(mine() % 200);
          auto there = db.get(key);
          auto v = there && *there ? (*there)->version : 0;
          group.push_back(make({put{key, "x"}}, {{key, v}}));
          group.push_back(make({put{own, "x"}}, {{own, 0}}));
        }
        auto out = db.commit(group);
        for (std::size_t k = 0; k < out.size(); ++k)
          if (out[k] == outcome::done)
            ++(k % 2 ? created : successes);
          else if (out[k] != outcome::conflict)
            ++others;
      }
    });
  for (auto& t : threads)
    t.join();
  CHECK(others == 0);
  auto db = open_or_fail(sql_options{.connection = to});
  std::uint64_t sum = 0, made = 0;
  auto counted = db->scan({"k", "l"}, order::forward, 1'000), new_ones = db->scan({"n", "o"}, order::forward, 1'000);
  for (auto& r : *counted)
    sum += r.version;
  for (auto& r : *new_ones) {
    CHECK(r.version == 1);
    ++made;
  }
  CHECK(sum == static_cast<std::uint64_t>(successes));
  CHECK(made == static_cast<std::uint64_t>(created));
  CHECK(successes > 0);
}

TEST_CASE("sql: rows of one engine, copied into another and back, are the same") {
  temporary_folder folder;
  memory_engine from;
  auto db = open_or_fail(sql_options{.connection = schema_connection(folder / "db")});
  auto back = open_or_fail(small(folder / "back"));
  REQUIRE(tables::check_schema(from).has_value());
  for (int i = 0; i < 1'500; ++i) {
    covey::storage::roster_item item;
    fill(item);
    batch b = make({put{key_builder{tables::rosters}.text("h").text("u" + std::to_string(i % 40)).text(std::to_string(i)).take(), item.SerializeAsString()}});
    REQUIRE(commit(from, b) == outcome::done);
  }
  std::uint64_t shown = 0;
  auto copied = copy_rows(from, *db, [&](std::uint64_t n) { shown = n; });
  REQUIRE(copied.has_value());
  CHECK(*copied == 1'501);
  CHECK(shown >= 2'500);
  REQUIRE(copy_rows(*db, *back, [](auto) {}).has_value());
  auto texts = [](engine& e) { return all(e); };
  CHECK(texts(*back) == texts(from));
  CHECK(tables::check_schema(*back).has_value());
  // only into nothing; and what broke off is no database
  auto again = copy_rows(from, *db, [](auto) {});
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().find("a database already") != std::string::npos);
  memory_engine broken;
  broken.fail_next(1, outcome::unavailable);
  CHECK_FALSE(copy_rows(from, broken, [](auto) {}).has_value());
  memory_engine cut;
  REQUIRE(commit(cut, make({put{key_builder{tables::secrets}.text("s").take(), ""}})) == outcome::done);
  again = copy_rows(from, cut, [](auto) {});
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error().find("was interrupted") != std::string::npos);
  CHECK_FALSE(tables::check_schema(cut).has_value());
}

TEST_CASE("sql: a row that the target cannot hold, or changes, is told") {
  temporary_folder folder;
  memory_engine from;
  REQUIRE(tables::check_schema(from).has_value());
  REQUIRE(commit(from, make({put{key_builder{tables::secrets}.text("bad\xff").take(), ""}})) == outcome::done);
  auto db = open_or_fail(sql_options{.connection = schema_connection(folder / "db")});
  auto r = copy_rows(from, *db, [](auto) {});
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().find("did not take rows of secrets") != std::string::npos);
  // a field that this version does not know has no column
  memory_engine newer;
  REQUIRE(commit(newer, make({put{key_builder{tables::secrets}.text("s").take(), "\x7a\x01x"}})) == outcome::done);
  r = copy_rows(newer, *db, [](auto) {});
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error().find("a row of secrets came out differently") != std::string::npos);
}

TEST_CASE("sql: a file of rows that is cut or damaged is told") {
  temporary_folder folder;
  memory_engine from;
  {
    rows_writer out{folder / "rows"};
    out.add({"k1", "v1", 1});
    out.add({"k2", "", 7});
    REQUIRE(out.finish());
  }
  std::ifstream in{folder / "rows", std::ios::binary};
  std::string whole{std::istreambuf_iterator<char>{in}, {}};
  memory_engine good;
  REQUIRE(load_rows(folder / "rows", good) == 2u);
  CHECK(all(good) == "k1=v1@1 k2=@1");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    std::ofstream{folder / "cut", std::ios::binary | std::ios::trunc} << whole.substr(0, n);
    memory_engine e;
    CAPTURE(n);
    CHECK_FALSE(load_rows(folder / "cut", e).has_value());
    CHECK(e.rows() == 0);
  }
  CHECK_FALSE(load_rows(folder / "absent", from).has_value());
}
