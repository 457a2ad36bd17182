// Certificates of a running server: local ones before they end, the operator's when told to.
#pragma once

namespace server {

class runner;

/// Makes anew what the local authority made and what ends within 30 days. `reads_all`: reads the
/// operator's files again, too. Connections keep what they began with; what cannot be used is logged and
/// the certificate in force stays. Any one thread; reads and writes files.
void renew_certificates(runner& r, bool reads_all);

/// Clients name a host as DNS has it: "xn--…" gets the certificate of the host, too.
void publish_dns_names(runner& r);

} // namespace server
