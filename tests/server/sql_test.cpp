// A node on PostgreSQL: what it needs, what it says, and how its data gets there and back.
#include "tests/server/programs.hpp"
#include "tests/support/postgres.hpp"
#include <doctest/doctest.h>

using namespace server_tests;

namespace {
/// One server for this file; each test has a schema of its own, made by psql.
covey_tests::postgres_folder& pg_folder() {
  static covey_tests::postgres_folder folder;
  return folder;
}
covey_tests::postgres& pg() {
  static covey_tests::postgres server{pg_folder(), "main", "fsync = off"};
  static bool once = (server.start(), true);
  (void)once;
  return server;
}
void ask(const std::string& sql) { pg_folder().run("psql", {"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pg().connection(), "-c", sql}); }
std::string schema(const std::string& name) {
  ask("create schema " + name);
  return pg().connection() + " password='open sesame' options='-c search_path=" + name + "'";
}
std::string settings(const std::string& connection) { return "storage.engine = \"postgresql\"\nstorage.connection = \"" + connection + "\"\n"; }
/// As a file is changed by its operator.
void rewrite(const node& n, const std::string& from, const std::string& to) {
  auto text = folder::read(n.config);
  auto at = text.find(from);
  REQUIRE(at != text.npos);
  n.where.write("covey.toml", text.replace(at, from.size(), to));
}
constexpr int ok = 0, failed = 1, conflict = 5;
} // namespace

TEST_CASE("sql: a node keeps its data in PostgreSQL, and shows no password") {
  node n{settings(schema("kept"))};
  REQUIRE(n.start());
  CHECK(n.covey({"user", "add", "alice@localhost", "--password-stdin"}, "secret\n").code == ok);
  CHECK(n.covey({"stats"}).out.find("covey_database_up 1") != std::string::npos);
  auto shown = n.covey({"config", "show", "--effective"});
  CHECK(shown.out.find("host=" + pg().socket_folder()) != std::string::npos);
  CHECK(shown.out.find("sesame") == std::string::npos);
  CHECK(n.covey({"reload"}).code == ok);
  auto examined = n.covey({"doctor", "--json"});
  CHECK(examined.out.find("storage.careless") != std::string::npos); // fsync is off in this test
  CHECK(examined.out.find("sesame") == std::string::npos);
  CHECK(n.end(SIGTERM) == 0);
  REQUIRE(n.start());
  CHECK(n.covey({"user", "add", "alice@localhost", "--password-stdin"}, "secret\n").code == conflict);
  // the database goes and comes back: nobody restarts anything
  pg().kill();
  pg().start();
  CHECK(n.covey({"user", "add", "bob@localhost", "--password-stdin"}, "secret\n").code == ok);
  CHECK(n.covey({"user", "remove", "alice@localhost", "--yes"}).code == ok);
  auto file = n.where.at("b.tar");
  CHECK(n.covey({"backup", file}).code == ok);
  CHECK(run({"/bin/tar", "-tf", file}).out.find("databases/1.rows") != std::string::npos);
  CHECK(n.end(SIGTERM) == 0);
  CHECK(n.log().find("sesame") == std::string::npos);
  CHECK_FALSE(std::filesystem::exists(n.where.at("data/store")));
  // the rows of the backup, into another database
  CHECK(n.covey({"restore", file, "--yes"}).code == ok);
  rewrite(n, "search_path=kept", "search_path=restored");
  ask("create schema restored");
  auto rows = n.covey({"migrate", n.where.at("data/databases/1.rows"), "postgresql", "--json"});
  CHECK(rows.code == ok);
  CHECK(rows.out.find("\"rows\":") != std::string::npos);
  REQUIRE(n.start());
  CHECK(n.covey({"user", "add", "bob@localhost", "--password-stdin"}, "secret\n").code == conflict);
  CHECK(n.covey({"user", "add", "alice@localhost", "--password-stdin"}, "secret\n").code == ok);
}

TEST_CASE("sql: a database that is not there, and a configuration that names none") {
  node gone{settings("host=/nowhere dbname=covey password=sesame")};
  REQUIRE_FALSE(gone.start());
  CHECK(gone.log().find("PostgreSQL cannot be reached") != std::string::npos);
  CHECK(gone.log().find("docs/postgresql.md") != std::string::npos);
  CHECK(gone.log().find("sesame") == std::string::npos);
  CHECK(gone.covey({"doctor"}).out.find("storage.unreachable") != std::string::npos);
  node none{"storage.engine = \"postgresql\"\n"};
  auto checked = none.covey({"config", "check"});
  CHECK(checked.code == 78);
  CHECK((checked.out + checked.err).find("storage.connection = \"host=db1,db2") != std::string::npos);
}

TEST_CASE("sql: migrate from RocksDB to PostgreSQL and back") {
  auto to = schema("moved");
  node n{"storage.connection = \"" + to + "\"\nstorage.engine = \"rocksdb\"\n"};
  REQUIRE(n.start());
  constexpr int accounts = 5;
  auto name = [](int i) { return "user" + std::to_string(i) + "@localhost"; };
  for (int i = 0; i < accounts; ++i)
    REQUIRE(n.covey({"user", "add", name(i), "--password-stdin"}, "secret\n").code == ok);
  CHECK(n.covey({"migrate", "rocksdb", "postgresql"}).code == conflict); // it runs
  CHECK(n.end(SIGTERM) == 0);
  CHECK(n.covey({"migrate", "rocksdb", "mysql"}).code == failed);
  CHECK(n.covey({"migrate", "postgresql", "postgresql"}).code == failed);
  auto there = n.covey({"migrate", "rocksdb", "postgresql"});
  CHECK(there.code == ok);
  CHECK(there.out.find(" rows were copied and compared") != std::string::npos);
  auto again = n.covey({"migrate", "rocksdb", "postgresql"});
  CHECK(again.code == failed);
  CHECK((again.out + again.err).find("the target is not empty") != std::string::npos);
  rewrite(n, "storage.engine = \"rocksdb\"", "storage.engine = \"postgresql\"");
  REQUIRE(n.start());
  for (int i = 0; i < accounts; ++i)
    CHECK(n.covey({"user", "add", name(i), "--password-stdin"}, "secret\n").code == conflict);
  CHECK(n.covey({"user", "add", "late@localhost", "--password-stdin"}, "secret\n").code == ok);
  CHECK(n.end(SIGTERM) == 0);
  CHECK(n.covey({"migrate", "postgresql", "rocksdb"}).code == failed); // the old one is there
  std::filesystem::rename(n.where.at("data/store"), n.where.at("old"));
  CHECK(n.covey({"migrate", "postgresql", "rocksdb"}).code == ok);
  rewrite(n, "storage.engine = \"postgresql\"", "storage.engine = \"rocksdb\"");
  REQUIRE(n.start());
  CHECK(n.covey({"user", "add", "late@localhost", "--password-stdin"}, "secret\n").code == conflict);
  CHECK(n.covey({"user", "add", name(0), "--password-stdin"}, "secret\n").code == conflict);
}
