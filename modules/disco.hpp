// What other modules need of service discovery.
#pragma once
#include "modules/api/module.hpp"

namespace modules {

/// The verification string of XEP-0115 section 5.1 before it is hashed: identities, features and forms of
/// the host, sorted. A '<' in one of them would make it ambiguous; namespaces and URIs have none.
[[nodiscard]] std::string capability_string(const host_view& host);

} // namespace modules
