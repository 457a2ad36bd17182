// Each host's certificate: the operator's, or the local authority's.
#include "server/renewal.hpp"
#include "base/log.hpp"
#include "server/certificates.hpp"

namespace server {

provided provide_certificates(config& c) {
  auto folder = c.data_folder + "/certificates";
  provided all;
  for (auto& h : c.hosts) {
    if (!h.certificate.empty() && !h.certificate.starts_with(folder + '/'))
      continue;
    auto made = local_certificate(folder, h.domain);
    if (!made) {
      if (all.failed.empty())
        all.failed = made.error();
      continue;
    }
    h.certificate = made->chain;
    h.key = made->key;
    all.is_any_new |= made->is_new;
    if (made->is_new)
      base::log::info("certificate.made", "a certificate was made; clients that verify need its authority",
                      {{"domain", h.domain}, {"authority", made->authority}, {"trust", how_to_trust(made->authority)}});
  }
  return all;
}

} // namespace server
