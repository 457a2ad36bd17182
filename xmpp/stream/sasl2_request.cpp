// Reading what comes with a login (sasl2_request.hpp).
#include "xmpp/stream/sasl2_request.hpp"
#include "base/bytes.hpp"
#include <algorithm>

namespace xmpp::stream {
namespace {

constexpr std::size_t resource_bytes = 9;

/// xs:boolean.
bool is_true(std::string_view s) { return s == "true" || s == "1"; }

std::optional<base::crypto::hash> upgrade_of(std::string_view task) {
  using enum base::crypto::hash;
  for (auto h : {sha1, sha256, sha512})
    if (task.starts_with("UPGR-") && task.substr(5) == sasl::scram_name(h))
      return h;
  return std::nullopt;
}

} // namespace

std::optional<resume_request> parse_resume(const element& e) {
  auto h = base::to_number<std::uint32_t>(e.attr_or("h", {}));
  auto previd = e.attr_or("previd", {});
  if (!h || previd.empty())
    return std::nullopt;
  return resume_request{std::string{previd}, *h};
}

bind_request parse_bind(const element& e, const host_settings& host) {
  bind_request b;
  b.tag = e.child("tag", ns_bind2).text();
  if (auto enable = e.child("enable", ns_management); enable && host.stream_management)
    b.extras.enable_management = bind_extras::management{is_true(enable.attr_or("resume", {})),
                                                         base::to_number<std::uint32_t>(enable.attr_or("max", {})).value_or(0)};
  b.extras.carbons = host.carbons && e.child("enable", ns_carbons);
  b.extras.inactive = host.client_state && e.child("inactive", ns_client_state);
  return b;
}

base::result<authenticate, sasl_errc> parse_authenticate(const element& e, const host_settings& host) {
  authenticate a;
  a.mechanism = e.attr_or("mechanism", {});
  for (auto c = e.first_child(); c; c = c.next_sibling()) {
    if (c.is("initial-response", ns_sasl2)) {
      a.initial_response = c.text();
    } else if (c.is("user-agent", ns_sasl2)) {
      a.client = c.attr_or("id", {});
      if (a.client.size() > max_client)
        return base::fail(sasl_errc::malformed_request);
    } else if (c.is("config-version", ns_config_version)) {
      a.config_version = c.attr_or("value", {});
    } else if (c.is("fast", ns_fast)) {
      a.uses_token = true;
      a.invalidates_token = is_true(c.attr_or("invalidate", {}));
      if (auto text = c.attr("count")) {
        a.count = base::to_number<std::uint32_t>(*text);
        if (a.count.value_or(0) == 0) // "a positive integer"
          return base::fail(sasl_errc::malformed_request);
      }
    } else if (c.is("request-token", ns_fast)) {
      a.wants_token = sasl::parse_mechanism(c.attr_or("mechanism", {}));
    } else if (c.is("upgrade", ns_upgrade)) {
      auto h = upgrade_of(c.text());
      if (h && std::find(a.upgrades.begin(), a.upgrades.end(), *h) == a.upgrades.end())
        a.upgrades.push_back(*h);
    } else if (c.is("resume", ns_management) && host.stream_management) {
      a.wants_resume = true;
      a.resume = parse_resume(c);
    } else if (c.is("bind", ns_bind2)) {
      a.bind = parse_bind(c, host);
    }
  }
  return a;
}

base::result<jid_ref, jid_errc> choose_resource(const jid& account, std::string_view tag, std::string_view client,
                                                std::string_view secret, base::random& random) {
  std::string id;
  if (client.empty()) {
    id = random.hex(resource_bytes);
  } else {
    std::string input{"resource"};
    for (auto part : {account.bare(), client})
      input.append(1, '\0').append(part);
    id = base::to_hex(base::crypto::hmac(base::crypto::hash::sha256, secret, input).substr(0, resource_bytes));
  }
  if (!tag.empty())
    if (auto full = with_resource(account, std::string{tag} + '/' + id))
      return full;
  return with_resource(account, id);
}

} // namespace xmpp::stream
