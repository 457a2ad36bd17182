// What a reactor has for the other nodes after a turn: in order, one batch.
#pragma once
#include "cluster/frame.hpp"
#include "cluster/registry.hpp"
#include "cluster/table.hpp"
#include "modules/api/effects.hpp"
#include <variant>

namespace actors {

namespace to_peers {
struct send { cluster::peer_number to; cluster::parcel what; };
/// The outcome of what came from another node (`id.node`).
struct ended { xmpp::completion_id id; modules::outcome how; xmpp::error_ref why; };
/// A session of this node, as every node sees it.
struct row { cluster::row what; bool is_removal; };
/// What came from there and has been handled.
struct handled { cluster::peer_number from; std::uint64_t stanzas, bytes; };
/// A session whose account is elsewhere goes on at another place here; then the old one hears session::on_moved. Without
/// `from` it begins, without `to` it ends.
struct relocated { std::uint64_t session; cluster::place from, to; };
using item = std::variant<send, ended, row, handled, relocated>;
} // namespace to_peers

using peer_batch = std::vector<to_peers::item>;

} // namespace actors
