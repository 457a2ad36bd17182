// Keys of TLS tickets: rotation with overlap on virtual time.
#include "net/ticket_keys.hpp"
#include <doctest/doctest.h>
#include <set>

using namespace std::chrono_literals;

TEST_CASE("a ticket's key is new for one rotation, known for two, then gone") {
  base::seeded_random random{1};
  net::ticket_keys keys{random, 10min};
  base::time_point now{1h};
  CHECK_FALSE(keys.find(0, now));
  auto first = keys.current(now);
  CHECK(keys.current(now + 9min).id == first.id);
  CHECK(keys.find(first.id, now + 9min)->is_current);
  auto second = keys.current(now + 10min);
  CHECK(second.id != first.id);
  CHECK(second.cipher != first.cipher);
  CHECK(second.mac != first.mac);
  CHECK(second.cipher != second.mac);
  auto old = keys.find(first.id, now + 19min);
  REQUIRE(old);
  CHECK_FALSE(old->is_current);
  CHECK(old->with.cipher == first.cipher);
  CHECK_FALSE(keys.find(first.id, now + 20min));
  CHECK(keys.find(second.id, now + 20min)); // nobody asked for a new one: old, but known
  CHECK_FALSE(keys.find(second.id, now + 20min)->is_current);
  CHECK_FALSE(keys.find(second.id, now + 30min));
  CHECK_FALSE(keys.find(first.id ^ 1, now));
  std::set<std::uint64_t> ids;
  for (int i = 0; i < 100; ++i)
    ids.insert(keys.current(now + i * 10min).id);
  CHECK(ids.size() == 100);
}

TEST_CASE("tickets: keys that nodes share are taken instead of own ones, which are known until they are old") {
  base::seeded_random random{1};
  net::ticket_keys keys{random, 10min}, other{random, 10min};
  base::time_point now{1h};
  auto own = keys.current(now);
  net::ticket_keys::key a, b;
  a.id = 7;
  b.id = 8;
  b.cipher[0] = 9;
  for (auto* k : {&keys, &other})
    k->share({a, b});
  CHECK(keys.current(now).id == 7);
  CHECK(keys.find(7, now)->is_current);
  CHECK_FALSE(keys.find(8, now)->is_current); // a new ticket is due
  CHECK(other.find(8, now)->with.cipher[0] == 9);
  REQUIRE(keys.find(own.id, now));
  CHECK_FALSE(keys.find(own.id, now)->is_current);
  CHECK_FALSE(keys.find(own.id, now + 20min));
  keys.share({b});
  CHECK(keys.find(8, now)->is_current);
  CHECK_FALSE(keys.find(7, now));
}
