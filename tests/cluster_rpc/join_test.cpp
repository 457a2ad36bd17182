// Certificates by token, over the wire; what the token itself is worth is tested in tests/server/cluster_folder_test.cpp.
#include "cluster/rpc/join_client.hpp"
#include "tests/cluster_rpc/wild_client.hpp"
#include <atomic>

using namespace rpc_tests;

namespace {
struct seed {
  home h;
  folder files;
  ca authority;
  std::atomic<int> asked{0};
  /// Signs for whoever says "good".
  base::result<rpc::join_grant, std::string> sign(const rpc::join_request& r) {
    ++asked;
    auto key = base::x509::read_request(r.request);
    if (r.secret != "good" || !key)
      return base::fail(std::string{"no"});
    auto x = base::x509::issue(authority.own, *key, {r.node, "URI:" + wire::node_uri(r.node), 1h});
    return rpc::join_grant{x.pem(), authority.own.own.pem(), "test", {"seed:5290", r.address}};
  }
  node b{h, files, authority, "b", [this](rpc::settings& s) { s.join = [this](auto& r) { return sign(r); }; }};
  base::x509::key key = base::x509::key::generate();
  rpc::join_request request{"good", "n", "127.0.0.1:9", base::x509::make_request(key, "n")};
  std::string print() const { return authority.own.own.fingerprint(); }
};
} // namespace

TEST_CASE_FIXTURE(seed, "a node without a certificate gets one, and is linked with it") {
  auto got = rpc::ask_for_certificate(b.address(), print(), request);
  REQUIRE(got);
  CHECK(got->cluster == "test");
  CHECK(got->seeds == std::vector<std::string>{"seed:5290", "127.0.0.1:9"});
  CHECK(got->authority == authority.own.own.pem());
  node n{h, {files.write("n.ca", got->authority), files.write("n.pem", got->certificate + got->authority), files.write("n.key", key.pem())}, "n"};
  n.dial(b, "b");
  CHECK(h.until([&] { return n.link_to("b") && b.link_to("n"); }));
}

TEST_CASE_FIXTURE(seed, "whatever is wrong, the answer is the same, and takes as long") {
  auto refused = [&](auto change) {
    auto r = request;
    change(r);
    auto began = std::chrono::steady_clock::now();
    auto got = rpc::ask_for_certificate(b.address(), print(), r);
    auto took = std::chrono::steady_clock::now() - began;
    REQUIRE_FALSE(got);
    CHECK(got.error().is_answered);
    CHECK(took > 900ms);
    CHECK(took < 2s);
    return got.error().text;
  };
  std::vector<std::future<std::string>> all;
  all.push_back(std::async(std::launch::async, refused, [](auto& r) { r.secret = "wrong"; }));
  all.push_back(std::async(std::launch::async, refused, [](auto& r) { r.request = "none"; }));
  all.push_back(std::async(std::launch::async, refused, [](auto& r) { r.node = "NO NAME"; }));
  all.push_back(std::async(std::launch::async, refused, [](auto& r) { r.request.assign(5'000, 'x'); }));
  auto first = all[0].get();
  CHECK(first.find("the token is not good") != std::string::npos);
  for (std::size_t i = 1; i < all.size(); ++i)
    CHECK(all[i].get() == first);
  CHECK(asked == 2); // the others did not get so far
}

TEST_CASE_FIXTURE(seed, "who has not the authority that the token names gets no secret") {
  auto got = rpc::ask_for_certificate(b.address(), base::x509::make_authority("other", 1h).own.fingerprint(), request);
  REQUIRE_FALSE(got);
  CHECK_FALSE(got.error().is_answered);
  CHECK(got.error().text.find("not the one that the token names") != std::string::npos);
  CHECK(asked == 0);
  auto nobody = rpc::ask_for_certificate("127.0.0.1:1", print(), request);
  REQUIRE_FALSE(nobody);
  CHECK_FALSE(nobody.error().is_answered);
  node closed{h, files, authority, "c"}; // where nobody joins
  auto no = rpc::ask_for_certificate(closed.address(), print(), request);
  REQUIRE_FALSE(no);
  CHECK(no.error().is_answered);
}

TEST_CASE_FIXTURE(seed, "guessing is slow: ten at once, then two a second") {
  std::vector<std::future<bool>> all;
  for (int i = 0; i < 30; ++i)
    all.push_back(std::async(std::launch::async, [&] {
      auto r = request;
      r.secret = "wrong";
      auto got = rpc::ask_for_certificate(b.address(), print(), r);
      return !got && got.error().is_answered;
    }));
  int answered = 0;
  for (auto& a : all)
    answered += a.get() ? 1 : 0;
  CHECK(answered >= 10); // the rest had no place at the door
  CHECK(asked >= 8);
  CHECK(asked <= 14);
}

TEST_CASE_FIXTURE(seed, "stop while somebody waits for his refusal") {
  auto waits = std::async(std::launch::async, [&] {
    auto r = request;
    r.secret = "wrong";
    return rpc::ask_for_certificate(b.address(), print(), r).has_value();
  });
  REQUIRE(h.until([&] { return asked == 1; }));
  auto began = std::chrono::steady_clock::now();
  b.service->stop();
  CHECK(std::chrono::steady_clock::now() - began < 900ms);
  CHECK_FALSE(waits.get());
}
