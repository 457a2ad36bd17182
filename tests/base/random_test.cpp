// Randomness: the injected kind repeats, the system's does not.
#include "base/random.hpp"
#include <doctest/doctest.h>
#include <set>
#include <vector>

TEST_CASE("random: the same seed gives the same numbers, another seed others") {
  base::seeded_random a{7}, b{7}, c{8};
  std::vector<std::uint64_t> from_a, from_b, from_c;
  for (int k = 0; k < 10; ++k) {
    from_a.push_back(a.number());
    from_b.push_back(b.number());
    from_c.push_back(c.number());
  }
  CHECK(from_a == from_b);
  CHECK(from_a != from_c);
}

TEST_CASE("random: hexadecimal digits, twice as many as bytes") {
  base::secure_random r;
  std::set<std::string> seen;
  for (int k = 0; k < 1'000; ++k) {
    auto text = r.hex(16);
    CHECK(text.size() == 32);
    CHECK(text.find_first_not_of("0123456789abcdef") == text.npos);
    CHECK(seen.insert(text).second);
  }
  CHECK(r.hex(0).empty());
}

TEST_CASE("random: all of a buffer is filled, larger ones than the kernel gives at once too") {
  base::secure_random r;
  std::vector<std::uint8_t> bytes(100'000);
  r.fill(bytes);
  std::size_t values[256] = {};
  for (auto b : bytes)
    ++values[b];
  for (auto n : values)
    CHECK(n > 200); // about 390 each; an unfilled tail would show
  std::size_t zeros_at_end = 0;
  while (zeros_at_end < bytes.size() && bytes[bytes.size() - 1 - zeros_at_end] == 0)
    ++zeros_at_end;
  CHECK(zeros_at_end < 8);
}
