// What other modules need of service discovery.
#pragma once
#include "modules/api/module.hpp"

namespace modules {

/// The verification string of XEP-0115 section 5.1 before it is hashed: identities and features of the
/// host, sorted. A '<' in a feature would make it ambiguous; namespaces have none.
[[nodiscard]] std::string capability_string(const host_view& host);

/// The answer of an entity with an address of its own, a service or a room, to whoever asks what it is (XEP-0030 sections
/// 3 and 4): one identity, these features and those of disco itself, no items, no nodes. Null: it does not ask that.
[[nodiscard]] xmpp::stanza_ref answer_disco(const xmpp::stanza& what, const identity& who, std::vector<std::string> features = {});

} // namespace modules
