// What stream management puts on the wire.
#include "xmpp/stream/management.hpp"
#include "base/bytes.hpp"

namespace xmpp::stream::management {

enable parse_enable(const element& e) {
  enable wanted;
  auto resume = e.attr_or("resume", {});
  wanted.resume = resume == "true" || resume == "1";
  wanted.max_s = base::to_number<std::uint32_t>(e.attr_or("max", {}));
  return wanted;
}

std::optional<std::uint32_t> parse_ack(const element& e) {
  return base::to_number<std::uint32_t>(e.attr_or("h", {}));
}

std::string enabled_xml(std::string_view id, std::uint32_t max_s) {
  writer w;
  w.open("enabled", ns);
  if (!id.empty())
    w.attr("id", id).attr("resume", "true").attr("max", std::to_string(max_s));
  return w.close().take();
}

std::string failed_xml(stanza_errc why, std::optional<std::uint32_t> h) {
  writer w;
  w.open("failed", ns);
  if (h)
    w.attr("h", std::to_string(*h));
  return w.open(name_of(why), "urn:ietf:params:xml:ns:xmpp-stanzas").close().close().take();
}

std::string handled_too_high_xml(std::uint32_t h, std::uint32_t sent) {
  writer w;
  w.open("stream:error").open("undefined-condition", "urn:ietf:params:xml:ns:xmpp-streams").close();
  w.open("handled-count-too-high", ns).attr("h", std::to_string(h)).attr("send-count", std::to_string(sent)).close();
  return w.close().take();
}

} // namespace xmpp::stream::management
