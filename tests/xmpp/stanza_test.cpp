// Stanzas in flight: the rewritten start tag, what the stream header lends, stanza-ids.
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <doctest/doctest.h>
#include <stdexcept>

using namespace xmpp;

namespace {
stanza_ref made(std::string_view xml, const stream_open* open = nullptr) {
  framer f;
  f.enter_stream(open);
  REQUIRE(f.run(xml) == framer_event::element);
  return stanza::make(f.result(), xml, open);
}
jid_ref j(std::string_view text) { return *parse_jid(text); }
/// As a receiver's parser sees it: it must be one well-formed element again.
std::string out(const stanza_ref& s, jid_ref to = {}) {
  auto text = to_string(delivery{s, std::move(to)});
  framer f;
  f.enter_stream(nullptr);
  CHECK(f.run(text) == framer_event::element);
  CHECK(f.position() == text.size());
  CHECK(text.size() <= render_bound(delivery{s, {}}) + 6 * 3'071);
  return text;
}
} // namespace

TEST_CASE("stanza: the true from replaces the claimed one, all else stays byte for byte") {
  auto s = made("<message id='1' from='evil@x' to='b@c' type='chat'><body>&lt;hi&gt;</body></message>");
  s->from = j("a@b/r");
  CHECK(out(s) == "<message from='a@b/r' id='1' to='b@c' type='chat'><body>&lt;hi&gt;</body></message>");
  CHECK(out(s, j("d@e/f")) == "<message from='a@b/r' to='d@e/f' id='1' type='chat'><body>&lt;hi&gt;</body></message>");
  auto order = made("<message to='b@c' from='evil@x'/>");
  order->from = j("a@b/r");
  CHECK(out(order, j("d@e")) == "<message from='a@b/r' to='d@e'/>");
  auto without = made("<presence/>");
  without->from = j("a@b/r");
  CHECK(out(without, j("d@e")) == "<presence from='a@b/r' to='d@e'/>");
}

TEST_CASE("stanza: names that need it are escaped") {
  auto s = made("<message to='b@c'/>");
  s->from = j("a@b/it's <&> \"");
  CHECK(out(s) == "<message from='a@b/it&apos;s &lt;&amp;> \"' to='b@c'/>");
}

TEST_CASE("stanza: namespace declarations of the start tag survive, and those of the header are written in") {
  auto own = made("<message xmlns:x='urn:x' to='b@c'><x:y/></message>");
  own->from = j("a@b/r");
  CHECK(out(own) == "<message from='a@b/r' xmlns:x='urn:x' to='b@c'><x:y/></message>");
  stream_open open;
  open.lang = "de";
  open.prefixes = {{"h", "urn:h"}, {"unused", "urn:u"}};
  auto lent = made("<message to='b@c'><h:y/></message>", &open);
  lent->from = j("a@b/r");
  auto text = out(lent);
  CHECK(text.find("xmlns:h='urn:h'") != text.npos);
  CHECK(text.find("xml:lang='de'") != text.npos);
  auto own_lang = made("<message xml:lang='fr'/>", &open);
  CHECK(out(own_lang).find("de") == std::string::npos);
  auto both = made("<message xmlns:h='urn:mine'><h:y/></message>", &open); // its own binding wins
  CHECK(out(both).find("urn:h'") == std::string::npos);
  auto stream_prefix = made("<message><stream:x/></message>", &open);
  CHECK(out(stream_prefix).find("xmlns:stream=") != std::string::npos);
}

TEST_CASE("stanza: stanza-ids are added, forged ones with our name are left out (XEP-0359)") {
  auto s = made("<message to='b@c/r'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' id='forged' by='b@c'/>"
                "<stanza-id xmlns='urn:xmpp:sid:0' id='theirs' by='room@d'/><![CDATA[<stanza-id by='b@c'/>]]></message>");
  s->from = j("a@b/r");
  s->stanza_id = {1, 2};
  s->stanza_id_by = j("b@c/r");
  CHECK(out(s) == "<message from='a@b/r' to='b@c/r'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' id='theirs' by='room@d'/>"
                  "<![CDATA[<stanza-id by='b@c'/>]]><stanza-id xmlns='urn:xmpp:sid:0' id='00000000000000010000000000000002' by='b@c'/></message>");
  auto nested = made("<message><x><stanza-id id='deep' by='b@c'/></x><stanza-id id='bad' by='B@C'><y a='>'/></stanza-id>t</message>");
  nested->stanza_id_by = j("b@c");
  CHECK(out(nested) == "<message><x><stanza-id id='deep' by='b@c'/></x>t</message>"); // another spelling of our name is ours
  auto empty = made("<message to='b@c' />");
  empty->stanza_id = {0, 1};
  empty->stanza_id_by = j("b@c");
  CHECK(out(empty).ends_with("by='b@c'/></message>"));
}

TEST_CASE("stanza: what is late says since when (XEP-0203)") {
  auto late = [](std::string_view xml, bool has_id) {
    auto s = stanza::from_xml(xml);
    s->to = *parse_jid("b@b.org/r");
    if (has_id)
      s->stanza_id = {0, 1}, s->stanza_id_by = *parse_jid("b@b.org");
    delivery d{s};
    d.delayed_us = 1'700'000'000'123'456;
    auto out = to_string(d);
    CHECK(out.size() <= render_bound(d));
    return out;
  };
  const std::string delay = "<delay xmlns='urn:xmpp:delay' from='b.org' stamp='2023-11-14T22:13:20.123Z'/>";
  auto id = "<stanza-id xmlns='urn:xmpp:sid:0' id='00000000000000000000000000000001' by='b@b.org'/>";
  CHECK(late("<message to='x'><body>a</body></message>", false).ends_with("<body>a</body>" + delay + "</message>"));
  CHECK(late("<message to='x'><body>a</body></message>", true).ends_with("<body>a</body>" + delay + id + "</message>"));
  CHECK(late("<message to='x'/>", false).ends_with(">" + delay + "</message>"));
  CHECK(late("<message to='x'/>", true).ends_with(">" + delay + id + "</message>"));
}

TEST_CASE("stanza: only what the payload uses of the header is written in, whatever else looks like it") {
  stream_open open;
  open.prefixes = {{"a", "urn:a&amp;b"}, {"b", "urn:b"}};
  auto disguised = made("<message id='xmlns:a=' to=\"xmlns:a='\"><a:x/></message>", &open);
  CHECK(to_string(disguised).find(" xmlns:a='urn:a&amp;b'") != std::string::npos);
  CHECK(to_string(disguised).find("urn:b") == std::string::npos);
  CHECK(disguised->id() == "xmlns:a=");
  CHECK(disguised->raw_to() == "xmlns:a='");
  out(disguised);
  auto without_header = made("<message><stream:x/></message>");
  framer websocket{framer::mode::frame}; // a receiver without our stream header
  CHECK(websocket.run(to_string(without_header)) == framer_event::element);
  stream_open bare_root;
  bare_root.root = "stream";
  bare_root.content_ns = "http://etherx.jabber.org/streams";
  bare_root.prefixes = {{"c", "jabber:client"}};
  auto prefixed = made("<c:message to='b@c'><c:body/><odd/></c:message>", &bare_root);
  CHECK(prefixed->kind() == stanza_kind::message);
  document d;
  auto root = d.parse(to_string(prefixed));
  CHECK(root.is("message", "jabber:client"));
  CHECK(root.first_child().is("body", "jabber:client"));
  CHECK(root.first_child().next_sibling().is("odd", "http://etherx.jabber.org/streams"));
  prefixed->stanza_id = {1, 2};
  prefixed->stanza_id_by = j("b@c");
  CHECK(out(prefixed).ends_with("</c:message>"));
}

TEST_CASE("stanza: what a type means does not depend on how it is written") {
  CHECK(made("<iq type='e&#114;ror' id='1'/>")->type() == stanza_type::error);
  CHECK_FALSE(make_error(*made("<iq type='re&#115;ult' id='1'/>"), stanza_errc::bad_request));
}

TEST_CASE("stanza: origin-ids count in their own namespace only") {
  auto origin = [](std::string_view xml) {
    auto s = made(xml);
    return std::string{s->tag().origin_id ? s->at(s->tag().origin_id) : "none"};
  };
  CHECK(origin("<message><origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>") == "o");
  CHECK(origin("<message><s:origin-id xmlns:s='urn:xmpp:sid:0' id='o'/></message>") == "o");
  CHECK(origin("<message><origin-id id='o'/></message>") == "none");
  CHECK(origin("<message><x><origin-id xmlns='urn:xmpp:sid:0' id='o'/></x></message>") == "none");
}

TEST_CASE("stanza: the server's own may be larger than any input, and must be one element") {
  std::string xml = "<iq type='result' id='1'><query xmlns='jabber:iq:roster'>";
  for (int k = 0; k < 20'000; ++k)
    xml += "<item jid='contact" + std::to_string(k) + "@example.org'/>";
  xml += "</query></iq>";
  CHECK(stanza::from_xml(xml)->bytes() == xml);
  for (auto bad : {"", "<a>", "<a/><b/>", "<a/> ", " <a/>", "<a>\x01</a>", "<x:a/>"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS((void)stanza::from_xml(bad), std::logic_error);
  }
}

TEST_CASE("stanza: many stanza-ids cost one pass") {
  std::string xml = "<message to='b@c'>", kept = xml;
  for (int k = 0; k < 1'000; ++k) {
    xml += "<stanza-id xmlns='urn:xmpp:sid:0' id='x' by='b@c'/><stanza-id xmlns='urn:xmpp:sid:0' id='x' by='d@e'/>";
    kept += "<stanza-id xmlns='urn:xmpp:sid:0' id='x' by='d@e'/>";
  }
  auto s = made(xml + "</message>");
  s->stanza_id_by = j("b@c");
  CHECK(out(s) == kept + "</message>");
  auto disguised = made("<message><s:stanza-id xmlns:s='urn:xmpp:sid:0' id='1' by='b&#64;c'/><my-stanza-id by='b@c'/></message>");
  disguised->stanza_id_by = j("b@c");
  CHECK(out(disguised) == "<message><my-stanza-id by='b@c'/></message>");
}

TEST_CASE("stanza: types") {
  CHECK(made("<message type='odd'/>")->type() == stanza_type::normal);
  CHECK(made("<message/>")->type() == stanza_type::normal);
  CHECK(made("<presence type='odd'/>")->type() == stanza_type::invalid);
  CHECK(made("<presence/>")->type() == stanza_type::available);
  CHECK(made("<iq/>")->type() == stanza_type::invalid);
  CHECK(made("<iq type='set'/>")->is_request());
  CHECK(made("<iq type='result'/>")->type() == stanza_type::result);
}
