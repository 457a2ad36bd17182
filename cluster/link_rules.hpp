// Rules of links that both ends compute alike: who may connect, by which version, and which of two links between the
// same nodes stays. Pure.
#pragma once
#include "cluster/transport.hpp"
#include <map>
#include <optional>

namespace cluster::wire {

/// 1 to 63 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit.
[[nodiscard]] bool is_node_name(std::string_view name);
/// The subject alternative name (a URI) by which a certificate names a node: "covey-node:NAME". A URI, so that no host
/// name and no certificate of a public authority can be mistaken for it.
[[nodiscard]] std::string node_uri(std::string_view name);
/// The one node that a certificate with these URIs names. Nothing: none, or more than one.
[[nodiscard]] std::optional<std::string> node_of(const std::vector<std::string>& uris);
/// "host:port", "[2001:db8::1]:port": a host that is not empty and a port from 1 to 65535.
[[nodiscard]] bool is_node_address(std::string_view text);

/// The version to speak. `bears`: the name in the peer's certificate. Errors: why the peer is refused.
[[nodiscard]] base::result<std::uint32_t, refusal> check_hello(const hello& own, const hello& peer, std::string_view bears);

/// All links of one node, and which of them stays where two join the same pair of nodes. A link is made in three steps:
/// the dialler's hello, the acceptor's hello, the dialler's "ready". The dialler decides when it has the acceptor's
/// hello, and then knows of every link that the acceptor may have taken from it or offered to it:
/// - one that is connected already stays, the new one is given up;
/// - one that the other end dialled and that is not ready yet: the link that the lower name dialled stays;
/// - what belongs to another incarnation goes.
/// The acceptor obeys: with "ready" every other link to that node is stale, and goes.
class link_table {
public:
  void add(link_id link, bool is_dialled) { links_[link].is_dialled = is_dialled; }
  void remove(link_id link) { links_.erase(link); }
  struct decision {
    bool stays = true;
    std::vector<link_id> go; // other links
  };
  /// At the dialler: the acceptor's hello came.
  decision on_hello(link_id link, const hello& own, const hello& peer);
  /// At the acceptor: our hello goes out.
  void on_accept(link_id link, const hello& peer);
  /// At the acceptor: the dialler is ready. Links that go.
  std::vector<link_id> on_ready(link_id link);
  [[nodiscard]] std::size_t size() const { return links_.size(); }

private:
  struct entry {
    bool is_dialled = false, is_connected = false;
    std::string node; // empty: not known yet
    std::uint64_t incarnation = 0;
  };
  std::map<link_id, entry> links_;
};

} // namespace cluster::wire
