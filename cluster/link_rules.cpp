// cluster/link_rules.hpp, and the names of what transports report.
#include "cluster/link_rules.hpp"
#include "base/bytes.hpp"
#include <algorithm>

namespace cluster::wire {

namespace {
constexpr std::string_view scheme = "covey-node:";

bool is_lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

std::string range(const hello& h) {
  return h.version_min == h.version_max ? std::to_string(h.version_min) : std::to_string(h.version_min) + " to " + std::to_string(h.version_max);
}
} // namespace

std::string_view to_text(refusal_code c) {
  switch (c) {
    case refusal_code::wrong_cluster: return "wrong_cluster";
    case refusal_code::wrong_certificate: return "wrong_certificate";
    case refusal_code::wrong_version: return "wrong_version";
    case refusal_code::name_taken: return "name_taken";
    case refusal_code::self: return "self";
    case refusal_code::duplicate: return "duplicate";
    case refusal_code::unwelcome: return "unwelcome";
    case refusal_code::malformed: return "malformed";
    case refusal_code::leaving: return "leaving";
  }
  return "unknown"; // of a newer version
}

std::string_view to_text(close_cause c) {
  switch (c) {
    case close_cause::connection_refused: return "connection_refused";
    case close_cause::unreachable: return "unreachable";
    case close_cause::reset: return "reset";
    case close_cause::refused: return "refused";
    case close_cause::refused_here: return "refused_here";
    case close_cause::bad_certificate: return "bad_certificate";
    case close_cause::protocol_error: return "protocol_error";
    case close_cause::overrun: return "overrun";
    case close_cause::duplicate: return "duplicate";
    case close_cause::timeout: return "timeout";
    case close_cause::idle: return "idle";
  }
  return "unknown";
}

bool is_node_name(std::string_view name) {
  return !name.empty() && name.size() <= 63 && is_lower_or_digit(name[0])
         && std::all_of(name.begin(), name.end(), [](char c) { return is_lower_or_digit(c) || c == '-' || c == '_' || c == '.'; });
}

std::string node_uri(std::string_view name) { return std::string{scheme} + std::string{name}; }

std::optional<std::string> node_of(const std::vector<std::string>& uris) {
  std::optional<std::string> found;
  for (auto& u : uris) {
    if (!u.starts_with(scheme))
      continue;
    auto name = u.substr(scheme.size());
    if (found || !is_node_name(name))
      return std::nullopt;
    found = std::move(name);
  }
  return found;
}

bool is_node_address(std::string_view text) {
  auto colon = text.rfind(':');
  if (colon == text.npos || colon == 0 || text.size() > 300)
    return false;
  auto host = text.substr(0, colon);
  auto port = base::to_number<std::uint16_t>(text.substr(colon + 1));
  if (!port || *port == 0)
    return false;
  if (host.front() == '[')
    return host.size() > 2 && host.back() == ']' && host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
  });
}

base::result<std::uint32_t, refusal> check_hello(const hello& own, const hello& peer, std::string_view bears) {
  using enum refusal_code;
  if (!is_node_name(peer.node))
    return base::fail(refusal{malformed, "the hello has no name of a node"});
  if (peer.cluster != own.cluster)
    return base::fail(refusal{wrong_cluster, "this is a node of the cluster \"" + own.cluster + "\", not of \"" + peer.cluster.substr(0, 100) + '"'});
  if (bears != peer.node)
    return base::fail(refusal{wrong_certificate, "the certificate of \"" + peer.node + "\" bears the name \"" + std::string{bears} + '"'});
  if (peer.node == own.node && peer.incarnation == own.incarnation)
    return base::fail(refusal{self, "this is the node \"" + own.node + "\" itself"});
  if (peer.node == own.node)
    return base::fail(refusal{name_taken, "there is a node \"" + own.node + "\" already: each needs a name and a certificate of its own"});
  if (!is_node_address(peer.address))
    return base::fail(refusal{malformed, "the hello has no address"});
  auto highest = std::min(own.version_max, peer.version_max);
  if (highest < std::max(own.version_min, peer.version_min))
    return base::fail(refusal{wrong_version, '"' + own.node + "\" speaks versions " + range(own) + ", \"" + peer.node + "\" " + range(peer)});
  return highest;
}

link_table::decision link_table::on_hello(link_id link, const hello& own, const hello& peer) {
  decision d;
  for (auto& [id, e] : links_) {
    if (id == link || e.node != peer.node)
      continue;
    if (e.incarnation == peer.incarnation && (e.is_connected || peer.node < own.node))
      return {false, {}};
    d.go.push_back(id);
  }
  links_[link] = {true, true, peer.node, peer.incarnation};
  return d;
}

void link_table::on_accept(link_id link, const hello& peer) { links_[link] = {false, false, peer.node, peer.incarnation}; }

std::vector<link_id> link_table::on_ready(link_id link) {
  auto& mine = links_[link];
  mine.is_connected = true;
  std::vector<link_id> go;
  for (auto& [id, e] : links_)
    if (id != link && e.node == mine.node)
      go.push_back(id);
  return go;
}

} // namespace cluster::wire
