// JIDs and stanzas as tests write them.
#pragma once
#include "xmpp/stanza.hpp"
#include <doctest/doctest.h>

namespace covey_tests {

inline xmpp::jid_ref jid(std::string_view text) {
  auto j = xmpp::parse_jid(text);
  REQUIRE(j.has_value());
  return *j;
}
inline xmpp::stanza_ref stanza(std::string_view xml, std::string_view from, std::string_view to) {
  auto s = xmpp::stanza::from_xml(xml);
  s->from = jid(from);
  s->to = jid(to);
  return s;
}

} // namespace covey_tests
