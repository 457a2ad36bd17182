// Looks at each host's certificate and swaps what is new.
#include "server/renewal.hpp"
#include "actors/node.hpp"
#include "base/log.hpp"
#include "net/tls_identity.hpp"
#include "server/certificates.hpp"
#include "server/runner.hpp"

namespace server {

void publish_dns_names(runner& r) {
  auto& all = r.node().certificates();
  for (auto& h : r.settings().hosts)
    if (auto name = ascii_name(h.domain); name != h.domain)
      if (auto context = all.find(h.domain))
        all.put(name, context);
}

void renew_certificates(runner& r, bool reads_all) {
  auto& c = r.settings();
  auto folder = c.data_folder + "/certificates";
  for (auto& h : c.hosts) {
    if (h.certificate.empty())
      continue;
    bool is_local = h.certificate.starts_with(folder + '/'), is_new = reads_all;
    auto failed = [&](const std::string& why) {
      base::log::error("certificate.not_renewed", "the certificate in force stays", {{"domain", h.domain}, {"error", why}});
    };
    if (is_local) {
      auto made = local_certificate(folder, h.domain);
      if (!made) {
        failed(made.error());
        continue;
      }
      is_new |= made->is_new;
    }
    if (!is_new)
      continue;
    if (auto ok = net::check_certificate(h.certificate, h.key, ascii_name(h.domain)); !ok) {
      failed(ok.error().file + ": " + ok.error().text);
      continue;
    }
    auto context = net::make_server_context(h.certificate, h.key, c.tls_of(h));
    if (!context) {
      failed(context.error().file + ": " + context.error().text);
      continue;
    }
    r.node().certificates().put(h.domain, *context);
    base::log::info("certificate.renewed", "new connections get the new certificate", {{"domain", h.domain}, {"file", h.certificate}});
  }
  publish_dns_names(r);
}

} // namespace server
