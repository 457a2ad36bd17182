// What a stream offers, before and after login.
#include "base/bytes.hpp"
#include "xmpp/sasl/external.hpp"
#include "xmpp/stream/negotiation_impl.hpp"
#include <algorithm>

namespace xmpp::stream {
namespace {

constexpr std::string_view ns_binding_types = "urn:xmpp:sasl-cb:0"; // XEP-0440
constexpr std::string_view ns_limits = "urn:xmpp:stream-limits:0";  // XEP-0478
constexpr std::string_view ns_compress_feature = "http://jabber.org/features/compress"; // XEP-0138
constexpr std::size_t config_version_bytes = 12;

std::vector<std::string_view> binding_types(const sasl::channel_bindings& b) {
  std::vector<std::string_view> types;
  if (!b.tls_exporter.empty())
    types.push_back("tls-exporter");
  if (!b.tls_server_end_point.empty())
    types.push_back("tls-server-end-point");
  return types;
}

void write_limits(writer& w, std::uint32_t max_bytes) {
  if (max_bytes != 0)
    w.open("limits", ns_limits).leaf("max-bytes", std::to_string(max_bytes)).close();
}

} // namespace

bool negotiation::impl::may_use(sasl::mechanism_kind k) const {
  using enum sasl::mechanism_kind;
  if (sasl::is_token(k))
    return host->tokens && offers_sasl2()
           && (k == ht_sha256_none || (tls && !(k == ht_sha256_exporter ? tls->bindings.tls_exporter
                                                                        : tls->bindings.tls_server_end_point).empty()));
  if (std::find(host->mechanisms.begin(), host->mechanisms.end(), k) == host->mechanisms.end())
    return false;
  if (k == external)
    return tls && !sasl::accounts_among(tls->client_addresses, host->domain).empty();
  if (sasl::is_plus(k))
    return tls && tls->bindings.any();
  return tls || k != plain || host->plain_without_tls;
}

bool negotiation::impl::offers_plus() const {
  return std::any_of(std::begin(sasl::all_mechanisms), std::end(sasl::all_mechanisms),
                     [this](auto k) { return sasl::is_plus(k) && may_use(k); });
}

/// The mechanisms are the same in both profiles.
std::string negotiation::impl::downgrade_text() const {
  std::vector<std::string_view> names;
  for (auto k : sasl::all_mechanisms)
    if (may_use(k))
      names.push_back(sasl::name_of(k));
  return sasl::downgrade_text(std::move(names), offers_plus() ? binding_types(tls->bindings) : std::vector<std::string_view>{});
}

std::string negotiation::impl::features_before_login() {
  writer w;
  w.open("stream:features");
  if (!tls && host->has_tls) {
    w.open("starttls", ns_tls);
    if (host->require_tls)
      w.open("required").close();
    w.close();
  }
  if (!may_login())
    return w.close().take();
  auto write_mechanisms = [&](auto& kinds) {
    for (auto k : kinds)
      if (may_use(k))
        w.leaf("mechanism", sasl::name_of(k));
  };
  w.open("mechanisms", ns_sasl);
  write_mechanisms(sasl::all_mechanisms);
  w.close();
  if (offers_sasl2()) {
    w.open("authentication", ns_sasl2);
    write_mechanisms(sasl::all_mechanisms);
    w.open("inline");
    w.open("bind", ns_bind2).open("inline");
    for (auto& [is_on, var] : {std::pair{host->carbons, ns_carbons}, {host->client_state, ns_client_state},
                               {host->stream_management, ns_management}})
      if (is_on)
        w.open("feature").attr("var", var).close();
    w.close().close();
    if (host->stream_management)
      w.open("sm", ns_management).close();
    if (host->tokens) {
      w.open("fast", ns_fast);
      write_mechanisms(sasl::token_mechanisms);
      w.close();
    }
    w.close(); // inline
    for (auto h : host->upgrades)
      w.open("upgrade", ns_upgrade).text("UPGR-" + std::string{sasl::scram_name(h)}).close();
    w.close();
  }
  if (offers_plus()) {
    w.open("sasl-channel-binding", ns_binding_types);
    for (auto type : binding_types(tls->bindings))
      w.open("channel-binding").attr("type", type).close();
    w.close();
  }
  write_limits(w, host->max_bytes_before_login);
  w.raw(host->features_before_login);
  if (!offers_sasl2())
    return w.close().take();
  auto so_far = w.close().take();
  config_version = base::to_hex(base::crypto::digest(base::crypto::hash::sha256, so_far).substr(0, config_version_bytes));
  writer version;
  version.open("config-version", ns_config_version).attr("scheme", "opaque").attr("value", config_version).close();
  so_far.insert(so_far.rfind("</"), version.take());
  return so_far;
}

std::string negotiation::impl::features_after_login(bool is_bound, bool is_managed) const {
  writer w;
  w.open("stream:features");
  if (!is_bound) {
    w.open("bind", ns_bind).close();
    w.open("session", ns_session).open("optional").close().close();
  }
  if (host->stream_management && !is_managed)
    w.open("sm", ns_management).close();
  if (host->compression && !is_compressed && !is_bound)
    w.open("compression", ns_compress_feature).leaf("method", "zlib").close();
  write_limits(w, host->max_bytes);
  w.raw(host->features_after_login);
  return w.close().take();
}

} // namespace xmpp::stream
