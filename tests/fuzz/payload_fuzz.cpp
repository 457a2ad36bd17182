// Payloads that clients send and the server reads: block lists come back as they were, and presence with another photo
// is one well-formed element that says this photo. Input: the bytes of one element.
#include "xmpp/im/block_list.hpp"
#include "xmpp/im/vcard.hpp"
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

void try_block(const element& el) {
  auto items = im::parse_block_items(el);
  if (!items)
    return;
  std::vector<jid_ref> jids;
  for (auto& i : *items)
    jids.push_back(i.who);
  im::block_list list{jids};
  require(list.size() == jids.size(), "an item twice", "");
  for (auto& j : jids)
    require(list.matches(*j) && list.contains(*j), "not on its list", j->full());
  require(list.without(jids).size() == 0, "not off its list", "");
  auto xml = im::block_payload("block", jids);
  document d;
  auto again = im::parse_block_items(d.parse(xml));
  require(again && again->size() == jids.size(), "not the same list", xml);
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view in{reinterpret_cast<const char*>(data), size};
  framer f;
  f.enter_stream(nullptr);
  if (f.run(in) != framer_event::element)
    return 0;
  document d;
  auto root = d.parse(in);
  try_block(root);
  (void)im::photo_hash(root);
  auto s = stanza::make(f.result(), in);
  if (s->kind() != stanza_kind::presence)
    return 0;
  (void)im::photo_claimed(*s);
  auto with = im::with_photo(s, "abc");
  if (with != s)
    require(im::photo_claimed(*with) == "abc", "another photo", with->bytes());
  return 0;
}
