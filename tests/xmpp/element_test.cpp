// Payload trees, escaping and the writer.
#include "xmpp/element.hpp"
#include "xmpp/stanza.hpp"
#include "xmpp/utf8.hpp"
#include <doctest/doctest.h>
#include <pugixml.hpp>

using namespace xmpp;

TEST_CASE("element: names are pairs of namespace and local name") {
  document d;
  auto root = d.parse("<iq xmlns:p='urn:p'><p:a x='1' p:x='2'>t<b/>u<![CDATA[<v>]]></p:a><a xmlns='urn:p'>&lt;&#x41;</a><c/></iq>");
  REQUIRE(root);
  CHECK(root.is("iq", "jabber:client"));
  auto a = root.first_child();
  CHECK(a.is("a", "urn:p"));
  CHECK(a.attr("x") == "1");
  CHECK_FALSE(a.attr("y"));
  CHECK(a.text() == "tu<v>");
  CHECK(a.first_child().is("b", "jabber:client"));
  auto second = a.next_sibling();
  CHECK(second.is("a", "urn:p"));
  CHECK(second.text() == "<A");
  CHECK(root.child("c", "jabber:client"));
  CHECK_FALSE(root.child("c", "urn:p"));
  CHECK_FALSE(element{}.attr("x"));
  for (int n = 0; n < 100; ++n) // one document, many stanzas
    CHECK(d.parse("<a><b>x</b></a>").first_child().text() == "x");
}

TEST_CASE("element: XML that stands alone means the same") {
  document d, again;
  auto alone = [&](std::string_view xml) { return d.parse(xml).first_child().to_xml(); };
  CHECK(alone("<iq><a xmlns='urn:a'/></iq>") == "<a xmlns='urn:a'/>");
  CHECK(alone("<iq><a/></iq>") == "<a xmlns='jabber:client'/>");
  CHECK(alone("<iq xmlns:p='urn:p'><p:a x='1'><p:b/><c/></p:a></iq>") == "<a xmlns='urn:p' x='1'><b/><c xmlns='jabber:client'/></a>");
  CHECK(alone("<iq xmlns:p='urn:p'><a xmlns='urn:a' p:x='1' p:y='2' xml:lang='de' xmlns:q='urn:q'/></iq>")
        == "<a xmlns='urn:a' xmlns:p='urn:p' p:x='1' p:y='2' xml:lang='de'/>");
  CHECK(alone("<iq><a xmlns='urn:a'>t&lt;<b xmlns=''>u</b><![CDATA[<v>]]></a></iq>") == "<a xmlns='urn:a'>t&lt;<b xmlns=''>u</b>&lt;v&gt;</a>");
  CHECK(alone("<iq><a xmlns='urn:a' x='&apos;&#10;'/></iq>") == "<a xmlns='urn:a' x='&apos;&#10;'/>");
  CHECK(alone("<iq><xml:a><b xmlns='urn:b'/><c/></xml:a></iq>") == "<xml:a><b xmlns='urn:b'/><c xmlns='jabber:client'/></xml:a>");
  CHECK(alone("<iq><a xmlns='urn:a'><![CDATA[ \t]]><b/> u</a></iq>") == "<a xmlns='urn:a'>&#32;&#9;<b/> u</a>");
  CHECK(alone("<iq><a xmlns='urn:a'><![CDATA[ ]]>u<![CDATA[ ]]></a></iq>") == "<a xmlns='urn:a'> u </a>");
  CHECK(element{}.to_xml().empty());
  CHECK(d.parse("<iq><a/></iq>").first_child().to_xml("jabber:client") == "<a/>");
  auto once = alone("<iq xmlns:p='urn:p'><p:a p:x='1'>t<b><p:c/></b></p:a></iq>");
  CHECK(again.parse(once).to_xml() == once);
  for (std::string_view nowhere : {"<a xmlns=''/>", "<a xmlns='' x='1'><b/></a>"}) {
    CAPTURE(nowhere);
    CHECK(d.parse(nowhere).ns().empty()); // what it says itself counts, not what a stream header would say
    CHECK(d.parse(nowhere).to_xml("jabber:client") == nowhere);
    CHECK(again.parse(d.parse(nowhere).to_xml(), {}).to_xml("jabber:client") == nowhere);
  }
  CHECK(d.parse("<a/>").is_empty());
  CHECK_FALSE(d.parse("<a>x</a>").is_empty());
  CHECK(element{}.is_empty());
}

TEST_CASE("text is cut between characters") {
  CHECK(cut("abc", 3) == "abc");
  CHECK(cut("abc", 2) == "ab");
  CHECK(cut("a\xe2\x82\xac", 3) == "a");
  CHECK(cut("a\xe2\x82\xac", 4) == "a\xe2\x82\xac");
  CHECK(cut("\xc3\xa4", 1).empty());
  CHECK(cut("x", 0).empty());
}

TEST_CASE("writer: well-formed by construction") {
  writer w;
  w.open("iq").attr("id", "a'b<c>&\"").open("q", "urn:q").leaf("e", "1 < 2 & 3").open("f").close().raw("<g/>").close().close();
  auto xml = w.take();
  CHECK(xml == "<iq id='a&apos;b&lt;c&gt;&amp;&quot;'><q xmlns='urn:q'><e>1 &lt; 2 &amp; 3</e><f/><g/></q></iq>");
  CHECK(stanza::from_xml(xml)->id() == "a&apos;b&lt;c&gt;&amp;&quot;");
}

TEST_CASE("element: names and namespaces are never joined or inherited wrongly (CVE-2022-25236)") {
  document d;
  auto root = d.parse("<a xmlns='urn:1' xmlns:p='urn:2'><b xmlns=''><c/></b><p:d xmlns:p='urn:3'/><xml:e/><p:f xmlns='urn:4'><g/></p:f></a>");
  auto b = root.first_child();
  CHECK(b.is("b", ""));
  CHECK(b.first_child().is("c", ""));
  auto inner = b.next_sibling();
  CHECK(inner.is("d", "urn:3"));
  CHECK(inner.next_sibling().is("e", "http://www.w3.org/XML/1998/namespace"));
  auto f = inner.next_sibling().next_sibling();
  CHECK(f.is("f", "urn:2"));
  CHECK(f.first_child().is("g", "urn:4"));
  CHECK_FALSE(f.next_sibling());
  CHECK(root.attr_or("none", "otherwise") == "otherwise");
  CHECK(d.parse("<a xml:lang='de'/>").lang() == "de");
  CHECK_FALSE(d.parse("<a lang='de'/>").lang());
  CHECK(d.parse("<a/>", "urn:other").is("a", "urn:other"));
  CHECK_FALSE(d.parse("<a"));
  CHECK_FALSE(d.parse(""));
  CHECK_FALSE(d.parse("<a></b>"));
}

TEST_CASE("element: as deep and as wide as the framer lets through") {
  std::string xml;
  for (int k = 0; k < 63; ++k)
    xml += "<a>";
  xml += "x";
  for (int k = 0; k < 63; ++k)
    xml += "</a>";
  framer f;
  f.enter_stream(nullptr);
  REQUIRE(f.run(xml) == framer_event::element);
  document d;
  auto e = d.parse(xml);
  for (int k = 0; k < 62; ++k)
    e = e.first_child();
  CHECK(e.text() == "x");
  std::string wide = "<a>";
  for (int k = 0; k < 4'000; ++k)
    wide += "<b c='" + std::to_string(k) + "'/>";
  int count = 0;
  for (auto c = d.parse(wide + "</a>").first_child(); c; c = c.next_sibling())
    CHECK(c.attr("c") == std::to_string(count++));
  CHECK(count == 4'000);
}

TEST_CASE("escaping: any bytes become well-formed XML, and legal ones come back as they were") {
  std::uint32_t random = 1;
  auto next = [&] { return random = random * 1'664'525 + 1'013'904'223, random >> 8; };
  for (int n = 0; n < 3'000; ++n) {
    std::string bytes;
    for (auto k = next() % 12; k > 0; --k)
      bytes.push_back(static_cast<char>(next() % 3 ? next() : 0xc0 + next() % 0x40));
    writer w;
    w.open("a").attr("b", bytes).text(bytes).close();
    auto xml = w.take();
    framer f;
    f.enter_stream(nullptr);
    CAPTURE(xml);
    REQUIRE(f.run(xml) == framer_event::element);
  }
  for (std::string text : {"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "a\tb\nc\rd", "<&>\"'", "]]>", "&amp;", "\xef\xbf\xbd", "\xc2\x80"}) {
    writer w;
    w.open("a").attr("b", text).text("." + text).close();
    auto xml = w.take();
    pugi::xml_document doc; // a parser that normalises as XML 1.0 says
    REQUIRE(doc.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8));
    CHECK(std::string{doc.child("a").attribute("b").value()} == text);
    CHECK(std::string{doc.child("a").text().get()} == "." + text);
    document d;
    CHECK(d.parse(xml).text() == "." + text);
    CHECK(d.parse(xml).attr("b") == text);
  }
  std::string out;
  append_escaped(out, std::string_view{"a\0\x1f\xff\xed\xa0\x80", 7});
  CHECK(out == "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
}
