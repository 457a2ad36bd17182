// JIDs from any bytes: what is accepted is a fixed point, its parts are sound, and the cache agrees.
#include "xmpp/framer.hpp"
#include "xmpp/jid.hpp"
#include <cstdlib>

using namespace xmpp;

namespace {
void require(bool holds) {
  if (!holds)
    std::abort();
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view in{reinterpret_cast<const char*>(data), size};
  static jid_cache cache;
  auto j = parse_jid(in);
  if (in.find('&') == in.npos) {
    auto cached = cache.find(in);
    require(static_cast<bool>(cached) == j.has_value());
    require(!cached || *cached == **j);
    require(!cached || *cache.find(in) == **j);
  }
  if (!j)
    return 0;
  auto& v = **j;
  auto again = parse_jid(v.full());
  require(again.has_value() && **again == v); // or one name would be two accounts
  require(!v.domain().empty() && v.domain().size() <= 1'023 && v.local().size() <= 1'023 && v.resource().size() <= 1'023);
  require(v.local().find_first_of("\"&'/:<>@ ") == std::string_view::npos);
  require(v.domain().find_first_of("@/ ") == std::string_view::npos);
  auto made = make_jid(v.local(), v.domain(), v.resource());
  require(made.has_value() && (*made)->full() == v.full());
  require(bare_of(*j)->full() == v.bare() && domain_of(v)->full() == v.domain());
  auto shared = pooled(*j);
  require(shared->full() == v.bare() && pooled(*j).get() == shared.get());
  framer f; // what we write into attributes is legal there
  f.enter_stream(nullptr);
  std::string xml = "<a b='";
  for (char c : v.full())
    xml += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '\'' ? "&apos;" : std::string(1, c);
  require(f.run(xml + "'/>") == framer_event::element);
  return 0;
}
