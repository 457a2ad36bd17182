// What well-known clients look for, and which of it a host does not have: from what its modules register.
#include "server/doctor/parts.hpp"
#include "base/random.hpp"
#include "server/host_builder.hpp"
#include "server/login_settings.hpp"
#include "storage/memory/engine.hpp"
#include <algorithm>
#include <set>

namespace server::doctor {

namespace {
/// A feature as clients find it: in disco, in stream features, or as the namespace of a request.
struct feature { const char *ns, *name; };
constexpr feature ping{"urn:xmpp:ping", "ping (XEP-0199)"}, vcard{"vcard-temp", "vCards (XEP-0054)"}, registration{"jabber:iq:register", "registration (XEP-0077)"},
    blocking{"urn:xmpp:blocking", "blocking (XEP-0191)"}, management{"urn:xmpp:sm:3", "stream management (XEP-0198)"}, carbons{"urn:xmpp:carbons:2", "carbons (XEP-0280)"},
    archive{"urn:xmpp:mam:2", "message archive (XEP-0313)"}, state{"urn:xmpp:csi:0", "client state (XEP-0352)"}, push{"urn:xmpp:push:0", "push (XEP-0357)"},
    upload{"urn:xmpp:http:upload:0", "file upload (XEP-0363)"}, pep{"http://jabber.org/protocol/pubsub#publish", "personal events (XEP-0163)"},
    options_of{"http://jabber.org/protocol/pubsub#publish-options", "publish options (XEP-0060)"}, services{"urn:xmpp:extdisco:2", "external services for calls (XEP-0215)"},
    versions{"urn:xmpp:features:rosterver", "roster versions (RFC 6121)"}, sasl2{"urn:xmpp:sasl:2", "SASL2 (XEP-0388)"}, bind2{"urn:xmpp:bind:0", "Bind 2 (XEP-0386)"},
    downgrade{"urn:xmpp:ssdp:0", "downgrade protection (XEP-0474)"}, invites{"urn:xmpp:invite", "invitations (XEP-0379)"}, rooms{"http://jabber.org/protocol/muc", "group chat (XEP-0045)"},
    conversion{"urn:xmpp:pep-vcard-conversion:0", "avatar conversion (XEP-0398)"}, bookmarks{"urn:xmpp:bookmarks:1#compat", "bookmarks (XEP-0402)"},
    private_xml{"jabber:iq:private", "private XML (XEP-0049)"}, web{"urn:xmpp:alt-connections:websocket", "WebSocket (RFC 7395)"};

struct client { std::string name; std::vector<feature> needs; };
/// From the clients' own pages on what a server can do.
const client known[]{
    {"Conversations", {pep, options_of, blocking, management, services, versions, carbons, archive, state, push, upload, sasl2, bind2}},
    {"Monal", {blocking, management, ping, carbons, archive, state, push, upload, pep, options_of, invites, sasl2, downgrade}},
    {"Gajim", {rooms, vcard, pep, options_of, blocking, management, carbons, archive, upload, conversion, bookmarks}},
    {"Dino", {management, blocking, services, pep, options_of, carbons, archive, upload}},
    {"Converse.js", {web, rooms, archive, upload, carbons, bookmarks}},
    {"Profanity", {ping, carbons, archive, pep, rooms}},
    {"Psi", {blocking, rooms, vcard, private_xml, registration}},
};

/// Everything that looks like a namespace in `xml`.
void find_namespaces(const std::string& xml, std::set<std::string>& into) {
  for (auto at = xml.find("xmlns="); at != xml.npos; at = xml.find("xmlns=", at + 1)) {
    auto quote = at + 6, end = quote < xml.size() ? xml.find(xml[quote], quote + 1) : xml.npos;
    if (end != xml.npos)
      into.insert(xml.substr(quote + 1, end - quote - 1));
  }
}

std::set<std::string> features_of(const host_config& h, const config& c) {
  base::system_clock clock;
  base::secure_random random;
  actors::node node{{}, clock, random};
  actors::pool nothing_to_do{0};
  host_base base;
  base.own_store = std::make_unique<storage::inline_store>(std::make_unique<storage::memory_engine>());
  base.store = base.own_store.get();
  base.accounts = std::make_unique<stored_accounts>(*base.store, nothing_to_do, node, random, account_settings_of(h, c.iterations, {}, {}));
  auto host = build_host(h, c, true, base, node);
  std::set<std::string> all{host->view.host_features.begin(), host->view.host_features.end()};
  all.insert(host->view.account_features.begin(), host->view.account_features.end());
  for (auto* table : {&host->view.host_iqs, &host->view.account_iqs})
    for (auto& [key, handler] : *table)
      all.insert(key.first);
  find_namespaces(host->stream.features_before_login, all);
  find_namespaces(host->stream.features_after_login, all);
  for (auto* of_the_core : {&sasl2, &bind2, &downgrade}) // wherever there is TLS
    all.insert(of_the_core->ns);
  if (host->stream.stream_management)
    all.insert(management.ns);
  return all;
}

std::string missing_of(const client& c, const std::set<std::string>& there) {
  std::string missing;
  for (auto& f : c.needs)
    if (!there.contains(f.ns))
      missing += (missing.empty() ? "" : ", ") + std::string{f.name};
  return missing;
}
} // namespace

void check_clients(const config& c, findings& out) {
  std::set<std::set<std::string>> seen;
  for (auto& h : c.hosts) {
    auto there = features_of(h, c);
    if (!seen.insert(there).second)
      continue; // as an earlier host
    host_config all_on = h;
    for (auto& [name, is_on] : all_on.modules_on)
      is_on = true;
    auto possible = features_of(all_on, c);
    for (auto& k : known) {
      auto missing = missing_of(k, there);
      if (missing.empty())
        out.push_back({"client.served", severity::ok, h.domain + " has all that " + k.name + " looks for", {}});
      else if (missing == missing_of(k, possible))
        out.push_back({"client.misses", severity::note, k.name + " does not find at " + h.domain + ", as this version or its settings have it not: " + missing, {}});
      else
        out.push_back({"client.misses_switched_off", severity::warning, k.name + " does not find at " + h.domain + ": " + missing,
                       "switch the modules on that covey config show --effective says are off"});
    }
  }
}

} // namespace server::doctor
