// What was written is known for a while, and takes bounded room.
#include "xmpp/stream/recent_ids.hpp"
#include <doctest/doctest.h>

using namespace std::chrono_literals;
using xmpp::stream::recent_ids;

TEST_CASE("recent ids: known for their life, forgotten after twice that") {
  for (auto begin : {base::time_point{}, base::time_point{1h}}) {
    recent_ids ids;
    CHECK_FALSE(ids.contains(7, begin));
    ids.insert(7, begin);
    CHECK(ids.contains(7, begin));
    CHECK(ids.contains(7, begin + recent_ids::life));
    CHECK_FALSE(ids.contains(8, begin + recent_ids::life));
    CHECK_FALSE(ids.contains(7, begin + 2 * recent_ids::life));
  }
}

TEST_CASE("recent ids: one that comes late in its generation has its whole life, too") {
  recent_ids ids;
  base::time_point now{1h};
  ids.insert(1, now);
  ids.insert(2, now + recent_ids::life - 1ms);
  CHECK(ids.contains(2, now + 2 * recent_ids::life - 2ms));
}

TEST_CASE("recent ids: of a flood the last ones are known") {
  recent_ids ids;
  base::time_point now{1h};
  for (std::uint64_t id = 1; id <= 5 * recent_ids::most; ++id)
    ids.insert(id, now);
  for (auto id = 4 * recent_ids::most + 1; id <= 5 * recent_ids::most; ++id)
    REQUIRE(ids.contains(id, now));
  CHECK_FALSE(ids.contains(3 * recent_ids::most, now));
}

TEST_CASE("recent ids: no time counts before all are back") {
  recent_ids ids;
  base::time_point now{1h};
  ids.insert(1, now);
  auto since = now + 10 * recent_ids::life; // until then somebody was away
  CHECK(ids.contains(1, since, since));
  CHECK(ids.contains(1, since + recent_ids::life, since));
  CHECK_FALSE(ids.contains(1, since + 2 * recent_ids::life, since));
}

TEST_CASE("recent ids: for a while behind one that came again the first of it is expected") {
  recent_ids ids;
  base::time_point now{1h};
  CHECK_FALSE(ids.may_be_overtaken(now));
  ids.overtake(now);
  CHECK(ids.may_be_overtaken(now + recent_ids::life));
  CHECK_FALSE(ids.may_be_overtaken(now + 2 * recent_ids::life));
}
