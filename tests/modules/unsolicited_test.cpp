// Unsolicited messages: who passes, and for how long whom one wrote to does.
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
struct fixture : account_fixture {
  fixture() {
    clock.advance(std::chrono::hours{1});
    values.numbers = {{"remember", 60'000}};
    start(make_unsolicited());
    contacts = {{jid("friend@far.example"), {}}};
  }
};
constexpr auto hello = "<message type='chat'><body>hello</body></message>";
} // namespace

TEST_CASE_FIXTURE(fixture, "unsolicited messages: contacts, the account itself, its server and the administrators pass, nobody else") {
  for (auto from : {"friend@far.example/any", "me@example.org/phone", "example.org", "admin@example.org/pc"})
    CHECK(receive(hello, from) == "pass");
  for (auto from : {"stranger@far.example/x", "other@example.org/x", "far.example", "friend@far.exampl"})
    CHECK(receive(hello, from) == "service-unavailable");
}

TEST_CASE_FIXTURE(fixture, "unsolicited messages: only messages, and not those that somebody asked for") {
  for (auto xml : {"<message type='groupchat'><body>x</body></message>", "<message type='error'/>", "<presence type='subscribe'/>",
                   "<presence/>", "<iq type='get' id='1'><q xmlns='x'/></iq>"})
    CHECK(receive(xml, "stranger@far.example/x") == "pass");
  for (auto xml : {"<message/>", "<message type='headline'/>", "<message type='normal'/>"})
    CHECK(receive(xml, "stranger@far.example/x") == "service-unavailable");
}

TEST_CASE_FIXTURE(fixture, "unsolicited messages: who was written to may answer for a while") {
  CHECK(enter(hello, "shop@far.example/desk") == "pass");
  CHECK(enter("<presence/>", "room@rooms.example/nick") == "pass");
  CHECK(enter("<presence type='subscribe'/>", "a@far.example") == "pass");
  CHECK(receive(hello, "shop@far.example/other") == "pass");
  CHECK(receive(hello, "room@rooms.example/nick") == "pass");
  CHECK(receive(hello, "a@far.example") == "service-unavailable"); // once it is a contact it may
  clock.advance(std::chrono::seconds{59});
  CHECK(receive(hello, "shop@far.example/other") == "pass");
  clock.advance(std::chrono::seconds{121});
  CHECK(receive(hello, "shop@far.example/other") == "service-unavailable");
}

TEST_CASE_FIXTURE(fixture, "unsolicited messages: what is remembered is bounded") {
  for (int n = 0; n < 400'000; ++n)
    (void)enter(hello, "u" + std::to_string(n) + "@far.example");
  int known = 0;
  for (int n = 0; n < 400'000; n += 100)
    known += receive(hello, "u" + std::to_string(n) + "@far.example") == "pass";
  CHECK(known < 2'700); // 2 x 131,072 of 400,000
  CHECK(known > 1'200);
}
