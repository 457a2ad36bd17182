// XEP-0049: what is kept comes back, to its owner alone; limits and failures.
#include "tests/modules/account_fixture.hpp"

using namespace modules;
using namespace modules::testing;

namespace {
struct fixture : account_fixture {
  fixture() {
    values.numbers = {{"most", 3}, {"largest", 200}};
    start(make_private_xml());
  }
  std::string set(std::string_view inside) { return ask("set", "<query xmlns='jabber:iq:private'>" + std::string{inside} + "</query>"); }
  std::string get(std::string_view inside) { return ask("get", "<query xmlns='jabber:iq:private'>" + std::string{inside} + "</query>"); }
  static std::string query(std::string_view inside) { return "<query xmlns='jabber:iq:private'>" + std::string{inside} + "</query>"; }
};
} // namespace

TEST_CASE_FIXTURE(fixture, "private XML: kept by namespace and name; nothing is there at first") {
  CHECK(get("<storage xmlns='storage:bookmarks'/>") == query("<storage xmlns='storage:bookmarks'/>"));
  CHECK(set("<storage xmlns='storage:bookmarks'><conference jid='a@b' name='x &amp; y'/></storage>") == "");
  CHECK(get("<storage xmlns='storage:bookmarks'/>") == query("<storage xmlns='storage:bookmarks'><conference jid='a@b' name='x &amp; y'/></storage>"));
  CHECK(get("<storage xmlns='storage:other'/>") == query("<storage xmlns='storage:other'/>"));
  CHECK(get("<other xmlns='storage:bookmarks'/>") == query("<other xmlns='storage:bookmarks'/>"));
  CHECK(set("<storage xmlns='storage:bookmarks'>new</storage><a xmlns='urn:a'>b</a>") == ""); // several at once
  CHECK(get("<storage xmlns='storage:bookmarks'/>") == query("<storage xmlns='storage:bookmarks'>new</storage>"));
  CHECK(get("<a xmlns='urn:a'/>") == query("<a xmlns='urn:a'>b</a>"));
  CHECK(set("<p:a xmlns:p='urn:a' p:x='1'/>") == ""); // prefixes may change, what they mean does not
  CHECK(get("<a xmlns='urn:a'/>") == query("<a xmlns='urn:a' xmlns:p='urn:a' p:x='1'/>"));
  CHECK(is_at_rest());
}

TEST_CASE_FIXTURE(fixture, "private XML: its owner's alone") {
  for (auto type : {"get", "set"})
    CHECK(ask(type, query("<a xmlns='urn:a'>x</a>"), "other@example.org/r") == "forbidden");
}

TEST_CASE_FIXTURE(fixture, "private XML: what cannot be kept") {
  CHECK(get("") == "bad-request");
  CHECK(get("<a xmlns='urn:a'/><b xmlns='urn:b'/>") == "bad-request");
  CHECK(set("") == "not-acceptable");
  CHECK(set("<a/>") == "not-acceptable"); // the query's own namespace
  CHECK(set("<a xmlns=''/>") == "not-acceptable");
  CHECK(set("<a xmlns='urn:a'>" + std::string(200, 'x') + "</a>") == "not-acceptable");
  CHECK(ask("get", "<other xmlns='jabber:iq:private'><a xmlns='urn:a'/></other>") == "bad-request");
  std::string prefixes = "<query xmlns='jabber:iq:private'", attributes = "<a xmlns='urn:a'"; // 17 become 17 attributes more
  for (int n = 0; n < 17; ++n) {
    prefixes += " xmlns:p" + std::to_string(n) + "='urn:" + std::to_string(n) + "'";
    attributes += " p" + std::to_string(n) + ":x=''";
  }
  values.numbers["largest"] = 100'000;
  list.clear();
  start(make_private_xml());
  CHECK(ask("set", prefixes + '>' + attributes + "/></query>") == "not-acceptable");
}

TEST_CASE_FIXTURE(fixture, "private XML: so many elements, counted over restarts; empty ones cost nothing") {
  CHECK(set("<a xmlns='urn:1'>x</a><a xmlns='urn:2'>x</a>") == "");
  CHECK(set("<a xmlns='urn:3'>x</a><a xmlns='urn:4'>x</a>") == "resource-constraint");
  CHECK(get("<a xmlns='urn:3'/>") == query("<a xmlns='urn:3'/>")); // all or nothing
  restart();
  CHECK(set("<a xmlns='urn:3'>x</a>") == "");
  CHECK(set("<a xmlns='urn:4'>x</a>") == "resource-constraint");
  CHECK(set("<a xmlns='urn:3'>y</a>") == ""); // replaced
  CHECK(set("<a xmlns='urn:4'/>") == "");
  CHECK(set("<a xmlns='urn:3'/><a xmlns='urn:4'>x</a>") == "");
  CHECK(get("<a xmlns='urn:4'/>") == query("<a xmlns='urn:4'>x</a>"));
}

TEST_CASE_FIXTURE(fixture, "private XML: a store that is away says so, and nothing hangs") {
  engine.set_available(false);
  CHECK(get("<a xmlns='urn:a'/>") == "resource-constraint");
  CHECK(set("<a xmlns='urn:a'>x</a>") == "resource-constraint");
  CHECK(is_at_rest());
  engine.set_available(true);
  CHECK(set("<a xmlns='urn:a'>x</a>") == "");
  engine.set_available(false);
  CHECK(set("<a xmlns='urn:a'>y</a>") == "resource-constraint");
  engine.set_available(true);
  CHECK(get("<a xmlns='urn:a'/>") == query("<a xmlns='urn:a'>x</a>"));
}

TEST_CASE_FIXTURE(fixture, "private XML: where too many operations wait, the client is told") {
  has_room = false;
  CHECK(get("<a xmlns='urn:a'/>") == "resource-constraint");
  CHECK(set("<a xmlns='urn:a'>x</a>") == "resource-constraint");
}
