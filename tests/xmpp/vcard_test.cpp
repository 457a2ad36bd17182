// XEP-0153: the hash of a photo, and the presence that says it.
#include "xmpp/im/vcard.hpp"
#include <doctest/doctest.h>

using namespace xmpp::im;

namespace {
std::string hash_of(const std::string& inside) {
  xmpp::document d;
  return photo_hash(d.parse("<vCard xmlns='vcard-temp'>" + inside + "</vCard>"));
}
xmpp::stanza_ref presence(std::string_view xml) {
  auto s = xmpp::stanza::from_xml(xml);
  s->from = *xmpp::parse_jid("a@b/c");
  s->to = *xmpp::parse_jid("a@b");
  return s;
}
constexpr std::string_view x = "<x xmlns='vcard-temp:x:update'><photo>abc</photo></x>";
} // namespace

TEST_CASE("vcard: SHA-1 of the decoded image") {
  CHECK(hash_of("<PHOTO><TYPE>image/png</TYPE><BINVAL>YWJj</BINVAL></PHOTO>") == "a9993e364706816aba3e25717850c26c9cd0d89d"); // of "abc"
  CHECK(hash_of("<PHOTO><BINVAL>\n  YW\r\n\tJj </BINVAL></PHOTO>") == "a9993e364706816aba3e25717850c26c9cd0d89d");
  for (auto none : {"", "<PHOTO/>", "<PHOTO><BINVAL/></PHOTO>", "<PHOTO><BINVAL>***</BINVAL></PHOTO>", "<PHOTO><EXTVAL>http://x</EXTVAL></PHOTO>",
                    "<PHOTO xmlns='urn:other'><BINVAL>YWJj</BINVAL></PHOTO>"})
    CHECK(hash_of(none).empty());
}

TEST_CASE("vcard: what presence claims") {
  CHECK_FALSE(photo_claimed(*presence("<presence/>")));
  CHECK_FALSE(photo_claimed(*presence("<presence><status>vcard-temp</status></presence>")));
  CHECK(photo_claimed(*presence("<presence><x xmlns='vcard-temp:x:update'/></presence>")) == "");
  CHECK(photo_claimed(*presence("<presence><x xmlns='vcard-temp:x:update'><photo/></x></presence>")) == "");
  CHECK(photo_claimed(*presence("<presence><x xmlns='vcard-temp:x:update'><photo>ABC</photo></x></presence>")) == "abc");
}

TEST_CASE("vcard: presence with the right photo; all else stays") {
  auto with = [](std::string_view xml, std::string_view sha1 = "abc") { return std::string{with_photo(presence(xml), sha1)->bytes()}; };
  CHECK(with("<presence/>") == "<presence>" + std::string{x} + "</presence>");
  CHECK(with("<presence></presence>") == "<presence>" + std::string{x} + "</presence>");
  CHECK(with("<presence id='1' xml:lang='de'><show>away</show><status>a &lt; b</status><c xmlns='urn:c' v='1'/></presence>")
        == "<presence id='1' xml:lang='de'><show>away</show><status>a &lt; b</status><c xmlns='urn:c' v='1'/>" + std::string{x} + "</presence>");
  CHECK(with("<presence><x xmlns='vcard-temp:x:update'><photo>old</photo></x><show>dnd</show><x xmlns='vcard-temp:x:update'/></presence>")
        == "<presence><show>dnd</show>" + std::string{x} + "</presence>");
  CHECK(with("<presence/>", "") == "<presence><x xmlns='vcard-temp:x:update'><photo/></x></presence>");
  CHECK(with("<p:presence xmlns:p='jabber:client' xmlns='urn:d'><p:show>away</p:show><e/></p:presence>")
        == "<p:presence xmlns:p='jabber:client' xmlns='urn:d'><show xmlns='jabber:client'>away</show><e xmlns='urn:d'/>" + std::string{x} + "</p:presence>");
  // seventeen prefixes would become seventeen declarations more
  auto s = presence("<presence/>");
  CHECK(with_photo(s, "abc") != s);
  std::string prefixes = "<presence", attributes = "<a";
  for (int n = 0; n < 17; ++n) {
    prefixes += " xmlns:p" + std::to_string(n) + "='urn:" + std::to_string(n) + "'";
    attributes += " p" + std::to_string(n) + ":x=''";
  }
  s = presence(prefixes + ">" + attributes + "/></presence>");
  CHECK(with_photo(s, "abc") == s);
  auto right = presence("<presence><x xmlns='vcard-temp:x:update'><photo>ABC</photo></x></presence>");
  CHECK(with_photo(right, "abc") == right);
  auto before = presence("<presence/>");
  before->completion = {7, 8, 9, 0};
  auto after = with_photo(before, "abc");
  CHECK(after->from == before->from);
  CHECK(after->to == before->to);
  CHECK(after->completion.number == 8);
}
