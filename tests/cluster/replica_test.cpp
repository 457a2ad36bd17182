// Two replicas and the frames between them, one by one.
#include "cluster/replica.hpp"
#include "tests/cluster/made.hpp"

using namespace cluster;
using namespace cluster_tests;
using namespace std::chrono_literals;

namespace {
struct two_replicas {
  table at_a, at_b;
  replica a{at_a, 1}, b{at_b, 2};
  news heard;
  base::time_point now{1'000s};
  two_replicas() {
    a.begin(1);
    b.begin(1);
  }
  void publish(std::uint64_t n) { a.publish(session_row("user" + std::to_string(n) + "@h/x", n, n), heard); }
  void connect(life of_a = 1) {
    a.connected(1, 2, 1, heard);
    b.connected(1, 1, of_a, heard);
  }
  /// One frame each way.
  void step() {
    now += 100ms;
    frame from_b, from_a;
    b.fill(1, from_b, now);
    CHECK(a.receive(1, from_b, heard) != replica::verdict::hostile);
    a.fill(1, from_a, now);
    CHECK(b.receive(1, from_a, heard) != replica::verdict::hostile);
  }
};
} // namespace

TEST_CASE_FIXTURE(two_replicas, "replica: changes while a large table is sent do not stop it") {
  constexpr std::uint64_t rows = 3'000; // three frames
  for (std::uint64_t n = 1; n <= rows; ++n)
    publish(n);
  connect();
  for (std::uint64_t n = 1; n <= 20; ++n) {
    step();
    publish(rows + n);
  }
  for (int n = 0; n < 60; ++n)
    step();
  CHECK(b.is_synced(1));
  CHECK(at_b.size(1) == rows + 20);
  CHECK(at_b.digest(1) == at_a.digest(self));
  CHECK(b.count().divergences == 0);
}

TEST_CASE_FIXTURE(two_replicas, "replica: a request that was never answered is made anew, with digests") {
  publish(1);
  connect();
  frame lost;
  b.fill(1, lost, now);
  REQUIRE(lost.sync_request);
  a.disconnected(1);
  b.disconnected(1);
  connect();
  frame again;
  b.fill(1, again, now);
  REQUIRE(again.sync_request);
  CHECK_FALSE(again.sync_request->digests.empty());
}
