// XEP-0054 and XEP-0153: who may read and write a vCard, and what presence says of its photo.
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
const std::string abc = "a9993e364706816aba3e25717850c26c9cd0d89d";
const std::string with_photo = "<vCard xmlns='vcard-temp'><FN>Me</FN><PHOTO><BINVAL>YWJj</BINVAL></PHOTO></vCard>";

struct fixture : account_fixture {
  fixture() {
    values.numbers = {{"largest", 1'000}};
    start(make_vcard());
    join(1, "pc");
    join(2, "phone", false);
  }
  /// The presence as it goes out.
  std::string say_presence(std::string_view xml) {
    xmpp::delivery d{stanza(xml, "me@example.org/pc", "me@example.org"), {}};
    effects out;
    stanza_sent ev{d, *this, out};
    CHECK(view.sent.run(ev).passes());
    return std::string{d.what->bytes()};
  }
  static std::string update(std::string_view photo) {
    return "<presence><x xmlns='vcard-temp:x:update'>" + std::string{photo} + "</x></presence>";
  }
};
} // namespace

TEST_CASE_FIXTURE(fixture, "vcard: the owner writes, everybody reads") {
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == "<vCard xmlns='vcard-temp'/>");
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>", "other@far.example/r") == "service-unavailable");
  CHECK(ask("set", with_photo, "other@far.example/r") == "forbidden");
  CHECK(ask("set", with_photo) == "");
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>", "other@far.example/r") == with_photo);
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == with_photo);
  CHECK(ask("set", "<vCard xmlns='vcard-temp'/>") == ""); // emptied
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == "<vCard xmlns='vcard-temp'/>");
  CHECK(ask("get", "<other xmlns='vcard-temp'/>") == "bad-request");
  CHECK(ask("set", "<other xmlns='vcard-temp'/>") == "bad-request");
  CHECK(is_at_rest());
}

TEST_CASE_FIXTURE(fixture, "vcard: too large, and a store that is away") {
  CHECK(ask("set", "<vCard xmlns='vcard-temp'><FN>" + std::string(1'000, 'x') + "</FN></vCard>") == "not-acceptable");
  engine.set_available(false);
  CHECK(ask("set", with_photo) == "resource-constraint");
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == "resource-constraint");
  CHECK(said.empty());
  CHECK(is_at_rest());
  engine.set_available(true);
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == "<vCard xmlns='vcard-temp'/>");
}

TEST_CASE_FIXTURE(fixture, "vcard: presence says the photo that is kept") {
  CHECK(say_presence("<presence/>") == "<presence/>"); // there never was one
  CHECK(say_presence("<presence><x xmlns='vcard-temp:x:update'/></presence>") == "<presence><x xmlns='vcard-temp:x:update'/></presence>");
  CHECK(say_presence(update("<photo>0000</photo>")) == update("<photo/>"));
  ask("set", with_photo);
  for (auto claimed : {"<presence/>", "<presence><x xmlns='vcard-temp:x:update'/></presence>"})
    CHECK(say_presence(claimed) == update("<photo>" + abc + "</photo>"));
  CHECK(say_presence(update("<photo>0000</photo>")) == update("<photo>" + abc + "</photo>"));
  CHECK(say_presence("<presence type='unavailable'/>") == "<presence type='unavailable'/>");
  restart();
  CHECK(say_presence("<presence/>") == update("<photo>" + abc + "</photo>"));
  ask("set", "<vCard xmlns='vcard-temp'><FN>Me</FN></vCard>");
  restart();
  CHECK(say_presence("<presence/>") == update("<photo/>")); // contacts may still show the old one
}

TEST_CASE_FIXTURE(fixture, "vcard: a new photo is told at once, by each available resource, once") {
  ask("set", with_photo);
  REQUIRE(said.size() == 1);
  CHECK(said[0].find("<photo>" + abc + "</photo>") != std::string::npos);
  CHECK(said[0].find("from='me@example.org/pc'") != std::string::npos);
  ask("set", with_photo);
  CHECK(said.size() == 1);
  ask("set", "<vCard xmlns='vcard-temp'><FN>Me</FN></vCard>");
  REQUIRE(said.size() == 2);
  CHECK(said[1].find("<photo/>") != std::string::npos);
  ask("set", "<vCard xmlns='vcard-temp'><FN>You</FN></vCard>");
  CHECK(said.size() == 2);
}

TEST_CASE_FIXTURE(fixture, "vcard: where too many operations wait, the owner is told") {
  has_room = false;
  CHECK(ask("set", with_photo) == "resource-constraint");
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>") == "resource-constraint");
  CHECK(ask("get", "<vCard xmlns='vcard-temp'/>", "other@far.example/r") == "service-unavailable"); // it does not queue
}
