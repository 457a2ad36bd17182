// Starts the host's modules, and puts what they registered beside its settings.
#include "server/host_builder.hpp"
#include "modules/all.hpp"
#include "server/login_settings.hpp"
#include "server/settings_view.hpp"
#include <algorithm>

namespace server {

namespace {
/// A host with all that its handlers refer to; in this order, as handlers go before their modules.
struct built_host {
  host_config config;
  std::vector<std::unique_ptr<modules::module>> all;
  std::vector<std::unique_ptr<settings_view>> settings;
  modules::services services;
  actors::host host;
};

void start_modules(built_host& b) {
  static const module_settings none;
  for (auto& m : b.all) {
    auto name = std::string{m->name()};
    auto on = b.config.modules_on.find(name);
    if (on != b.config.modules_on.end() ? !on->second : !m->is_on_by_default())
      continue;
    auto values = b.config.modules.find(name);
    b.settings.push_back(std::make_unique<settings_view>(values == b.config.modules.end() ? none : values->second));
    modules::registrar reg{b.host.view, name, *b.settings.back(), b.services};
    m->start(reg);
  }
}
} // namespace

actors::host_ref build_host(const host_config& h, const config& c, bool has_tls, host_base& base, actors::node& node) {
  std::shared_ptr<built_host> b{new built_host{h, modules::all(), {}, {*base.accounts, node.clock(), node.random(), base.stanza_id_key, base.store}, {}}};
  auto& host = b->host;
  host.view.domain = xmpp::parse_jid(h.domain).value(); // checked when it was read
  host.view.admins = h.admins;
  host.view.stream_features = std::string{xmpp::im::roster_versioning_feature} + std::string{xmpp::im::pre_approval_feature};
  host.store = base.store;
  if (h.engine == "postgresql") // its own patience ends first, and says what became of it
    host.storage_wait = c.database_patience + std::chrono::seconds{5};
  host.is_pinned = node.peers() && !h.node.empty();
  host.is_shared = node.peers() && !host.is_pinned && h.engine == "postgresql";
  host.credentials = base.accounts.get();
  host.on_conflict = h.on_conflict;
  host.max_sessions = h.max_sessions;
  host.max_roster = h.max_roster;
  host.management = h.management;
  host.has_client_state = h.has_client_state;
  host.account_rates = h.account_rates;
  host.keepalive = h.keepalive;
  start_modules(*b);
  auto& s = host.stream;
  s.domain = h.domain;
  s.has_tls = has_tls;
  set_login(s, h);
  s.compression = h.has_compression;
  s.max_bytes_before_login = static_cast<std::uint32_t>(c.node.before_login.max_size);
  s.max_bytes = static_cast<std::uint32_t>(c.node.after_login.max_size);
  s.fake_secret = base.fake_secret;
  s.fake_iterations = c.iterations;
  s.features_before_login = host.view.login_features;
  s.features_after_login = host.view.stream_features;
  if (h.has_client_state)
    s.features_after_login += "<csi xmlns='urn:xmpp:csi:0'/>";
  s.stream_management = h.management.is_on;
  s.client_state = h.has_client_state;
  s.carbons = std::ranges::find(host.view.host_features, "urn:xmpp:carbons:2") != host.view.host_features.end();
  for (auto& [ns, handler] : host.view.stranger_iqs)
    s.namespaces_before_login.push_back(ns);
  return {b, &b->host};
}

} // namespace server
