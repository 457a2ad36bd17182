// covey cluster and covey join as their operator meets them.
#include "tests/server/programs.hpp"
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace server_tests;
using nlohmann::json;

namespace {
struct machine {
  folder where;
  std::string config = where.write("covey.toml", "domain = \"localhost\"\ndata = \"" + where.at("data") + "\"\nrun = \"" + where.at("run") + "\"\n");
  outcome covey(const words& arguments) const {
    words all{COVEY_PROGRAM, "--config", config};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run(all);
  }
  json answer(const words& arguments, int code) const {
    auto all = arguments;
    all.push_back("--json");
    auto o = covey(all);
    CAPTURE(o.out);
    CAPTURE(o.err);
    CHECK(o.code == code);
    auto j = json::parse(o.out, nullptr, false);
    REQUIRE(j.is_object());
    CHECK(j["ok"] == (code == 0));
    return j;
  }
};
} // namespace

TEST_CASE("an authority, certificates and tokens, without a server") {
  machine m;
  m.answer({"cluster", "token"}, 4);
  m.answer({"cluster", "issue-cert", "b"}, 4);
  m.answer({"cluster", "init-ca", "Not A Name"}, 2);
  auto made = m.answer({"cluster", "init-ca", "test", "--node", "a", "--address", "192.0.2.1"}, 0);
  CHECK(made["cluster"] == "test");
  CHECK(made["node"] == "a");
  CHECK(made["authority"] == m.where.at("data/cluster/ca.pem"));
  CHECK(std::filesystem::exists(m.where.at("data/cluster/node.pem")));
  m.answer({"cluster", "init-ca", "test"}, 5);
  auto issued = m.answer({"cluster", "issue-cert", "b"}, 0);
  CHECK(issued["certificate"] == m.where.at("data/cluster/issued/b/node.pem"));
  CHECK(std::filesystem::exists(m.where.at("data/cluster/issued/b/node.key")));
  m.answer({"cluster", "issue-cert", "b", "--address", "not a host"}, 2);
  m.answer({"cluster", "issue-cert", "c", "--out", m.where.at("data/cluster/issued/b")}, 5);
  auto token = m.answer({"cluster", "token", "--address", "127.0.0.1:1"}, 0);
  CHECK(token["token"].get<std::string>().starts_with("covey1."));
  CHECK(token["address"] == "127.0.0.1:1");
  CHECK(token["expires"].get<std::int64_t>() > std::time(nullptr) + 3'500);
  m.answer({"cluster", "token", "--address", "127.0.0.1:1", "--life", "0s"}, 2);
  m.answer({"cluster", "token", "--address", "nowhere"}, 2);
  auto text = m.covey({"cluster", "token", "--address", "127.0.0.1:1"});
  CHECK(text.out.starts_with("covey1.")); // alone on standard output: for scripts
  CHECK(text.out.find('\n') == text.out.size() - 1);
  CHECK(text.err.find("good once") != std::string::npos);

  machine other;
  other.answer({"join", "nonsense"}, 2);
  other.answer({"join", token["token"], "--node", "B"}, 2);
  auto failed = other.answer({"join", token["token"], "--node", "b", "--address", "127.0.0.1:2"}, 3); // nobody listens there
  CHECK(failed["text"].get<std::string>().find("127.0.0.1:1") != std::string::npos);
  m.answer({"join", token["token"], "--node", "z"}, 5); // it is a node already
}
