// A local certificate authority and the certificates that it signs: so that clients which verify can
// connect to a server that has no public name.
#pragma once
#include "base/result.hpp"
#include <string>
#include <vector>

namespace server {

struct certificate_files {
  std::string authority; // what clients are told to trust
  std::string chain, key;
  bool is_new = false;   // made by this call
};

/// Under `folder`: ca.pem, ca.key, <domain>.pem, <domain>.key, keys readable by their owner only. Makes
/// what is missing or ends within 30 days (the authority: 60), never touches what it did not make. The
/// certificate names the domain and its components (conference., upload., pubsub., proxy., …; for
/// localhost the loopback addresses, too). Subject alternative names: RFC 6120 section 13.7.1.2.
/// Errors: a text for the operator.
[[nodiscard]] base::result<certificate_files, std::string> local_certificate(const std::string& folder, const std::string& domain);

/// The name as it stands in DNS, certificates and client hellos: "xn--…" for what is beyond ASCII.
[[nodiscard]] std::string ascii_name(const std::string& domain);

/// How this machine is told to trust the authority.
[[nodiscard]] std::string how_to_trust(const std::string& authority);

} // namespace server
