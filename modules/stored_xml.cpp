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

xmpp::stanza_error error_of(storage::errc e) {
  if (e == storage::errc::corrupt)
    return {stanza_errc::internal_server_error, error_type::cancel, "stored data is damaged"};
  return {stanza_errc::resource_constraint, error_type::wait, "the storage does not answer"};
}

xmpp::stanza_error error_of(storage::outcome o) {
  return error_of(o == storage::outcome::corrupt ? storage::errc::corrupt : storage::errc::unavailable);
}

} // namespace modules
