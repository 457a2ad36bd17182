// Stanzas that a client may send, as their receivers get them: always one well-formed element again, with
// the true `from`, without a forged stanza-id. Input: a byte of options, then the bytes of one element.
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include "xmpp/stanza.hpp"
#include <cstdio>
#include <cstdlib>

using namespace xmpp;

namespace {
void require(bool holds, std::string_view what, std::string_view text) {
  if (holds)
    return;
  std::fprintf(stderr, "%.*s: %.*s\n", static_cast<int>(what.size()), what.data(), static_cast<int>(text.size()), text.data());
  std::abort();
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  auto options = data[0];
  std::string_view in{reinterpret_cast<const char*>(data) + 1, size - 1};
  stream_open open;
  open.lang = options & 1 ? "de" : "";
  open.content_ns = options & 2 ? "http://etherx.jabber.org/streams" : "jabber:client";
  open.root = options & 2 ? "stream" : "s:stream";
  open.prefixes = {{"p", "urn:p?a&amp;b=&apos;&lt;"}, {"q", "jabber:client"}};
  const auto* header = options & 4 ? &open : nullptr;
  framer f;
  f.enter_stream(header);
  if (f.run(in) != framer_event::element)
    return 0;
  auto s = stanza::make(f.result(), in, header);
  static const jid_ref from = *parse_jid("a@b/it's <&>"), to = *parse_jid("c@d/e"), by = *parse_jid("c@d");
  s->from = from;
  if (options & 8) {
    s->stanza_id = {1, 2};
    s->stanza_id_by = by;
  }
  delivery d{s, options & 16 ? to : jid_ref{}};
  auto text = to_string(d);
  require(text.size() <= render_bound(d), "longer than its bound", text);
  framer again;
  again.set_limits({~0u, framer::most_depth, framer::most_attributes, framer::most_namespaces, ~0u});
  again.enter_stream(nullptr);
  auto e = again.run(text);
  if (e == framer_event::error && again.error() == framer_errc::too_big)
    return 0; // one attribute over the hard maximum
  require(e == framer_event::element && again.position() == text.size(), "not one element", text);
  auto& h = again.result();
  require(!h.uses_header_prefix, "relies on our header", text);
  require(std::string_view{text}.substr(h.from.at, h.from.size) == "a@b/it&apos;s &lt;&amp;>", "from", text);
  require(!(options & 16) || std::string_view{text}.substr(h.to.at, h.to.size) == "c@d/e", "to", text);
  require(h.kind == s->kind(), "another kind", text);
  document payload;
  auto root = payload.parse(text);
  require(static_cast<bool>(root), "the tree parser refuses it", text);
  std::size_t ours = 0;
  for (auto c = root.first_child(); c; c = c.next_sibling())
    if (c.name() == "stanza-id")
      if (auto j = parse_jid(c.attr_or("by", "")); j && same_bare(**j, *by))
        ++ours;
  require(!(options & 8) || ours == 1, "stanza-ids with our name", text);
  auto alone = root.to_xml();
  again.enter_stream(nullptr);
  e = again.run(alone);
  if (e != framer_event::error || again.error() != framer_errc::too_big) { // prefixes become declarations: there may be more
    require(e == framer_event::element && again.position() == alone.size(), "alone it is not one element", alone);
    document second;
    require(second.parse(alone, {}).to_xml() == alone, "alone it changes", alone);
  }
  if (auto answer = make_error(*s, stanza_errc::bad_request))
    require(stanza::from_xml(to_string(answer))->type() == stanza_type::error, "answer", text);
  return 0;
}
