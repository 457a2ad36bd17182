// vCards (vcard.hpp).
#include "xmpp/im/vcard.hpp"
#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include <algorithm>

namespace xmpp::im {

namespace {
constexpr std::string_view update_ns = "vcard-temp:x:update";

std::string in_lower_case(std::string s) {
  for (auto& c : s)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return s;
}
} // namespace

std::string photo_hash(const element& vcard) {
  auto text = vcard.child("PHOTO", vcard_ns).child("BINVAL", vcard_ns).text();
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
  auto image = base::from_base64(text);
  if (!image || image->empty())
    return {};
  return base::to_hex(base::crypto::digest(base::crypto::hash::sha1, *image));
}

std::optional<std::string> photo_claimed(const stanza& presence) {
  if (presence.tag().children == 0 || presence.bytes().find("vcard-temp") == std::string_view::npos)
    return std::nullopt;
  thread_local document d;
  if (auto x = d.parse(presence.bytes()).child("x", update_ns))
    return in_lower_case(x.child("photo", update_ns).text());
  return std::nullopt;
}

stanza_ref with_photo(const stanza_ref& presence, std::string_view sha1) {
  thread_local document d;
  auto root = d.parse(presence->bytes());
  std::size_t updates = 0;
  for (auto c = root.first_child(); c; c = c.next_sibling())
    updates += c.is("x", update_ns);
  auto claimed = root.child("x", update_ns).child("photo", update_ns);
  if (updates == 1 && claimed && in_lower_case(claimed.text()) == sha1)
    return presence;
  auto& tag = presence->tag();
  std::string name{presence->bytes().substr(1, tag.name_size)}, xml{presence->bytes().substr(0, tag.tag_end)};
  if (tag.is_empty)
    xml.replace(xml.size() - 2, 2, ">");
  bool has_prefix = name.find(':') != name.npos; // then its namespace is not the default one
  std::string outer{has_prefix ? std::string_view{} : root.ns()};
  for (auto c = root.first_child(); c; c = c.next_sibling())
    if (!c.is("x", update_ns))
      xml += c.to_xml(outer);
  writer w;
  w.open("x", update_ns).open("photo").text(sha1).close().close();
  xml += w.take() + "</" + name + '>';
  framer f;
  f.set_limits({~0u, framer::most_depth, framer::most_attributes, framer::most_namespaces, ~0u});
  f.enter_stream(nullptr);
  if (f.run(xml) != framer_event::element) // prefixes that became declarations: more than anything honest has
    return presence;
  auto fresh = stanza::make(f.result(), xml);
  fresh->from = presence->from;
  fresh->to = presence->to;
  fresh->completion = presence->completion;
  return fresh;
}

} // namespace xmpp::im
