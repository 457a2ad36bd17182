// Who gets no link: the reason is seen on both sides, and nothing else is harmed.
#include "base/metrics.hpp"
#include "tests/cluster_rpc/nodes.hpp"
#include "tests/server/taken_port.hpp"

using namespace rpc_tests;
using wire::close_cause;
using wire::refusal_code;

namespace {
double refusals(const std::string& reason, const std::string& by) {
  auto all = base::metrics::values();
  auto i = all.find("covey_cluster_refusals_total{by=\"" + by + "\",reason=\"" + reason + "\"}");
  return i == all.end() ? 0 : i->second;
}

struct cluster_of_one {
  home h;
  folder files, other;
  ca authority;
  node b{h, files, authority, "b"};
  /// How a dial from `a` to b ends.
  wire::closing dialled(node& a, const std::string& who = {}) {
    auto link = a.dial(b, who);
    REQUIRE(h.until([&] { return a.closings.contains(link); }));
    CHECK(a.links.empty());
    return a.closings[link];
  }
};
} // namespace

TEST_CASE_FIXTURE(cluster_of_one, "the hello is wrong") {
  struct row {
    std::function<void(rpc::settings&)> change;
    refusal_code code;
    const char* text;
  };
  for (auto& r : {row{[](auto& s) { s.own.cluster = "other"; }, refusal_code::wrong_cluster, "cluster"},
                  row{[](auto& s) { s.own.version_min = 4, s.own.version_max = 9; }, refusal_code::wrong_version, "versions 1 to 3, \"a\" 4 to 9"},
                  row{[](auto& s) { s.own.version_min = s.own.version_max = 0; }, refusal_code::wrong_version, "\"a\" 0"},
                  row{[](auto& s) { s.own.address = "nowhere"; }, refusal_code::malformed, "address"}}) {
    CAPTURE(r.text);
    std::string reason{to_text(r.code)};
    auto ours = refusals(reason, "us"), theirs = refusals(reason, "peer");
    node a{h, files, authority, "a", r.change};
    auto how = dialled(a);
    CHECK(how.cause == close_cause::refused);
    CHECK(how.why.code == r.code);
    CHECK(how.why.text.find(r.text) != std::string::npos);
    CHECK(refusals(reason, "us") == ours + 1);
    CHECK(refusals(reason, "peer") == theirs + 1);
    CHECK(b.asked == 0);
  }
}

TEST_CASE_FIXTURE(cluster_of_one, "versions: the highest that both speak") {
  node a{h, files, authority, "a", [](auto& s) { s.own.version_min = 2, s.own.version_max = 2; }};
  a.dial(b);
  REQUIRE(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
  CHECK(a.version == 2);
  CHECK(b.version == 2);
}

TEST_CASE_FIXTURE(cluster_of_one, "the layer above refuses, at either end") {
  node a{h, files, authority, "a"};
  b.verdict = [](auto& peer) { return base::fail(wire::refusal{refusal_code::unwelcome, peer.node + " was declared dead"}); };
  auto how = dialled(a);
  CHECK(how.cause == close_cause::refused);
  CHECK(how.why == wire::refusal{refusal_code::unwelcome, "a was declared dead"});
  b.verdict = nullptr;
  a.verdict = [](auto&) { return base::fail(wire::refusal{refusal_code::unwelcome, "not you"}); };
  CHECK(dialled(a).cause == close_cause::refused_here);
  CHECK(b.links.empty());
  CHECK(b.connects == 0);
  a.verdict = nullptr;
  a.dial(b);
  CHECK(h.until([&] { return a.link_to("b") && b.link_to("a"); }));
}

TEST_CASE_FIXTURE(cluster_of_one, "a certificate of another authority, at either end") {
  ca strangers;
  node a{h, other, strangers, "a"};
  auto how = dialled(a); // the dialler looks first
  CHECK(how.cause == close_cause::bad_certificate);
  CHECK(how.text.find("another authority") != std::string::npos);
  // one that trusts b, but is not trusted by it
  auto its = strangers.issue(other, "c");
  other.write("c.ca.pem", strangers.own.own.pem() + authority.own.own.pem());
  node c{h, its, "c"};
  how = dialled(c);
  CHECK(how.cause == close_cause::refused);
  CHECK(how.why.code == refusal_code::wrong_certificate);
  CHECK(how.why.text.find("another authority") != std::string::npos);
}

TEST_CASE_FIXTURE(cluster_of_one, "a certificate that is over: the files are read at each dial") {
  node a{h, files, authority, "a"};
  auto fresh = folder::read(files.at("a.pem")), fresh_key = folder::read(files.at("a.key"));
  authority.issue(files, "a", -1h);
  auto how = dialled(a);
  CHECK(how.cause == close_cause::refused_here);
  CHECK(how.text.find("expired") != std::string::npos);
  files.write("a.pem", fresh);
  files.write("a.key", fresh_key);
  a.dial(b);
  REQUIRE(h.until([&] { return a.link_to("b"); }));
  CHECK_THROWS_WITH(node(h, authority.issue(other, "d", -1h), "d"), doctest::Contains("expired"));
}

TEST_CASE_FIXTURE(cluster_of_one, "a server whose certificate is replaced uses the new one without a restart") {
  node a{h, files, authority, "a"};
  authority.issue(files, "b", 1h, "somebody-else");
  auto is_seen = [&] { // gRPC looks once a second
    auto link = a.dial(b, "b");
    REQUIRE(h.until([&] { return a.closings.contains(link) || a.link_to("b"); }));
    if (a.link_to("b"))
      a.service->close(link, {refusal_code::leaving, ""});
    h.run_for(50ms);
    return a.closings[link].cause == close_cause::bad_certificate;
  };
  bool is = false;
  for (int i = 0; i < 60 && !is; ++i)
    is = is_seen();
  CHECK(is);
  CHECK(a.last.text.find("somebody-else") != std::string::npos);
}

TEST_CASE_FIXTURE(cluster_of_one, "the name in the hello must be the one in the certificate") {
  CHECK_THROWS_WITH(node(h, authority.issue(other, "a", 1h, "b"), "a"), doctest::Contains("is the certificate of the node b"));
  // one that says another name after it began
  node a{h, files, authority, "a"};
  auto lie = a.service->own();
  lie.node = "c";
  a.service->set_hello(lie);
  auto how = dialled(a);
  CHECK(how.cause == close_cause::refused_here); // it finds its own certificate wanting
  // who was dialled by name must be it
  a.service->set_hello([&] { auto own = lie; own.node = "a"; return own; }());
  how = dialled(a, "z");
  CHECK(how.cause == close_cause::bad_certificate);
  CHECK(how.text.find("\"z\" was dialled") != std::string::npos);
}

TEST_CASE_FIXTURE(cluster_of_one, "somebody with our own name, and ourselves") {
  auto how = dialled(b);
  CHECK(how.why.code == refusal_code::self);
  node twin{h, files, authority, "b", [](auto& s) { s.own.incarnation = 9; }};
  how = dialled(twin);
  CHECK(how.cause == close_cause::refused);
  CHECK(how.why.code == refusal_code::name_taken);
}

TEST_CASE("files that cannot be used are named") {
  home h;
  folder files;
  ca authority, strangers;
  auto good = authority.issue(files, "a");
  CHECK_THROWS_WITH(node(h, {files.at("none"), good.certificate, good.key}, "a"), doctest::Contains("none"));
  CHECK_THROWS_WITH(node(h, {good.authority, files.at("none"), good.key}, "a"), doctest::Contains("none"));
  CHECK_THROWS_WITH(node(h, {good.authority, good.certificate, files.at("none")}, "a"), doctest::Contains("none"));
  auto second = authority.issue(files, "b");
  CHECK_THROWS_WITH(node(h, {good.authority, good.certificate, second.key}, "a"), doctest::Contains("do not belong together"));
  files.write("other.pem", strangers.own.own.pem());
  CHECK_THROWS_WITH(node(h, {files.at("other.pem"), good.certificate, good.key}, "a"), doctest::Contains("another authority"));
  node taken{h, good, "a"};
  CHECK_THROWS_WITH(node(h, files, authority, "a", [&](auto& s) { s.listen = taken.address(); }), doctest::Contains("cannot be listened at"));
  auto key = base::x509::key::generate();
  auto nameless = base::x509::issue(authority.own, key, {"a", "DNS:a.example", 1h});
  CHECK_THROWS_WITH(node(h, {good.authority, files.write("n.pem", nameless.pem()), files.write("n.key", key.pem())}, "a"), doctest::Contains("names no node"));
}

TEST_CASE("dials that find nobody") {
  home h;
  folder files;
  ca authority;
  node a{h, files, authority, "a", [](auto& s) { s.limits.hello = 700ms; }};
  for (auto* bad : {"", "nonsense", "127.0.0.1:0", "127.0.0.1", ":5", "a b:5"}) {
    auto link = a.service->dial(bad, "");
    REQUIRE(h.until([&] { return a.closings.contains(link); }));
    CHECK(a.closings[link].cause == close_cause::unreachable);
  }
  auto link = a.service->dial("no-such-host.invalid:5269", "");
  auto nobody = a.service->dial("127.0.0.1:1", "");
  REQUIRE(h.until([&] { return a.closings.contains(link) && a.closings.contains(nobody); }));
  CHECK((a.closings[link].cause == close_cause::unreachable || a.closings[link].cause == close_cause::timeout));
  CHECK(a.closings[nobody].cause == close_cause::connection_refused);
}

TEST_CASE("a dial that is not answered can be ended, by whoever dialled and by the end of the node") {
  home h;
  folder files;
  ca authority;
  server_tests::taken_port silent; // takes connections and says nothing
  auto there = "127.0.0.1:" + std::to_string(silent.port);
  node a{h, files, authority, "a"};
  auto given_up = a.service->dial(there, "");
  h.run_for(200ms); // it has begun
  a.service->close(given_up, {refusal_code::leaving, "not wanted any more"});
  REQUIRE(h.until([&] { return a.closings.contains(given_up); }));
  CHECK(a.closings[given_up].cause == close_cause::refused_here);
  a.service->dial(there, "");
  h.run_for(200ms);
  auto began = std::chrono::steady_clock::now();
  a.service->stop();
  CHECK(std::chrono::steady_clock::now() - began < 2s);
}
