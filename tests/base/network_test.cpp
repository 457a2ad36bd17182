// Networks in the forms that operators write.
#include "base/network.hpp"
#include <doctest/doctest.h>

TEST_CASE("networks: what they contain, by prefix, in both families") {
  struct row { const char *network, *address; bool is_in; };
  for (auto& r : {row{"192.0.2.0/24", "192.0.2.255", true}, {"192.0.2.0/24", "192.0.3.0", false}, {"192.0.2.128/25", "192.0.2.127", false},
                  {"0.0.0.0/0", "203.0.113.9", true}, {"0.0.0.0/0", "2001:db8::1", false}, {"192.0.2.7", "192.0.2.7", true}, {"192.0.2.7", "192.0.2.6", false},
                  {"192.0.2.0/24", "::ffff:192.0.2.9", true}, {"2001:db8::/32", "2001:db8:1::", true}, {"2001:db8::/32", "2001:db9::", false},
                  {"2001:db8::/33", "2001:db8:8000::", false}, {"::/0", "::1", true}, {"::1", "::1", true}, {"fe80::/10", "fe80::1%eth0", true},
                  {"2001:db8::/48", "2001:db8::/64", true}, {"::/0", "nonsense", false}, {"::/0", "", false}}) {
    CAPTURE(r.network);
    CAPTURE(r.address);
    auto n = base::parse_network(r.network);
    REQUIRE(n.has_value());
    CHECK(n->contains(r.address) == r.is_in);
  }
}

TEST_CASE("networks: what is none") {
  for (auto bad : {"", "/", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.1/24", "2001:db8::1/64", "::/129", "localhost", "192.0.2", "192.0.2.0/24x", " 192.0.2.0/24"}) {
    CAPTURE(bad);
    CHECK_FALSE(base::parse_network(bad).has_value());
  }
}
