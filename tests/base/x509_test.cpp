// Certificates as values: what verifies, what does not, and why.
#include "base/x509.hpp"
#include <doctest/doctest.h>

using namespace base::x509;
using namespace std::chrono_literals;

namespace {
struct made {
  authority ca = make_authority("test authority", 24h);
  key own = key::generate();
  certificate leaf(std::chrono::seconds life = 1h, const std::string& names = "URI:covey-node:a,DNS:a.example,IP:127.0.0.1") const {
    return issue(ca, own, {"a", names, life});
  }
};
} // namespace

TEST_CASE_FIXTURE(made, "a leaf verifies with its authority, at both ends of TLS") {
  auto x = leaf();
  for (bool is_of_server : {true, false}) {
    auto found = verify(x.pem() + ca.own.pem(), {ca.own}, is_of_server);
    REQUIRE(found);
    CHECK(found->uris() == std::vector<std::string>{"covey-node:a"});
  }
  CHECK(x.is_of(own));
  CHECK_FALSE(x.is_of(key::generate()));
  CHECK(x.is_signed_by(ca.own));
  CHECK(x.has_host("a.example"));
  CHECK_FALSE(x.has_host("a")); // the subject's name is none of a host
  CHECK(x.name() == "a");
  CHECK(x.issuer_name() == "test authority");
  CHECK(x.lasts(59min));
  CHECK_FALSE(x.lasts(61min));
  CHECK(x.ends() > std::chrono::system_clock::now() + 59min);
  CHECK(x.fingerprint().size() == 32);
  CHECK(x.fingerprint() != ca.own.fingerprint());
}

TEST_CASE_FIXTURE(made, "what does not verify says why") {
  auto other = make_authority("test authority", 24h); // the same name, another key
  CHECK(verify("", {ca.own}, true).error() == verify_errc::missing);
  CHECK(verify("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", {ca.own}, true).error() == verify_errc::unreadable);
  CHECK(verify(leaf().pem(), {other.own}, true).error() == verify_errc::other_authority);
  CHECK(verify(leaf().pem(), {}, true).error() == verify_errc::other_authority);
  CHECK(verify(leaf().pem() + other.own.pem(), {ca.own}, true)); // what else it sends does not matter
  CHECK(verify(leaf(-1h).pem(), {ca.own}, true).error() == verify_errc::expired);
  auto self_made = issue({ca.own, own}, own, {"a", "URI:covey-node:a", 1h}); // signed by its own key
  CHECK(verify(self_made.pem(), {ca.own}, true).error() == verify_errc::other_authority);
  // a leaf is no authority
  auto below = issue({leaf(), own}, key::generate(), {"b", "URI:covey-node:b", 1h});
  CHECK_FALSE(verify(below.pem() + leaf().pem(), {ca.own}, true));
}

TEST_CASE_FIXTURE(made, "several authorities: an old one and its successor") {
  auto next = make_authority("test authority", 24h);
  CHECK(verify(leaf().pem(), {next.own, ca.own}, true));
  auto both = certificate::parse_all(next.own.pem() + ca.own.pem());
  CHECK(both.size() == 2);
  CHECK(verify(leaf().pem(), both, true));
}

TEST_CASE_FIXTURE(made, "keys and requests") {
  auto again = key::parse(own.pem());
  REQUIRE(again);
  CHECK(leaf().is_of(*again));
  CHECK_FALSE(key::parse("nothing"));
  CHECK_FALSE(key::parse(leaf().pem()));
  auto text = make_request(own, "a");
  auto asked = read_request(text);
  REQUIRE(asked);
  CHECK(issue(ca, *asked, {"a", "URI:covey-node:a", 1h}).is_of(own));
  CHECK_FALSE(read_request(""));
  CHECK_FALSE(read_request(leaf().pem()));
  // another key than the one that signed it: one bit of the body
  for (std::size_t at : {120u, 180u}) {
    auto changed = text;
    changed[at] = changed[at] == 'A' ? 'B' : 'A';
    CHECK_FALSE(read_request(changed));
  }
}

TEST_CASE("only URIs are URIs") {
  made m;
  CHECK(m.leaf(1h, "DNS:covey-node:a").uris().empty());
  CHECK(m.leaf(1h, "URI:one,URI:two").uris().size() == 2);
}
