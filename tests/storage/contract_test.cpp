// What every engine promises (storage/engine.hpp), over all of them.
#include "storage/table.hpp"
#include "tests/storage/engines.hpp"

using namespace storage;
using namespace storage::testing;

#define FOR_EVERY_ENGINE(text) TEST_CASE_TEMPLATE("engine: " text, Kind, in_memory, on_rocksdb, on_postgresql, in_columns)

FOR_EVERY_ENGINE("a row is inserted with version 1, each put adds one, a row that comes again begins anew") {
  fresh<Kind> db;
  CHECK_FALSE(get(*db, "k"));
  CHECK(commit(*db, make({put{"k", "a"}})) == outcome::done);
  CHECK(all(*db) == "k=a@1");
  CHECK(commit(*db, make({put{"k", "b"}})) == outcome::done);
  CHECK(commit(*db, make({put{"k", "c"}})) == outcome::done);
  auto r = get(*db, "k");
  REQUIRE(r);
  CHECK(r->key == "k");
  CHECK(r->value == "c");
  CHECK(r->version == 3);
  CHECK(commit(*db, make({erase{"k"}})) == outcome::done);
  CHECK_FALSE(get(*db, "k"));
  CHECK(commit(*db, make({put{"k", "d"}})) == outcome::done);
  CHECK(all(*db) == "k=d@1");
}

FOR_EVERY_ENGINE("keys and values are bytes") {
  fresh<Kind> db;
  std::string bytes;
  for (int i = 0; i < 256; ++i)
    bytes.push_back(static_cast<char>(i));
  CHECK(commit(*db, make({put{"k" + bytes, bytes}, put{"empty", ""}})) == outcome::done);
  db.reopen();
  auto r = get(*db, "k" + bytes);
  REQUIRE(r);
  CHECK(r->value == bytes);
  REQUIRE(get(*db, "empty"));
  CHECK(get(*db, "empty")->value.empty());
}

FOR_EVERY_ENGINE("versions outlive the process") {
  fresh<Kind> db;
  for (int i = 0; i < 5; ++i)
    CHECK(commit(*db, make({put{"k", std::to_string(i)}})) == outcome::done);
  db.reopen();
  CHECK(all(*db) == "k=4@5");
  CHECK(commit(*db, make({put{"k", "x"}}, {{"k", 5}})) == outcome::done);
}

FOR_EVERY_ENGINE("a batch is done only if all its preconditions hold") {
  fresh<Kind> db;
  REQUIRE(commit(*db, make({put{"a", "1"}, put{"b", "1"}})) == outcome::done);
  CHECK(commit(*db, make({put{"n", "1"}}, {{"n", 0}})) == outcome::done);
  CHECK(commit(*db, make({put{"n", "2"}}, {{"n", 0}})) == outcome::conflict);
  CHECK(commit(*db, make({put{"a", "2"}}, {{"a", 1}, {"b", 2}})) == outcome::conflict);
  CHECK(commit(*db, make({put{"a", "2"}}, {{"a", 1}, {"b", 0}})) == outcome::conflict);
  CHECK(commit(*db, make({erase{"a"}}, {{"z", 1}})) == outcome::conflict);
  CHECK(all(*db) == "a=1@1 b=1@1 n=1@1");
  CHECK(commit(*db, make({put{"a", "2"}}, {{"a", 1}, {"b", 1}, {"z", 0}})) == outcome::done);
  CHECK(all(*db) == "a=2@2 b=1@1 n=1@1");
  // a guard alone is a question
  CHECK(commit(*db, make({}, {{"a", 2}})) == outcome::done);
  CHECK(commit(*db, make({}, {{"a", 1}})) == outcome::conflict);
}

FOR_EVERY_ENGINE("a group: each batch sees those before it, and one that fails leaves the others alone") {
  fresh<Kind> db;
  REQUIRE(commit(*db, make({put{"a", "0"}})) == outcome::done);
  std::vector<batch> group{
      make({put{"a", "1"}}, {{"a", 1}}),
      make({put{"a", "lost"}, put{"half", "x"}}, {{"a", 1}}), // somebody was first
      make({put{"a", "2"}}, {{"a", 2}}),
      make({put{"b", "1"}}, {{"b", 0}}),
      make({put{"b", "lost"}}, {{"b", 0}}),
      make({erase{"b"}}, {{"b", 1}}),
      make({put{"b", "again"}}, {{"b", 0}}),
      make({}, {{"half", 0}}),
  };
  using enum outcome;
  CHECK(db->commit(group) == std::vector<outcome>{done, conflict, done, done, conflict, done, done, done});
  CHECK(all(*db) == "a=2@3 b=again@1");
  db.reopen();
  CHECK(all(*db) == "a=2@3 b=again@1");
}

FOR_EVERY_ENGINE("a group of none") {
  fresh<Kind> db;
  CHECK(db->commit({}).empty());
}

FOR_EVERY_ENGINE("changes of one batch are done in their order") {
  fresh<Kind> db;
  REQUIRE(commit(*db, make({put{"p1", "old"}, put{"p2", "old"}, put{"q", "old"}})) == outcome::done);
  CHECK(commit(*db, make({put{"p1", "new"}, erase_range{"p", "q"}, put{"p2", "new"}, put{"p2", "newer"}, put{"q", "1"}, erase{"q"}})) == outcome::done);
  CHECK(all(*db) == "p2=newer@2");
  CHECK(commit(*db, make({erase{"p2"}, put{"p2", "x"}})) == outcome::done);
  CHECK(all(*db) == "p2=x@1");
}

FOR_EVERY_ENGINE("erase_range takes what lies in it, its end not included, and empty ranges take nothing") {
  fresh<Kind> db;
  REQUIRE(commit(*db, make({put{"a", "1"}, put{"b", "1"}, put{"b\1", "1"}, put{"c", "1"}, put{"d", "1"}})) == outcome::done);
  CHECK(commit(*db, make({erase_range{"d", "b"}, erase_range{"c", "c"}, erase_range{"x", "y"}})) == outcome::done);
  CHECK(db->scan({"a", "z"}, order::forward, 10)->size() == 5);
  CHECK(commit(*db, make({erase_range{"b", "c"}})) == outcome::done);
  CHECK(all(*db) == "a=1@1 c=1@1 d=1@1");
  // and within a group: a later batch sees that they are gone, those outside keep their versions
  std::vector<batch> group{make({erase_range{"a", "d"}}), make({put{"a", "2"}}, {{"a", 0}, {"c", 0}, {"d", 1}}), make({put{"d", "2"}})};
  CHECK(db->commit(group) == std::vector<outcome>(3, outcome::done));
  CHECK(all(*db) == "a=2@1 d=2@2");
  db.reopen();
  CHECK(all(*db) == "a=2@1 d=2@2");
}

FOR_EVERY_ENGINE("erasing what is not there is no error") {
  fresh<Kind> db;
  CHECK(commit(*db, make({erase{"nothing"}})) == outcome::done);
  CHECK(all(*db).empty());
}

FOR_EVERY_ENGINE("scan: key order as unsigned bytes, both ways, with limits") {
  fresh<Kind> db;
  REQUIRE(commit(*db, make({put{"b", "3"}, put{"a", "1"}, put{"\x7f", "5"}, put{std::string("a\0", 2), "2"}, put{"\x80", "6"}, put{"c", "4"}})) == outcome::done);
  auto values = [&](key_range r, order o, std::size_t limit) {
    auto rows = db->scan(r, o, limit);
    REQUIRE(rows.has_value());
    std::string out;
    for (auto& x : *rows)
      out += x.value;
    return out;
  };
  CHECK(values({"a", "\xff"}, order::forward, 100) == "123456");
  CHECK(values({"a", "\xff"}, order::reverse, 100) == "654321");
  CHECK(values({"a", "\xff"}, order::forward, 2) == "12");
  CHECK(values({"a", "\xff"}, order::reverse, 2) == "65");
  CHECK(values({"a", "c"}, order::forward, 100) == "123");
  CHECK(values({"a", "c"}, order::reverse, 1) == "3");
  CHECK(values({"aa", "z"}, order::forward, 100) == "34");
  CHECK(values({"a", "a"}, order::forward, 100).empty());
  CHECK(values({"c", "a"}, order::reverse, 100).empty());
  CHECK(values({"a", "z"}, order::forward, 0).empty());
  CHECK(values({"x", "y"}, order::forward, 9).empty());
  // one key alone, which an engine may look up
  CHECK(values({"a", std::string("a\0", 2)}, order::forward, 9) == "1");
  CHECK(values({"a", std::string("a\0", 2)}, order::reverse, 9) == "1");
  CHECK(values({"zz", std::string("zz\0", 3)}, order::forward, 9).empty());
}

FOR_EVERY_ENGINE("relaxed batches are applied at once, alone or beside durable ones") {
  fresh<Kind> db;
  auto relaxed = make({put{"r", "1"}});
  relaxed.durability = durability::relaxed;
  CHECK(commit(*db, relaxed) == outcome::done);
  CHECK(all(*db) == "r=1@1");
  std::vector<batch> group{relaxed, make({put{"d", "1"}}), relaxed};
  CHECK(db->commit(group) == std::vector<outcome>(3, outcome::done));
  CHECK(all(*db) == "d=1@1 r=1@3");
  db.reopen();
  CHECK(all(*db) == "d=1@1 r=1@3");
}

FOR_EVERY_ENGINE("outcomes are known, so there is nothing to resolve") {
  fresh<Kind> db;
  auto b = make({put{"k", "1"}});
  b.id = {1, 2};
  REQUIRE(commit(*db, b) == outcome::done);
  auto r = db->resolve(b.id);
  REQUIRE_FALSE(r.has_value());
  CHECK(r.error() == errc::conflict);
}

FOR_EVERY_ENGINE("a snapshot is a database of its own, of the moment it was taken") {
  fresh<Kind> db;
  for (int i = 0; i < 200; ++i)
    REQUIRE(commit(*db, make({put{"k" + std::to_string(i), std::string(1'000, 'x')}})) == outcome::done);
  auto copy = db.folder() / "copy";
  auto made = db->snapshot(copy);
  if (!Kind::is_on_disk) {
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error() == errc::unavailable);
    return;
  }
  REQUIRE(made.has_value());
  REQUIRE(commit(*db, make({put{"k1", "later"}, put{"new", "1"}})) == outcome::done);
  auto other = Kind::open(copy);
  CHECK(other->scan({"k", "z"}, order::forward, 1'000)->size() == 200);
  CHECK(get(*other, "k1")->value.size() == 1'000);
  CHECK(commit(*other, make({put{"k2", "other"}})) == outcome::done);
  CHECK(get(*db, "k2")->value.size() == 1'000);
  // not over something that is there
  auto again = db->snapshot(copy);
  REQUIRE_FALSE(again.has_value());
  CHECK(again.error() == errc::unavailable);
}

FOR_EVERY_ENGINE("many rows, larger than the buffers: same rows and versions as a plain map") {
  fresh<Kind> db;
  std::map<std::string, std::pair<std::string, version>> model;
  std::uint64_t x = 88172645463325252u; // xorshift: the same every run
  auto random = [&](std::uint64_t n) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x % n;
  };
  for (int round = 0; round < 300; ++round) {
    std::vector<batch> group;
    std::vector<outcome> expected;
    for (auto n = random(8) + 1; n > 0; --n) {
      batch b;
      bool holds = true;
      for (auto p = random(3); p > 0; --p) {
        auto key = "k" + std::to_string(random(200));
        auto i = model.find(key);
        auto there = i == model.end() ? 0 : i->second.second;
        auto wanted = random(8) == 0 ? there + 1 : there;
        holds &= wanted == there;
        b.preconditions.push_back({key, wanted});
      }
      for (auto c = random(6) + 1; c > 0; --c) {
        auto key = "k" + std::to_string(random(200));
        auto kind = random(20);
        if (kind == 0) {
          auto until = key + "9";
          b.changes.emplace_back(erase_range{key, until});
          if (holds)
            model.erase(model.lower_bound(key), model.lower_bound(until));
        } else if (kind < 5) {
          b.changes.emplace_back(erase{key});
          if (holds)
            model.erase(key);
        } else {
          auto value = std::string(random(3'000), static_cast<char>('a' + random(26)));
          b.changes.emplace_back(put{key, value});
          if (holds) {
            auto& m = model[key];
            m.first = value;
            ++m.second;
          }
        }
      }
      group.push_back(std::move(b));
      expected.push_back(holds ? outcome::done : outcome::conflict);
    }
    REQUIRE(db->commit(group) == expected);
    if (round % 100 == 50)
      db.reopen();
  }
  auto rows = db->scan({"k", "l"}, order::forward, 1'000);
  REQUIRE(rows.has_value());
  REQUIRE(rows->size() == model.size());
  auto m = model.begin();
  for (auto& r : *rows) {
    CHECK(r.key == m->first);
    CHECK(r.value == m->second.first);
    CHECK(r.version == m->second.second);
    ++m;
  }
}

FOR_EVERY_ENGINE("what memory alone answers is what a scan finds") {
  fresh<Kind> db;
  std::vector<change> many;
  for (int i = 100; i < 300; ++i)
    many.push_back(put{"k" + std::to_string(i), "v"});
  REQUIRE(commit(*db, make(many)) == outcome::done);
  REQUIRE(commit(*db, make({erase{"k101"}, put{"k102", "w"}})) == outcome::done);
  for (int round = 0; round < 2; ++round) {
    for (auto& range : std::vector<key_range>{only("k100"), only("k101"), only("none"), key_range{"k100", "k104"}, key_range{"k100", "k300"}, key_range{"x", "y"},
                        key_range{"k2", "k1"}})
      for (auto o : {order::forward, order::reverse})
        for (std::size_t limit : {0u, 1u, 3u, 1'000u})
          if (auto found = db->scan_in_memory(range, o, limit))
            CHECK(text(std::move(*found)) == text(db->scan(range, o, limit)));
    db.reopen();
  }
}

TEST_CASE("rocksdb: memory answers what was just written and a name that is not there, not what it would have to read for") {
  fresh<on_rocksdb> db;
  std::vector<change> many;
  for (int i = 100; i < 300; ++i)
    many.push_back(put{"k" + std::to_string(i), std::string(2'000, 'v')});
  REQUIRE(commit(*db, make(many)) == outcome::done);
  auto at_once = [&](key_range r, std::size_t limit = 1'000) { return db->scan_in_memory(r, order::forward, limit); };
  REQUIRE(at_once(only("k100")));
  CHECK(at_once(only("k100"))->size() == 1);
  CHECK(at_once(only("none"))->empty());
  CHECK(at_once({"k100", "k110"})->size() == 10);
  CHECK(at_once({"k100", "k300"}, 20)->size() == 20);
  CHECK_FALSE(at_once({"k100", "k300"})); // too many for a caller who must not wait
  for (int i = 100; i < 300; ++i)
    REQUIRE(commit(*db, make({erase{"k" + std::to_string(i)}})) == outcome::done);
  CHECK_FALSE(at_once({"k1", "k300"})); // as are those that are gone
  CHECK(at_once(only("k100"))->empty());
  REQUIRE(commit(*db, make(many)) == outcome::done);
  db.reopen(); // the log became a table, which nobody has read
  CHECK_FALSE(at_once(only("k100")));
  REQUIRE(get(*db, "k100"));
  REQUIRE(at_once(only("k100")));
}
