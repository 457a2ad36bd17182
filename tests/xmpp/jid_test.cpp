// JIDs by the profile of docs/jid.md: what is prepared how, what is refused, and the pool and the cache.
#include "xmpp/jid.hpp"
#include <doctest/doctest.h>
#include <thread>

using xmpp::jid_errc;
using xmpp::make_jid;
using xmpp::parse_jid;

namespace {
std::string full(std::string_view text) {
  auto j = parse_jid(text);
  return j ? std::string{(*j)->full()} : "refused";
}
} // namespace

TEST_CASE("jid: prepared parts") {
  CHECK(full("alice@example.org") == "alice@example.org");
  CHECK(full("ALICE@Example.ORG/Home") == "alice@example.org/Home"); // the resource keeps its case
  CHECK(full("example.org") == "example.org");
  CHECK(full("example.org.") == "example.org"); // RFC 7622 section 3.2
  CHECK(full("a@b/c@d/e") == "a@b/c@d/e");      // only the first separators count
  CHECK(full("a@127.0.0.1") == "a@127.0.0.1");
  CHECK(full("a@[::1]") == "a@[::1]");
  CHECK(full("J\xc3\x9cRGEN@b\xc3\xbc" "cher.example/\xf0\x9f\x98\x80") == "j\xc3\xbcrgen@b\xc3\xbc" "cher.example/\xf0\x9f\x98\x80");
  CHECK(full("a@xn--bcher-kva.example") == "a@b\xc3\xbc" "cher.example"); // one spelling of a domain
  CHECK(full("\xce\xa3\xcf\x83@b") == full("\xcf\x83\xce\xa3@b"));        // case folding
  auto j = *parse_jid("alice@example.org/x");
  CHECK(j->local() == "alice");
  CHECK(j->domain() == "example.org");
  CHECK(j->resource() == "x");
  CHECK(j->bare() == "alice@example.org");
  CHECK_FALSE(j->is_bare());
  CHECK(xmpp::bare_of(j)->full() == "alice@example.org");
  CHECK(xmpp::domain_of(*j)->full() == "example.org");
  CHECK(j->hash() == (*parse_jid("alice@example.org/y"))->hash());
}

TEST_CASE("jid: refused") {
  struct bad { std::string_view text; jid_errc why; };
  for (auto [text, why] : std::initializer_list<bad>{
           {"", jid_errc::empty}, {"@b", jid_errc::empty}, {"a@", jid_errc::empty}, {"a@b/", jid_errc::empty}, {"/r", jid_errc::empty},
           {"a b@c", jid_errc::bad_local}, {"a\"b@c", jid_errc::bad_local}, {"a&b@c", jid_errc::bad_local}, {"a'b@c", jid_errc::bad_local},
           {"a:b@c", jid_errc::bad_local}, {"a<b@c", jid_errc::bad_local}, {"a\x01@c", jid_errc::bad_local}, {"a\x7f@c", jid_errc::bad_local},
           {"a@b c", jid_errc::bad_domain}, {"a@b@c", jid_errc::bad_domain}, {"a@.b", jid_errc::bad_domain}, {"a@b..c", jid_errc::bad_domain},
           {"a@b/\x01", jid_errc::bad_resource}, {"a@[zz]", jid_errc::bad_domain}, {"\xc3(@b", jid_errc::bad_utf8}}) {
    CAPTURE(text);
    auto j = parse_jid(text);
    REQUIRE_FALSE(j);
    CHECK(j.error() == why);
  }
}

TEST_CASE("jid: a full-width separator never becomes a real one after preparation") {
  CHECK(full("alice\xef\xbc\xa0" "evil@b") == "refused"); // U+FF20
  CHECK(full("alice\xef\xbc\x8f" "evil@b") == "refused"); // U+FF0F in the local part
}

TEST_CASE("jid: never cut, refused when too long (CVE-2015-2058)") {
  std::string longest(1'023, 'a'), longer(1'024, 'a');
  CHECK(full(longest + "@b") == longest + "@b");
  CHECK(parse_jid(longer + "@b").error() == jid_errc::too_long);
  CHECK(full("a@b/" + longest) == "a@b/" + longest);
  CHECK(parse_jid("a@b/" + longer).error() == jid_errc::too_long);
  CHECK(parse_jid("a@" + longer).error() == jid_errc::too_long);
}

TEST_CASE("jid: from parts") {
  CHECK((*make_jid("Alice", "B.example"))->full() == "alice@b.example");
  CHECK(make_jid("a@b", "c").error() == jid_errc::bad_local); // split before, so it stays one part
  CHECK(make_jid("a", "").error() == jid_errc::empty);
  auto bare = *parse_jid("a@b");
  CHECK((*xmpp::with_resource(*bare, "R"))->full() == "a@b/R");
  CHECK(xmpp::with_resource(*bare, "").error() == jid_errc::empty);
  CHECK((*parse_jid("a@b/it's"))->needs_escape());
  CHECK_FALSE(bare->needs_escape());
}

TEST_CASE("jid: the cache gives the same as parsing, whatever the spelling") {
  xmpp::jid_cache cache;
  for (int round = 0; round < 3; ++round)
    for (int n = 0; n < 20'000; ++n) {
      auto raw = "User" + std::to_string(n) + "@Example.org/r";
      auto j = cache.find(raw);
      REQUIRE(j);
      REQUIRE(j->full() == "user" + std::to_string(n) + "@example.org/r");
    }
  CHECK_FALSE(cache.find("a b@c"));
  CHECK_FALSE(cache.find(""));
}

TEST_CASE("jid: pooled ones are shared while somebody holds them, on any thread") {
  auto a = xmpp::pooled(*parse_jid("pool@example.org/x")), b = xmpp::pooled(*parse_jid("pool@example.org"));
  CHECK(a.get() == b.get());
  CHECK(a->full() == "pool@example.org");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int n = 0; n < 20'000; ++n) {
        auto j = xmpp::pooled(*parse_jid("p" + std::to_string(n % 7) + "@example.org"));
        if (j->local().size() != 2)
          std::abort();
      }
    });
  for (auto& t : threads)
    t.join();
}

TEST_CASE("jid: one spelling for each domain") {
  CHECK(full("a@XN--BCHER-KVA.example") == full("a@b\xc3\xbc" "cher.example")); // A-labels in any case
  CHECK(full("a@B\xc3\x9c" "CHER.example") == full("a@b\xc3\xbc" "cher.example"));
  CHECK(full("a@example\xe3\x80\x82org") == "a@example.org");  // an ideographic full stop
  CHECK(full("a@example.org\xe3\x80\x82") == "a@example.org"); // also as the final dot
  CHECK(full("a@stra\xc3\x9f" "e.example") == "a@stra\xc3\x9f" "e.example"); // not transitional: sharp s stays
  CHECK(full("a@[0:0::1]") == "a@[::1]");
  CHECK(full("a@[FE80::1]") == "a@[fe80::1]");
  CHECK(full("a@ab--c.example") == "a@ab--c.example");
  CHECK(full("a@ab--c.b\xc3\xbc" "cher.example") == "a@ab--c.b\xc3\xbc" "cher.example");
  for (auto bad : {"a@xn--", "a@xn--xn--x-b-nbe", "a@xn--a", "a@xn--\xc3\xa4", "a@-b", "a@b-", "a@b.-c.d", "a@[::1", "a@[]", "a@[1.2.3.4]", "a@[::1%1]", "a@b..", "a@.", "a@..",
                   "a@\xef\xbc\xa0", "a@b\xef\xbc\x8f" "c", "a@b c", "a@b:5222", "a@b?c", "a@\xff.b"}) {
    CAPTURE(bad);
    CHECK(full(bad) == "refused");
  }
  CHECK(full("a@" + std::string(63, 'b') + ".c") == "a@" + std::string(63, 'b') + ".c");
  CHECK(full("a@" + std::string(64, 'b') + ".c") == "refused");
}

TEST_CASE("jid: what is mapped to nothing is no name") {
  CHECK(parse_jid("\xc2\xad@b").error() == jid_errc::empty); // a soft hyphen
  CHECK(parse_jid("a@b/\xc2\xad").error() == jid_errc::empty);
  CHECK(full("a@\xc2\xad") == "refused");
  CHECK(full("a\xc2\xad" "b@c") == "ab@c");
}

TEST_CASE("jid: nodeprep and resourceprep") {
  CHECK(full("stra\xc3\x9f" "e@b") == "strasse@b"); // folded in a local part
  CHECK(full("\xef\xac\x81@b") == "fi@b");          // a ligature, by NFKC
  CHECK(full("a@b/\xef\xac\x81") == "a@b/fi");
  CHECK(full("a@b/ x ") == "a@b/ x ");
  CHECK(full("a@b/\xc3\x84") == "a@b/\xc3\x84");         // a resource keeps its case
  CHECK(full("\xf0\x9f\x98\x80@b") == "\xf0\x9f\x98\x80@b"); // unassigned in Unicode 3.2
  for (auto bad : {"\xd7\x90" "a@b", "a\xe2\x80\x8e" "b@c", "a\xe3\x80\x80" "b@c", "a@b/\xe2\x80\xa8", "a@b/\xd7\x90" "a", "a@b/x\xc2\x80", "a@b/\xff", "\xed\xa0\x80@b"}) {
    CAPTURE(bad);
    CHECK(full(bad) == "refused");
  }
}

TEST_CASE("jid: preparing twice changes nothing") {
  for (auto text : {"J\xc3\x9cRGEN@B\xc3\x9c" "CHER.example/\xef\xac\x81", "\xe2\x84\xa6@b/\xe2\x84\xa6", "\xcd\xba" "a@b/\xcd\xba", "A@[::FFFF:1.2.3.4]/x"}) {
    CAPTURE(text);
    auto once = parse_jid(text);
    if (once)
      CHECK(full((*once)->full()) == (*once)->full());
  }
}

TEST_CASE("jid: the cache reads attributes as they are written") {
  xmpp::jid_cache cache;
  for (int round = 0; round < 2; ++round) {
    CHECK(cache.find("a@b/Tom &amp; Jerry&apos;s")->resource() == "Tom & Jerry's");
    CHECK(cache.find("a&#64;b/&lt;")->full() == "a@b/<");
    CHECK_FALSE(cache.find("a&amp;b@c"));
    auto longest = "a@b/" + std::string(1'000, 'r');
    CHECK(cache.find(longest)->full() == longest);
  }
}

TEST_CASE("jid: a pooled one leaves with its last holder") {
  const void* first = nullptr;
  {
    auto a = xmpp::pooled(*parse_jid("leaves@example.org"));
    first = a.get();
    auto b = a;
    a.reset();
    CHECK(xmpp::pooled(*parse_jid("leaves@example.org")).get() == first);
  }
  auto again = xmpp::pooled(*parse_jid("leaves@example.org"));
  CHECK(again->full() == "leaves@example.org");
  CHECK(again->is_unique());
}
