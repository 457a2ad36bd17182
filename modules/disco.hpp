// What other modules need of service discovery.
#pragma once
#include "modules/api/module.hpp"

namespace modules {

/// The verification string of XEP-0115 section 5.1 before it is hashed: identities and features of the
/// host, sorted. A '<' in a feature would make it ambiguous; namespaces have none.
[[nodiscard]] std::string capability_string(const host_view& host);

} // namespace modules
