// Stanzas in flight: the rewritten start tag, what the stream header lends, stanza-ids; errors and results.
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <doctest/doctest.h>

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

TEST_CASE("stanza: types") {
  CHECK(made("<message type='odd'/>")->type() == stanza_type::normal);
  CHECK(made("<message/>")->type() == stanza_type::normal);
  CHECK(made("<presence type='odd'/>")->type() == stanza_type::invalid);
  CHECK(made("<presence/>")->type() == stanza_type::available);
  CHECK(made("<iq/>")->type() == stanza_type::invalid);
  CHECK(made("<iq type='set'/>")->is_request());
  CHECK(made("<iq type='result'/>")->type() == stanza_type::result);
}

TEST_CASE("errors: answers go back where the stanza came from, and are never answered") {
  auto s = made("<iq type='get' id=\"it's\" to='b@c'><q xmlns='x'/></iq>");
  s->from = j("a@b/r");
  s->to = j("b@c");
  auto e = make_error(*s, stanza_errc::service_unavailable);
  REQUIRE(e);
  CHECK(out(e) == "<iq from='b@c' to='a@b/r' id=\"it's\" type='error'><error type='cancel'>"
                  "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
  CHECK(e->to == s->from);
  CHECK_FALSE(make_error(*e, stanza_errc::bad_request));
  CHECK_FALSE(make_error(*made("<iq type='result' id='1'/>"), stanza_errc::bad_request));
  auto r = make_result(*s, "<q xmlns='x'>&amp;</q>");
  CHECK(out(r) == "<iq from='b@c' to='a@b/r' id=\"it's\" type='result'><q xmlns='x'>&amp;</q></iq>");
  CHECK(to_xml(stream_errc::host_unknown, "x<y") == "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                                                    "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>x&lt;y</text></stream:error>");
  CHECK(stanza_error{stanza_errc::jid_malformed}.type == error_type::modify);
  CHECK(stanza_error{stanza_errc::resource_constraint}.type == error_type::wait);
  CHECK(name_of(stanza_errc::unexpected_request) == "unexpected-request");
  CHECK(name_of(stream_errc::unsupported_version) == "unsupported-version");
  CHECK(stream_error_of(framer_errc::restricted_xml) == stream_errc::restricted_xml);
}

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

TEST_CASE("writer: well-formed by construction") {
  writer w;
  w.open("iq").attr("id", "a'b<c>&\"").open("q", "urn:q").leaf("e", "1 < 2 & 3").open("f").close().raw("<g/>").close().close();
  auto xml = w.take();
  CHECK(xml == "<iq id='a&apos;b&lt;c&gt;&amp;&quot;'><q xmlns='urn:q'><e>1 &lt; 2 &amp; 3</e><f/><g/></q></iq>");
  CHECK(stanza::from_xml(xml)->id() == "a&apos;b&lt;c&gt;&amp;&quot;");
}
