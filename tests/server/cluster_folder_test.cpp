// The cluster's folder: authority, certificates, tokens; and a join through a real node.
#include "server/cluster_folder.hpp"
#include "cluster/link_rules.hpp"
#include "cluster/rpc/join_client.hpp"
#include "tests/server/folder.hpp"
#include <doctest/doctest.h>
#include <sys/stat.h>

using namespace server;
using namespace std::chrono_literals;
using server_tests::folder;

namespace {
int mode_of(const std::string& file) {
  struct stat st{};
  REQUIRE(stat(file.c_str(), &st) == 0);
  return st.st_mode & 0777;
}
struct authority_here {
  folder disk;
  cluster_folder at{disk.at("cluster")};
  base::seeded_random random{1};
  base::manual_clock clock;
  authority_here() { REQUIRE(make_cluster_authority(at, "test")); }
  join_token token(std::chrono::seconds life = 1h) {
    auto t = make_token(at, "node1:5290", life, clock.wall(), random);
    REQUIRE(t);
    return *t;
  }
};
} // namespace

TEST_CASE_FIXTURE(authority_here, "an authority is made once, its key is its owner's alone") {
  CHECK(mode_of(at.path) == 0700);
  CHECK(mode_of(at.authority_key()) == 0600);
  CHECK(cluster_name(at) == "test");
  auto before = folder::read(at.authority());
  CHECK(make_cluster_authority(at, "test").error().what == cluster_errc::conflict);
  CHECK(folder::read(at.authority()) == before);
  for (auto* bad : {"", "A", "a b", "-"})
    CHECK(make_cluster_authority({disk.at("other")}, bad).error().what == cluster_errc::usage);
  CHECK(cluster_name({disk.at("other")}).error().what == cluster_errc::not_found);
}

TEST_CASE_FIXTURE(authority_here, "certificates of nodes; again is a renewal with the same key") {
  REQUIRE(issue_node_certificate(at, at, "a", {"node1.example.org", "192.0.2.1", "2001:db8::1"}));
  CHECK(mode_of(at.key()) == 0600);
  auto who = cluster::rpc::read_identity(at.files());
  REQUIRE(who);
  CHECK(who->node == "a");
  auto key = folder::read(at.key()), first = folder::read(at.certificate());
  REQUIRE(issue_node_certificate(at, at, "a", {}));
  CHECK(folder::read(at.key()) == key);
  CHECK(folder::read(at.certificate()) != first);
  cluster_folder to{disk.at("b")};
  REQUIRE(issue_node_certificate(at, to, "b", {}));
  CHECK(cluster::rpc::read_identity(to.files())->node == "b");
  // what is there of others stays
  CHECK(issue_node_certificate(at, to, "c", {}).error().what == cluster_errc::conflict);
  CHECK(cluster::rpc::read_identity(to.files())->node == "b");
  cluster_folder second{disk.at("second")};
  REQUIRE(make_cluster_authority(second, "other"));
  CHECK(issue_node_certificate(second, to, "b", {}).error().what == cluster_errc::conflict);
  CHECK(issue_node_certificate(to, to, "b", {}).error().what == cluster_errc::not_found); // no key of the authority
  for (auto* bad : {"", "A", "a,DNS:b"})
    CHECK(issue_node_certificate(at, {disk.at("c")}, bad, {}).error().what == cluster_errc::usage);
  for (auto* bad : {"", "a b", "x,URI:covey-node:y", "10.0.0.0/8"})
    CHECK(issue_node_certificate(at, {disk.at("c")}, "c", {bad}).error().what == cluster_errc::usage);
}

TEST_CASE_FIXTURE(authority_here, "a token survives being printed, and nothing else is one") {
  auto t = token();
  auto text = encode(t);
  CHECK(text.find_first_of("+/= ") == text.npos);
  auto back = parse_token(text);
  REQUIRE(back);
  CHECK(back->address == "node1:5290");
  CHECK(back->fingerprint == t.fingerprint);
  CHECK(back->secret == t.secret);
  CHECK(back->expires == t.expires);
  for (std::size_t n = 0; n < text.size() - 8; ++n)
    CHECK_FALSE(parse_token(text.substr(0, n)));
  for (auto& bad : {std::string{"covey1."}, text + "=", text + "/", "covey2." + text.substr(7), std::string(2'000, 'a')})
    CHECK_FALSE(parse_token(bad));
}

TEST_CASE_FIXTURE(authority_here, "a token is good once, and not for ever; its secret is nowhere on disk") {
  auto t = token();
  CHECK_FALSE(take_token(at, std::string(16, 'x'), clock.wall()));
  CHECK_FALSE(take_token(at, "../../ca.pem", clock.wall()));
  for (auto& e : std::filesystem::directory_iterator{at.tokens()}) {
    CHECK(mode_of(e.path().string()) == 0600);
    CHECK((e.path().string() + folder::read(e.path().string())).find(t.secret) == std::string::npos);
  }
  CHECK(take_token(at, t.secret, clock.wall()));
  CHECK_FALSE(take_token(at, t.secret, clock.wall()));
  auto late = token(10s);
  clock.advance(10s);
  CHECK_FALSE(take_token(at, late.secret, clock.wall()));
  for (int i = 0; i < 100; ++i)
    (void)token();
  CHECK(make_token(at, "node1:5290", 1h, clock.wall(), random).error().what == cluster_errc::conflict);
  clock.advance(1h);
  CHECK(make_token(at, "node1:5290", 1h, clock.wall(), random)); // those that are over went
  CHECK(make_token(at, "node1", 1h, clock.wall(), random).error().what == cluster_errc::usage);
  CHECK(make_token({disk.at("none")}, "node1:5290", 1h, clock.wall(), random).error().what == cluster_errc::not_found);
}

TEST_CASE_FIXTURE(authority_here, "a join from token to files, through a node") {
  struct silent final : cluster::wire::transport_events {
    base::result<void, cluster::wire::refusal> accept(const cluster::wire::hello&) override { return {}; }
    void connected(cluster::wire::link_id, const cluster::wire::hello&, std::uint32_t) override {}
    void received(cluster::wire::link_id, std::vector<std::string>) override {}
    void closed(cluster::wire::link_id, const cluster::wire::closing&) override {}
  } events;
  REQUIRE(issue_node_certificate(at, at, "a", {}));
  auto service = cluster::rpc::node_service::start(
      {"127.0.0.1:0", at.files(), {"test", "", 1, "", 1, 1}, {}, cluster_join_handler(at, [] { return std::vector<std::string>{"127.0.0.1:5290", "not an address"}; }, clock)},
      [](auto) {}, events);
  REQUIRE(service);
  auto address = "127.0.0.1:" + std::to_string((*service)->port());
  cluster_folder there{disk.at("there")};
  auto ask = [&](const join_token& t, const std::string& node) {
    auto key = provide_node_key(there);
    REQUIRE(key);
    return cluster::rpc::ask_for_certificate(address, t.fingerprint, {t.secret, node, "127.0.0.1:5290", base::x509::make_request(*key, node)});
  };
  auto t = token();
  CHECK_FALSE(ask(t, "a")); // the name of the node that signs; the token is still good
  auto got = ask(t, "b");
  REQUIRE(got);
  REQUIRE(keep_grant(there, *got));
  CHECK(cluster::rpc::read_identity(there.files())->node == "b");
  CHECK(folder::read(there.seeds()) == "127.0.0.1:5290\n");
  CHECK(cluster_name(there) == "test");
  CHECK_FALSE(std::filesystem::exists(there.authority_key()));
  auto again = ask(t, "b");
  REQUIRE_FALSE(again);
  CHECK(again.error().is_answered);
  CHECK(check_place(there, t.fingerprint, "c").error().what == cluster_errc::conflict);
  auto renewed = ask(token(), "b"); // a renewal, with the same key
  REQUIRE(renewed);
  CHECK(keep_grant(there, *renewed));
}
