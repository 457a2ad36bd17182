// The framer against tables of good and bad input, each whole and in pieces, and against pugixml.
#include "xmpp/framer.hpp"
#include <doctest/doctest.h>
#include <pugixml.hpp>

using xmpp::framer;
using xmpp::framer_errc;
using xmpp::framer_event;

namespace {
struct verdict {
  framer_event event;
  framer_errc error;
  std::size_t position;
  xmpp::head head;
};

/// Feeds `text` so that each call sees `step` more bytes, inside a stream unless told otherwise.
verdict feed(std::string_view text, std::size_t step, const xmpp::stream_open* open = nullptr, bool from_start = false,
             framer::mode mode = framer::mode::stream) {
  framer f{mode};
  from_start || mode == framer::mode::frame ? f.restart() : f.enter_stream(open);
  auto e = framer_event::more;
  for (std::size_t n = std::min(step, text.size());; n = std::min(n + step, text.size())) {
    e = f.run(text.substr(0, n));
    if (e != framer_event::more || n == text.size())
      break;
  }
  return {e, f.error(), f.position(), f.result()};
}
constexpr std::size_t steps[] = {1, 3, 7, 1'000'000};
} // namespace

TEST_CASE("framer: well-formed elements, whole and in pieces") {
  for (std::string_view good : {
           "<message to='a@b/c'><body>hi</body></message>", "<presence/>", "<presence />", "<iq id=\"1\"><query xmlns='x'/></iq >",
           "<message  a = 'b\"' ><x:y xmlns:x='u' x:a='1'>&lt;&#65;&#x1F600;</x:y></message>",
           "<message><body>gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 ]] > x</body></message>", "<message xml:lang='de'>\t\n\r</message>",
           "<m><a><b><c/></b></a></m>", "<m \xc3\xa4='1'/>", "<m><![CDATA[<not> & a tag]]></m>", "<m><![CDATA[]]]]><![CDATA[>]]></m>",
           "<m a='1' b='2' xmlns:p='u' p:a='3'/>", "<m>&amp;&quot;&apos;&gt;&#9;</m>", "<stream:features/>"}) {
    CAPTURE(good);
    for (auto step : steps) {
      auto v = feed(good, step);
      CHECK(v.event == framer_event::element);
      CHECK(v.position == good.size());
    }
  }
}

TEST_CASE("framer: what RFC 6120 section 11 forbids, and what is no XML, each with its error") {
  using enum framer_errc;
  struct bad { std::string_view text; framer_errc error; };
  for (auto [text, error] : std::initializer_list<bad>{
           {"<m a='1' a='2'/>", not_well_formed}, {"<m a='1'b='2'/>", not_well_formed}, {"<m>&foo;</m>", restricted_xml},
           {"<m>&#0;</m>", not_well_formed}, {"<m>&#xD800;</m>", not_well_formed}, {"<m>&#x110000;</m>", not_well_formed},
           {"<m>&#99999999999;</m>", not_well_formed}, {"<m>&;</m>", not_well_formed}, {"<m>&#x;</m>", not_well_formed},
           {"<m a='<'/>", not_well_formed}, {"<m><!-- x --></m>", restricted_xml}, {"<!-- x -->", restricted_xml},
           {"<m><?x?></m>", restricted_xml}, {"<?x y?>", restricted_xml}, {"<!DOCTYPE x>", restricted_xml}, {"<![CDATA[x]]>", restricted_xml},
           {"<m><!ENTITY a 'b'></m>", restricted_xml}, {"<m></n>", not_well_formed}, {"<m><a></m>", not_well_formed},
           {"<x:m/>", bad_namespace_prefix}, {"<m x:a='1'/>", bad_namespace_prefix}, {"<m>]]></m>", not_well_formed},
           {"<m>\x01</m>", not_well_formed}, {"<m a='\x02'/>", not_well_formed}, {"<m>\xc3(</m>", bad_encoding}, {"<m>\xc0\x80</m>", bad_encoding},
           {"<m>\xed\xa0\x80</m>", bad_encoding}, {"<m>\xf5\x80\x80\x80</m>", bad_encoding}, {"<m>\xef\xbf\xbe</m>", bad_encoding},
           {"<m>\xff</m>", bad_encoding}, {"<1m/>", not_well_formed}, {"<m :a='1'/>", not_well_formed}, {"<m a:='1'/>", not_well_formed},
           {"<m a:b:c='1'/>", not_well_formed}, {"<m a/>", not_well_formed}, {"<m a=b/>", not_well_formed}, {"< m/>", not_well_formed},
           {"<m><x xmlns:p='u' xmlns:q='u' p:a='1' q:a='2'/></m>", not_well_formed}, {"<m><x xmlns:p=''/></m>", not_well_formed},
           {"<m><x xmlns:p='u'/><p:y/></m>", bad_namespace_prefix}, {"<m xmlns:xml='u'/>", not_well_formed}, {"<m xmlns:xmlns='u'/>", not_well_formed},
           {"<m xmlns='http://www.w3.org/2000/xmlns/'/>", not_well_formed}, {"text", not_well_formed}, {"</other>", not_well_formed}}) {
    CAPTURE(text);
    for (auto step : steps) {
      auto v = feed(text, step);
      CHECK(v.event == framer_event::error);
      CHECK(v.error == error);
    }
  }
}

TEST_CASE("framer: limits end a stream before memory does") {
  std::string deep, wide = "<m", many = "<m>", attributes = "<m";
  for (int i = 0; i < 100; ++i)
    deep += "<a>";
  for (int i = 0; i < 40; ++i) {
    wide += " xmlns:n" + std::to_string(i) + "='u'";
    attributes += " a" + std::to_string(i) + "='1'";
  }
  for (int i = 0; i < 5'000; ++i)
    many += "<a/>";
  auto long_name = "<" + std::string(5'000, 'n');
  auto huge_text = "<m>" + std::string(300'000, 'x'), huge_value = "<m a='" + std::string(300'000, 'x'), spaces = "<m" + std::string(300'000, ' ');
  for (auto& text : {deep, wide, many, attributes, long_name, huge_text, huge_value, spaces}) {
    CAPTURE(text.substr(0, 40));
    for (auto step : {7ul, 4'096ul, 1'000'000ul})
      CHECK(feed(text, step).error == framer_errc::too_big);
  }
  framer f;
  f.set_limits(xmpp::framer_limits::before_login());
  f.enter_stream(nullptr);
  CHECK(f.run("<m>" + std::string(17'000, 'x')) == framer_event::error); // tighter before login
}

TEST_CASE("framer: stream headers") {
  auto header = [](std::string_view text) { return feed(text, 5, nullptr, true); };
  constexpr std::string_view usual = "<?xml version='1.0'?><stream:stream to='a' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'>";
  for (auto step : steps) {
    auto v = feed(usual, step, nullptr, true);
    CHECK(v.event == framer_event::header);
    CHECK(v.position == usual.size());
  }
  framer f;
  REQUIRE(f.run(usual) == framer_event::header);
  auto open = f.header(usual);
  CHECK(open.to == "a");
  CHECK(open.version == "1.0");
  CHECK(open.lang == "de");
  CHECK(open.content_ns == "jabber:client");
  CHECK(open.prefixes.empty());
  CHECK(header("<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:client' xmlns:x='u'>").event == framer_event::header);
  CHECK(header("<stream xmlns='http://etherx.jabber.org/streams'>").event == framer_event::header);
  CHECK(header("<stream:stream xmlns:stream='wrong'>").error == framer_errc::bad_header);
  CHECK(header("<stream:other xmlns:stream='http://etherx.jabber.org/streams'>").error == framer_errc::bad_header);
  CHECK(header("<stream:stream>").error == framer_errc::bad_namespace_prefix);
  CHECK(header("<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>").error == framer_errc::bad_header);
  CHECK(header("<?xml version='1.0' encoding='ISO-8859-1'?>").error == framer_errc::bad_encoding);
  CHECK(header("<?xml version='1.0' encoding='utf-8'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'>").event == framer_event::header);
  CHECK(header("<?xml-stylesheet href='x'?>").error == framer_errc::restricted_xml);
  CHECK(header("<!DOCTYPE a []><stream:stream>").error == framer_errc::restricted_xml);
  CHECK(header("GET / HTTP/1.1\r\n").error == framer_errc::not_well_formed);
}

TEST_CASE("framer: the end of a stream repeats its root") {
  CHECK(feed("</stream:stream>", 3).event == framer_event::end);
  CHECK(feed("</stream>", 3).event == framer_event::error);
  xmpp::stream_open odd;
  odd.root = "s:stream";
  CHECK(feed("</s:stream>", 3, &odd).event == framer_event::end);
  CHECK(feed("</stream:stream>", 3, &odd).event == framer_event::error);
}

TEST_CASE("framer: one whole element per frame (RFC 7395)") {
  auto frame = [](std::string_view text) { return feed(text, 4, nullptr, false, framer::mode::frame); };
  CHECK(frame("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a' version='1.0'/>").event == framer_event::header);
  CHECK(frame("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>").event == framer_event::end);
  auto v = frame("<message xmlns='jabber:client'><body>x</body></message>");
  CHECK(v.event == framer_event::element);
  CHECK(v.head.kind == xmpp::stanza_kind::message);
  CHECK(frame("<message><body>x</body></message>").head.kind == xmpp::stanza_kind::other); // no namespace: no stanza
  CHECK(frame("<stream:features/>").error == framer_errc::bad_namespace_prefix); // each frame declares its own
  CHECK(frame("<!DOCTYPE x><open/>").error == framer_errc::restricted_xml); // the other parser that was forgotten elsewhere
}

TEST_CASE("framer: what one pass learns of a stanza") {
  constexpr std::string_view text = "<message from='f' to=\"t\" id='i' type='chat' xml:lang='de'><body/><origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>";
  auto v = feed(text, 5);
  auto at = [&](xmpp::span s) { return text.substr(s.at, s.size); };
  CHECK(v.head.kind == xmpp::stanza_kind::message);
  CHECK(at(v.head.from) == "f");
  CHECK(at(v.head.to) == "t");
  CHECK(at(v.head.id) == "i");
  CHECK(at(v.head.type) == "chat");
  CHECK(at(v.head.lang) == "de");
  CHECK(at(v.head.origin_id) == "o");
  CHECK(v.head.children == 2);
  CHECK(text.substr(v.head.close_at) == "</message>");
  CHECK(feed("<message xmlns='other'/>", 5).head.kind == xmpp::stanza_kind::other);
  CHECK(feed("<message xmlns='jabber:client'/>", 5).head.kind == xmpp::stanza_kind::message);
}

TEST_CASE("framer: agrees with pugixml on what is well-formed, for generated documents") {
  // Random strings over a small alphabet hit most of the grammar; pugixml is laxer in known ways, so only
  // one direction is checked: what the framer accepts, pugixml parses, to the same number of elements.
  constexpr std::string_view pieces[] = {"<", ">", "/", "a", "b", "='", "'", " ", "\"", "&amp;", "&", ";", "x", "</a>", "<a>", "<a/>", "<b c='d'>", "</b>", "]]>", "<![CDATA[", "]]", "=", "<a b='c'/>"};
  std::uint32_t random = 12345;
  auto next = [&] { return random = random * 1664525 + 1013904223, random >> 8; };
  int accepted = 0;
  for (int n = 0; n < 60'000; ++n) {
    std::string text = "<a>";
    for (auto k = next() % 8; k > 0; --k)
      text += pieces[next() % std::size(pieces)];
    text += "</a>";
    auto v = feed(text, 1 + next() % 9);
    CHECK(v.event == feed(text, 1'000).event); // pieces never change the verdict
    if (v.event != framer_event::element)
      continue;
    ++accepted;
    pugi::xml_document doc;
    CHECK_MESSAGE(doc.load_buffer(text.data(), v.position, pugi::parse_full), text);
  }
  CHECK(accepted > 500);
}
