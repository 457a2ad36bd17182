// Failures on order: what the layers above are tested with.
#include "tests/storage/engines.hpp"

using namespace storage;
using namespace storage::testing;

TEST_CASE("memory engine: unavailable until told otherwise") {
  memory_engine e;
  REQUIRE(commit(e, make({put{"k", "1"}})) == outcome::done);
  e.set_available(false);
  CHECK(commit(e, make({put{"k", "2"}})) == outcome::unavailable);
  CHECK(e.get("k").error() == errc::unavailable);
  CHECK(e.scan({"a", "z"}, order::forward, 1).error() == errc::unavailable);
  CHECK(e.resolve({1, 1}).error() == errc::unavailable);
  e.set_available(true);
  CHECK(all(e) == "k=1@1");
}

TEST_CASE("memory engine: so many batches fail, each with the outcome that was ordered") {
  memory_engine e;
  e.fail_next(2, outcome::conflict);
  std::vector<batch> group(3, make({put{"k", "1"}}));
  CHECK(e.commit(group) == std::vector<outcome>{outcome::conflict, outcome::conflict, outcome::done});
  CHECK(all(e) == "k=1@1");
  CHECK(e.commit_calls() == 1);
  CHECK(e.rows() == 1);
}

TEST_CASE("memory engine: a lost answer can be resolved, whichever way it went") {
  for (bool is_done : {false, true}) {
    CAPTURE(is_done);
    memory_engine e;
    auto b = make({put{"k", "1"}});
    b.id = {7, 8};
    e.lose_next(1, is_done);
    CHECK(commit(e, b) == outcome::unknown);
    auto r = e.resolve({7, 8});
    REQUIRE(r.has_value());
    CHECK(*r == is_done);
    CHECK(e.rows() == (is_done ? 1 : 0));
    CHECK(e.resolve({7, 9}).error() == errc::conflict);
  }
  memory_engine e; // a precondition that does not hold: not done, though the answer was lost
  auto b = make({put{"k", "1"}}, {{"k", 4}});
  e.lose_next(1, true);
  CHECK(commit(e, b) == outcome::unknown);
  CHECK(*e.resolve(b.id) == false);
}

TEST_CASE("memory engine: slow on order") {
  memory_engine e;
  e.set_delay(std::chrono::milliseconds{3});
  auto start = std::chrono::steady_clock::now();
  CHECK(commit(e, make({put{"k", "1"}})) == outcome::done);
  (void)e.get("k");
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::milliseconds{6});
}
