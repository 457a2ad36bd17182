// Rows, parcels and a pair of nodes without a network, as the tests of the cluster machines want them.
#pragma once
#include "cluster/codec.hpp"
#include "cluster/mesh.hpp"
#include "tests/support/made.hpp"

namespace cluster_tests {

using namespace std::chrono_literals;
using covey_tests::jid;

inline cluster::row session_row(std::string_view full, std::uint64_t session, std::uint64_t clock, std::uint32_t epoch = 0) {
  cluster::row r;
  r.name = jid(full);
  r.session = session;
  r.clock = clock;
  r.epoch = epoch;
  r.ref = session * 10;
  r.reactor = static_cast<std::uint16_t>(session % 4);
  return r;
}

inline cluster::parcel make_parcel(std::uint32_t number, bool needs_credit = true, std::uint64_t order = 1, bool has_completion = true) {
  cluster::parcel p;
  p.what.what = covey_tests::stanza("<message id='m" + std::to_string(number) + "'><body>x</body></message>", "a@b/c", "d@e");
  p.needs_credit = needs_credit;
  p.has_completion = has_completion;
  p.order = order;
  if (has_completion)
    p.what.what->completion = {7, number, 0, 0};
  return p;
}

inline std::string id_of(const cluster::parcel& p) { return std::string{p.what.what->id()}; }

/// Through bytes, as on the wire.
inline cluster::frame sent(const cluster::frame& f) {
  auto got = cluster::decode(cluster::encode(f));
  REQUIRE(got.has_value());
  return *got;
}

} // namespace cluster_tests
