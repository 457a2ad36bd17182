// XEP-0030 Service Discovery 2.5. What the host and its accounts are and can do, from what the modules
// registered.
#include "modules/all.hpp"
#include "modules/disco.hpp"
#include <algorithm>

namespace modules {

namespace {
constexpr auto ns_info = "http://jabber.org/protocol/disco#info";
constexpr auto ns_items = "http://jabber.org/protocol/disco#items";

void write_identity(xmpp::writer& w, const identity& i) {
  w.open("identity").attr("category", i.category).attr("type", i.type);
  if (!i.name.empty())
    w.attr("name", i.name);
  w.close();
}

std::string info(const std::vector<identity>& identities, std::vector<std::string> features, std::string_view node) {
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  xmpp::writer w;
  w.open("query", ns_info);
  if (!node.empty())
    w.attr("node", node);
  for (auto& i : identities)
    write_identity(w, i);
  for (auto& f : features)
    w.open("feature").attr("var", f).close();
  return w.close().take();
}

class disco final : public module {
public:
  std::string_view name() const override { return "disco"; }
  void start(registrar& reg) override {
    reg.identity({"server", "im", "covey"});
    for (auto where : {at::host, at::account}) {
      reg.feature(ns_info, where);
      reg.feature(ns_items, where);
    }
    reg.feature("jabber:iq:roster");
    reg.iq_get(at::host, ns_info, host_info);
    reg.iq_get(at::host, ns_items, host_items);
    reg.iq_get(at::account, ns_info, account_info);
    reg.iq_get(at::account, ns_items, account_items);
  }

private:
  static iq_reply host_info(iq_request& r) {
    auto node = r.payload.attr_or("node", {});
    // Entity capabilities ask with the node that the server announced (XEP-0115 section 6.2).
    if (!node.empty() && node != r.host.caps)
      return iq_reply::error(xmpp::stanza_errc::item_not_found);
    return iq_reply::payload(info(r.host.identities, r.host.host_features, node));
  }
  static iq_reply host_items(iq_request& r) {
    if (!r.payload.attr_or("node", {}).empty())
      return iq_reply::error(xmpp::stanza_errc::item_not_found);
    xmpp::writer w;
    w.open("query", ns_items);
    for (auto& i : r.host.items) {
      w.open("item").attr("jid", i.jid);
      if (!i.node.empty())
        w.attr("node", i.node);
      if (!i.name.empty())
        w.attr("name", i.name);
      w.close();
    }
    return iq_reply::payload(w.close().take());
  }
  /// Section 8: whether an account exists is its contacts' business alone.
  static bool may_ask(iq_request& r) { return r.is_own() || r.account->may_see_presence(*r.what->from); }
  static iq_reply account_info(iq_request& r) {
    if (!may_ask(r))
      return iq_reply::error(xmpp::stanza_errc::service_unavailable);
    if (!r.payload.attr_or("node", {}).empty())
      return iq_reply::error(xmpp::stanza_errc::item_not_found);
    return iq_reply::payload(info({{"account", "registered", {}}}, r.host.account_features, {}));
  }
  static iq_reply account_items(iq_request& r) {
    if (!may_ask(r))
      return iq_reply::error(xmpp::stanza_errc::service_unavailable);
    if (!r.payload.attr_or("node", {}).empty())
      return iq_reply::error(xmpp::stanza_errc::item_not_found);
    xmpp::writer w;
    w.open("query", ns_items);
    for (auto& s : r.account->sessions()) // its available resources (section 8.1 of XEP-0030)
      if (s.is_available)
        w.open("item").attr("jid", s.full->full()).close();
    return iq_reply::payload(w.close().take());
  }
};
} // namespace

std::string capability_string(const host_view& host) {
  std::vector<std::string> identities;
  for (auto& i : host.identities)
    identities.push_back(i.category + '/' + i.type + "//" + i.name + '<');
  auto features = host.host_features;
  std::sort(features.begin(), features.end());
  features.erase(std::unique(features.begin(), features.end()), features.end());
  std::sort(identities.begin(), identities.end());
  std::string s;
  for (auto& i : identities)
    s += i;
  for (auto& f : features)
    s += f + '<';
  return s;
}

xmpp::stanza_ref answer_disco(const xmpp::stanza& what, const identity& who, std::vector<std::string> features) {
  if (what.kind() != xmpp::stanza_kind::iq || !what.is_request())
    return nullptr;
  xmpp::document parser;
  auto query = parser.parse(what.bytes()).first_child();
  bool is_info = query.is("query", ns_info);
  if (!is_info && !query.is("query", ns_items))
    return nullptr;
  if (what.type() == xmpp::stanza_type::set)
    return xmpp::make_error(what, xmpp::stanza_errc::not_allowed);
  if (!query.attr_or("node", {}).empty())
    return xmpp::make_error(what, xmpp::stanza_errc::item_not_found);
  features.insert(features.end(), {ns_info, ns_items});
  xmpp::writer nothing;
  nothing.open("query", ns_items).close();
  return xmpp::make_result(what, is_info ? info({who}, std::move(features), {}) : nothing.take());
}

std::unique_ptr<module> make_disco() { return std::make_unique<disco>(); }

} // namespace modules
