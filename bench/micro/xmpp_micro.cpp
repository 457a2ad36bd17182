// Nanoseconds of the hot path's pieces in the xmpp layer, beside RapidXML alone on the same bytes.
#include "xmpp/stanza.hpp"
#include <algorithm>
#include <cstdio>
#include <ctime>
#define RAPIDXML_STATIC_POOL_SIZE (8 * 1024) // as in xmpp/element.cpp: one program, one definition
#define RAPIDXML_DYNAMIC_POOL_SIZE (16 * 1024)
#include <rapidxml/rapidxml.hpp>

namespace {
/// This thread's time on a processor: others on the machine count less.
double now_ns() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

/// Best of seven rounds: what else runs only ever adds.
template <class F>
double best(F f, int times = 100'000) {
  double least = 1e9;
  for (int round = 0; round < 7; ++round) {
    auto start = now_ns();
    for (int k = 0; k < times; ++k)
      f();
    least = std::min(least, (now_ns() - start) / times);
  }
  return least;
}
template <class T>
void keep(const T& v) { asm volatile("" ::"r"(&v) : "memory"); }

double measure_rapidxml(const std::string& text) {
  static rapidxml::xml_document<> tree;
  std::string copy;
  return best([&] {
    copy.assign(text);
    tree.clear();
    tree.parse<rapidxml::parse_validate_closing_tags>(copy.data());
    keep(tree);
  });
}

void compare(const char* name, const std::string& text) {
  xmpp::framer f;
  f.enter_stream(nullptr);
  auto framing = best([&] {
    f.enter_stream(nullptr);
    keep(f.run(text));
  });
  auto in_bytes = best([&] {
    f.enter_stream(nullptr);
    for (std::size_t n = 1; n <= text.size(); ++n)
      keep(f.run({text.data(), n}));
  }, 10'000);
  char out[8'192];
  auto from = *xmpp::parse_jid("user100@localhost/x"), by = *xmpp::parse_jid("user101@localhost");
  auto all = best([&] {
    f.enter_stream(nullptr);
    keep(f.run(text));
    auto s = xmpp::stanza::make(f.result(), text);
    s->from = from;
    s->stanza_id = {1, 2};
    s->stanza_id_by = by;
    keep(xmpp::render(out, {s}));
  });
  auto tree = measure_rapidxml(text);
  std::printf("%-22s %4zu bytes: RapidXML %6.1f ns, framer %6.1f ns (%.2f), with make, render, free %6.1f ns (%.2f), byte by byte %6.1f ns (%.2f)\n",
              name, text.size(), tree, framing, framing / tree, all, all / tree, in_bytes, in_bytes / tree);
}
} // namespace

int main() {
  compare("chat message", "<message to='user101@localhost/x' type='chat' id='m12345'><body>~17.12345.123456789012345~"
                            + std::string(72, 'x') + "</body></message>");
  compare("presence", "<presence from='juliet@example.com/balcony' to='romeo@example.net' id='p1' xml:lang='en'><show>away</show>"
                      "<status>I shall return!</status><priority>1</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' "
                      "node='http://example.com/client/' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/><x xmlns='vcard-temp:x:update'>"
                      "<photo>sha1-hash-of-image-000000000000000000000</photo></x><delay xmlns='urn:xmpp:delay' "
                      "stamp='2002-09-10T23:41:07Z'/><idle xmlns='urn:xmpp:idle:1' since='1969-07-21T02:56:15Z'/></presence>");
  compare("message in Greek", "<message to='user101@localhost/x' type='chat' id='m12345'><body>"
                              "\xce\xba\xce\xb1\xce\xbb\xce\xb7\xce\xbc\xce\xad\xcf\x81\xce\xb1 \xce\xba\xcf\x8c\xcf\x83\xce\xbc\xce\xb5, "
                              "\xcf\x80\xcf\x8e\xcf\x82 \xce\xb5\xce\xaf\xcf\x83\xce\xb1\xce\xb9;</body></message>");
  xmpp::jid_cache cache;
  auto find = [&](const std::string& raw) { return best([&] { keep(cache.find(raw)); }); };
  auto parse = [](const std::string& raw) { return best([&] { keep(xmpp::parse_jid(raw)); }); };
  std::string plain = "user101@localhost/x", upper = "User101@Localhost/x",
              wide = "j\xc3\xbcrgen@b\xc3\xbc" "cher.example/\xf0\x9f\x98\x80";
  std::printf("jid: cache hit %.1f ns, in another spelling %.1f ns; parsed %.1f ns, beyond ASCII %.1f ns\n", find(plain), find(upper),
              parse(plain), parse(wide));
  auto bare = *xmpp::parse_jid("user101@localhost");
  auto shared = xmpp::pooled(bare);
  std::printf("jid: pooled %.1f ns\n", best([&] { keep(xmpp::pooled(bare)); }));
  std::printf("bytes: framer %zu, stanza %zu + its text, jid %zu + its text\n", sizeof(xmpp::framer), sizeof(xmpp::stanza), sizeof(xmpp::jid));
}
