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

TEST_CASE("framer: names of namespaces are what they stand for, not how they are written") {
  constexpr std::string_view good[] = {
      "<message xmlns='jabber&#58;client'/>", "<c:message xmlns:c='jabber:client'/>", "<c:message xmlns:c='jabber&#x3a;client'><b/></c:message>"};
  for (auto text : good) {
    CAPTURE(text);
    for (auto step : steps)
      CHECK(feed(text, step).head.kind == xmpp::stanza_kind::message);
  }
  for (std::string_view other : {"<c:message xmlns:c='other'/>", "<message xmlns='jabber:server'/>", "<message xmlns=''/>", "<messages/>", "<x:iq xmlns:x='other' xmlns='jabber:client'/>"}) {
    CAPTURE(other);
    CHECK(feed(other, 3).event == framer_event::element);
    CHECK(feed(other, 3).head.kind == xmpp::stanza_kind::other);
  }
  for (std::string_view twice : {"<m xmlns:a='u' xmlns:b='&#117;' a:x='1' b:x='2'/>", "<m xmlns:a='u v' xmlns:b='u\tv' a:x='1' b:x='2'/>",
                                 "<m xmlns:a='http://www.w3.org/XML/1998/namespac&#101;'/>", "<m xmlns='http://www.w3.org/2000/xmlns&#47;'/>"}) {
    CAPTURE(twice);
    for (auto step : steps)
      CHECK(feed(twice, step).error == framer_errc::not_well_formed);
  }
  CHECK(feed("<m xmlns:a='u' xmlns:b='v' a:x='1' b:x='2' x='3'/>", 3).event == framer_event::element);
  CHECK(feed("<m xmlns:a='u'><n xmlns:a='v'><a:x/></n><a:y/></m>", 3).event == framer_event::element);
}

TEST_CASE("framer: the content namespace is the header's") {
  xmpp::stream_open server, odd;
  server.content_ns = "jabber:server";
  odd.root = "stream";
  odd.content_ns = "http://etherx.jabber.org/streams";
  odd.prefixes = {{"p", "urn:p"}, {"c", "jabber:client"}};
  CHECK(feed("<message/>", 3, &server).head.kind == xmpp::stanza_kind::message);
  CHECK(feed("<message xmlns='jabber:server'/>", 3, &server).head.kind == xmpp::stanza_kind::message);
  CHECK(feed("<message xmlns='jabber:client'/>", 3, &server).head.kind == xmpp::stanza_kind::other);
  CHECK(feed("<message/>", 3, &odd).head.kind == xmpp::stanza_kind::other);
  CHECK(feed("<iq xmlns='jabber:client'/>", 3, &odd).head.kind == xmpp::stanza_kind::iq);
  auto v = feed("<c:presence><p:x/></c:presence>", 3, &odd);
  CHECK(v.head.kind == xmpp::stanza_kind::presence);
  CHECK(v.head.uses_header_prefix);
  CHECK(v.head.header_prefixes == 3);
  CHECK(feed("<c:m xmlns:c='u'><p:x/></c:m>", 3, &odd).head.header_prefixes == 1); // its own c wins
  CHECK(feed("<m><stream:x/></m>", 3).head.header_prefixes == 1u << 31);
  CHECK(feed("<m><stream:x/></m>", 3, &odd).error == framer_errc::bad_namespace_prefix); // this root has no prefix
  CHECK(feed("</stream>", 3, &odd).event == framer_event::end);
}

TEST_CASE("framer: names have the characters of XML 1.0") {
  for (std::string_view good : {"<\xc3\xa4/>", "<\xce\xb1\xc2\xb7/>", "<m \xe6\x97\xa5='1'/>", "<\xf0\x90\x80\x80/>", "<_-.9/>", "<a\xcc\x81/>", "<a xmlns:\xc3\xa4='u' \xc3\xa4:\xc3\xa4='1'/>"}) {
    CAPTURE(good);
    for (auto step : steps)
      CHECK(feed(good, step).event == framer_event::element);
  }
  for (std::string_view bad : {"<\xc3\x97/>", "<\xc2\xb7/>", "<a\xe2\x80\x80/>", "<\xcc\x81/>", "<a \xe2\x86\x90='1'/>", "<-a/>", "<.a/>", "<9/>",
                               "<a\xc3/>", "<a\xf4\x90\x80\x80/>", "<a xmlns:\xc2\xb7='u'/>", "<a \xed\xa0\x80='1'/>", "<a$/>"}) {
    CAPTURE(bad);
    for (auto step : steps)
      CHECK(feed(bad, step).event == framer_event::error);
  }
}

TEST_CASE("framer: an XML declaration says version 1.0 and UTF-8, in that order, and comes first") {
  constexpr std::string_view root = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>";
  auto with = [&](std::string_view declaration) { return feed(std::string{declaration} + std::string{root}, 3, nullptr, true); };
  for (std::string_view good : {"<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding='UTF-8'?>\n", "<?xml  version = '1.0'  encoding = \"utf-8\" standalone='yes' ?>"}) {
    CAPTURE(good);
    CHECK(with(good).event == framer_event::header);
  }
  struct bad { std::string_view text; framer_errc error; };
  using enum framer_errc;
  for (auto [text, error] : std::initializer_list<bad>{
           {"<?xml version='1.1'?>", not_well_formed}, {"<?xml encoding='UTF-8'?>", not_well_formed}, {"<?xml encoding='UTF-8' version='1.0'?>", not_well_formed},
           {"<?xml version='1.0' encoding='UTF-16'?>", bad_encoding}, {"<?xml version='1.0' encoding=''?>", not_well_formed},
           {"<?xml version='1.0'encoding='UTF-8'?>", not_well_formed}, {"<?xml version='1.0' x='y'?>", not_well_formed},
           {"<?xml version='1.0' standalone='maybe'?>", not_well_formed}, {"<?xml version='1.0>", restricted_xml}, {"<?XML version='1.0'?>", restricted_xml},
           {"<?xml version='1.0'?><?xml version='1.0'?>", restricted_xml}, {"<?xml version='1.0'?>x", not_well_formed}}) {
    CAPTURE(text);
    CHECK(with(text).error == error);
  }
  CHECK(feed("<?xml version='1.0'?>", 3).error == restricted_xml); // inside a stream
}

TEST_CASE("framer: a header lends its stanzas no more than 1 KiB") {
  auto header = [](std::string_view more) {
    return feed("<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' " + std::string{more} + ">", 50, nullptr, true);
  };
  CHECK(header("xmlns:p='" + std::string(900, 'u') + "'").event == framer_event::header);
  CHECK(header("xmlns:p='" + std::string(1'100, 'u') + "'").error == framer_errc::too_big);
  CHECK(header("xml:lang='" + std::string(65, 'e') + "'").error == framer_errc::too_big);
  framer f;
  std::string text = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:p='urn:&amp;' xmlns:xml='http://www.w3.org/XML/1998/namespace' to='a&amp;b' id=\"i\">";
  REQUIRE(f.run(text) == framer_event::header);
  auto open = f.header(text);
  CHECK(open.to == "a&b");
  CHECK(open.root == "s:stream");
  REQUIRE(open.prefixes.size() == 1);
  CHECK(open.prefixes[0] == std::pair<std::string, std::string>{"p", "urn:&amp;"});
}

TEST_CASE("framer: an element without content may be written either way in a frame (RFC 7395)") {
  for (std::string_view text : {"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a'></open>", "<f:open xmlns:f='urn:ietf:params:xml:ns:xmpp-framing' to='a'/>"}) {
    framer f{framer::mode::frame};
    REQUIRE(f.run(text) == framer_event::header);
    CHECK(f.position() == text.size());
    CHECK(f.header(text).to == "a");
  }
  framer f{framer::mode::frame};
  CHECK(f.run("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing'><x/></open>") == framer_event::error);
  CHECK(feed("</close>", 3, nullptr, false, framer::mode::frame).error == framer_errc::not_well_formed);
  CHECK(feed("<?xml version='1.0'?>", 3, nullptr, false, framer::mode::frame).error == framer_errc::restricted_xml);
}

TEST_CASE("framer: one serves many streams, in turn, and a copy goes on where it was") {
  framer shared;
  CHECK(shared.run("<message><bo") == framer_event::error); // not a header
  shared.enter_stream(nullptr);
  constexpr std::string_view text = "<message><body>x</body></message>";
  CHECK(shared.run(text.substr(0, 12)) == framer_event::more);
  auto own = shared;
  shared.enter_stream(nullptr);
  CHECK(shared.is_idle());
  CHECK(shared.run("<iq/>") == framer_event::element);
  CHECK_FALSE(own.is_idle());
  CHECK(own.run(text) == framer_event::element);
  CHECK(own.position() == text.size());
  CHECK(xmpp::leading_space(" \t\r\n<a/>") == 4);
  CHECK(xmpp::leading_space("   ") == 3);
}

TEST_CASE("framer: limits cannot be set past the tables") {
  framer f{framer::mode::stream, {1'000'000, 60'000, 60'000, 60'000, 1'000'000}};
  std::string deep, attributes = "<a", bound = "<a";
  for (int k = 0; k < 200; ++k) {
    deep += "<a>";
    attributes += " a" + std::to_string(k) + "=''";
    bound += " xmlns:a" + std::to_string(k) + "='u'";
  }
  for (auto& text : {deep, attributes, bound}) {
    f.enter_stream(nullptr);
    CHECK(f.run(text) == framer_event::error);
    CHECK(f.error() == framer_errc::too_big);
  }
}

TEST_CASE("framer: references decoded") {
  CHECK(xmpp::decode_entities("&lt;&gt;&amp;&quot;&apos;&#65;&#x41;&#xe4;&#x20AC;&#x1F600;") == "<>&\"'AA\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  CHECK(xmpp::decode_entities("&amp;lt;") == "&lt;"); // once
  CHECK(xmpp::decode_entities("a & b &c; &#0; &#xD800; &") == "a & b &c; &#0; &#xD800; &"); // not checked text
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
