// XML that is kept (stored_xml.hpp).
#include "modules/stored_xml.hpp"
#include "xmpp/framer.hpp"

namespace modules {

using xmpp::error_type;
using xmpp::stanza_errc;

std::optional<std::string> to_stored(const xmpp::element& el) {
  auto xml = el.to_xml();
  xmpp::framer f;
  f.set_limits({~0u, xmpp::framer::most_depth, xmpp::framer::most_attributes, xmpp::framer::most_namespaces, ~0u});
  f.enter_stream(nullptr);
  auto wrapped = "<iq><query xmlns='jabber:iq:private'>" + xml + "</query></iq>"; // it stands this deep at most
  if (f.run(wrapped) != xmpp::framer_event::element)
    return std::nullopt;
  return xml;
}

} // namespace modules
