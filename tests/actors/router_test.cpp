// The router's own answers: who is not there, who has no room, what the host is asked.
#include "actors/router.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include "storage/memory/engine.hpp"
#include "storage/tables.hpp"
#include <doctest/doctest.h>

using namespace actors;

namespace {
using lines = std::vector<std::string>;

/// A service that keeps what it gets, in words.
struct recorder final : modules::entity_machine {
  explicit recorder(lines& to) : got(to) {}
  void step(modules::entity_event& ev, base::time_point, modules::effects&) override {
    if (auto* in = std::get_if<modules::event::stanza>(&ev))
      got.push_back(xmpp::to_string(in->what));
  }
  bool is_idle() const override { return true; }
  lines& got;
};

node_settings small_limits() {
  node_settings s;
  s.entity_limits = {4, 64u << 10, 8, 128u << 10};
  s.idle_entities = 100;
  return s;
}

struct one_host {
  base::manual_clock clock;
  base::seeded_random random{1};
  node around{small_limits(), clock, random};
  net::loop loop{net::loop::time::manual};
  home h{around, 0, loop};
  storage::inline_store store{std::make_unique<storage::memory_engine>()};
  lines got; // what came back to me@b
  modules::responder kept;

  one_host() {
    loop.at_end_of_turn([this] { return h.end_of_turn(); });
    auto at = std::make_shared<host>();
    at->view.domain = *xmpp::parse_jid("b");
    at->store = &store;
    at->view.entities["me"] = [this] { return std::make_unique<recorder>(got); };
    auto serve = [&](const char* ns, modules::iq_handler f) { at->view.host_iqs[{ns, false}] = std::move(f); };
    serve("now", [](modules::iq_request&) { return modules::iq_reply::payload("<now/>"); });
    serve("error", [](modules::iq_request&) { return modules::iq_reply::error(xmpp::stanza_errc::gone); });
    serve("throws", [](modules::iq_request&) -> modules::iq_reply { throw std::runtime_error{"on purpose"}; });
    serve("later", [this](modules::iq_request& r) { return kept = r.later(), modules::iq_reply::later(); });
    around.put_host(std::move(at));
  }
  ~one_host() { base::log::flush(); }
  lines send(std::string_view xml, std::string_view to, std::string_view from = "me@b") {
    auto s = xmpp::stanza::from_xml(xml);
    s->from = *xmpp::parse_jid(from);
    s->to = *xmpp::parse_jid(to);
    h.as_current([&] { route(h, {s, {}}); });
    return settle();
  }
  lines settle() {
    for (int n = 0; n < 8; ++n) // a turn that only found the lane's work says that there was none
      loop.step(1'000);
    return std::exchange(got, {});
  }
  /// "type condition" of the one answer, or "none".
  std::string answer(std::string_view xml, std::string_view to) {
    auto all = send(xml, to);
    if (all.empty())
      return "none";
    CHECK(all.size() == 1);
    for (auto c : {"service-unavailable", "remote-server-not-found", "not-allowed", "gone", "internal-server-error", "resource-constraint"})
      if (all[0].find(std::string{"<"} + c + ' ') != std::string::npos)
        return c;
    return all[0].find("type='result'") != std::string::npos ? "result" : all[0];
  }
};

constexpr auto message = "<message id='m'><body>x</body></message>";
std::string get(std::string_view ns) { return "<iq type='get' id='q'><q xmlns='" + std::string{ns} + "'/></iq>"; }
} // namespace

TEST_CASE_FIXTURE(one_host, "router: what cannot go anywhere comes back, but no error for an error, none for presence") {
  struct row { const char* xml; const char* to; const char* answer; };
  for (auto& r : {row{message, "x@elsewhere.example", "remote-server-not-found"}, {message, "b", "service-unavailable"}, {message, "nobody@b", "service-unavailable"},
                  {message, "nobody@b/x", "service-unavailable"}, {"<message type='error' id='m'/>", "nobody@b", "none"}, {"<message type='error' id='m'/>", "b", "none"},
                  {"<presence/>", "nobody@b", "none"}, {"<presence type='subscribe'/>", "nobody@b", "none"}, {"<presence/>", "b", "none"},
                  {"<iq type='result' id='q'/>", "nobody@b", "none"}, {"<iq type='result' id='q'/>", "b", "none"}}) {
    CAPTURE(std::string{r.xml});
    CAPTURE(std::string{r.to});
    CHECK(answer(r.xml, r.to) == std::string{r.answer});
  }
  CHECK(answer(get("u"), "nobody@b") == "service-unavailable");
}

TEST_CASE_FIXTURE(one_host, "router: the host's handlers answer now, later, or fail") {
  CHECK(answer(get("now"), "b") == "result");
  CHECK(answer(get("unknown"), "b") == "service-unavailable");
  CHECK(answer("<iq type='set' id='q'><q xmlns='now'/></iq>", "b") == "not-allowed"); // the other verb
  CHECK(answer(get("error"), "b") == "gone");
  CHECK(answer(get("throws"), "b") == "internal-server-error");
  CHECK(answer(get("later"), "b") == "none");
  kept(std::string{"<done/>"});
  kept(std::string{"<twice/>"}); // the first counts
  auto late = settle();
  REQUIRE(late.size() == 1);
  CHECK(late[0].find("<done/>") != std::string::npos);
  CHECK(answer(get("later"), "b") == "none");
  kept = nullptr; // dropped unanswered: nobody waits for ever
  late = settle();
  REQUIRE(late.size() == 1);
  CHECK(late[0].find("<internal-server-error ") != std::string::npos);
}

TEST_CASE_FIXTURE(one_host, "router: an address without room refuses, answers get through") {
  auto busy = *xmpp::parse_jid("busy@b");
  auto& address = around.registry().charge_always(busy, 0, 1);
  for (int n = 0; n < 4; ++n)
    address.limit.charge_always(1);
  CHECK(answer(message, "busy@b") == "resource-constraint");
  CHECK(answer(get("u"), "busy@b") == "resource-constraint");
  CHECK(address.limit.messages() == 5); // what was refused is not charged
  CHECK(answer("<iq type='result' id='q'/>", "busy@b") == "none");
  for (int n = 0; n < 10; ++n)
    address.limit.charge_always(1);
  CHECK(answer("<message type='error' id='m'/>", "busy@b") == "none"); // beyond the hard limit: dropped
  CHECK(address.limit.messages() == 15);
  address.limit.release(15, 15);
}

TEST_CASE_FIXTURE(one_host, "router: too many addresses without a session refuse more, and are gone when they are void") {
  for (int n = 0; n < 200; ++n) {
    auto s = xmpp::stanza::from_xml(message);
    s->from = *xmpp::parse_jid("me@b");
    s->to = *xmpp::parse_jid("n" + std::to_string(n) + "@b");
    h.as_current([&] { route(h, {s, {}}); });
    CHECK(around.registry().idle_count(0) <= 100);
  }
  settle(); // the own address found no room for the first answers
  loop.skip_to_next_timer(loop.now() + std::chrono::seconds{1});
  settle();
  CHECK(around.registry().idle_count(0) <= 1);
  CHECK(answer(message, "n200@b") == "service-unavailable");
}
