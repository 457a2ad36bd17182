// The router: code, not an actor. Runs in the sender's own turn and finds who owns the address.
#pragma once
#include "actors/home.hpp"
#include "actors/host.hpp"

namespace actors {

/// Sends `what` on its way to its `to` (or the stanza's own). What cannot go anywhere comes back to
/// its sender as the error that RFC 6120 section 10 and RFC 6121 section 8 name; its completion ends.
void route(home& at, xmpp::delivery&& what);

/// What a session that has ended did not take. A copy that another session has is dropped.
void route_again(home& at, xmpp::delivery&& what);

/// What did not get to the node that it was for: its owner may be there again, or elsewhere. Also what nobody would say again.
void route_returned(home& at, xmpp::delivery&& what);

/// The error answer goes to the sender, the completion ends as bounced.
void bounce(home& at, const xmpp::stanza& what, const xmpp::stanza_error& why);

/// Answers what is addressed to the host itself: IQs by its modules; the rest is refused. The answer,
/// now or later, is routed.
void serve_host(home& at, const host_ref& h, xmpp::delivery&& what);

/// Runs the handler that owns the payload's namespace. Null: the answer comes later, or none is due.
/// `account` and `out` for account scope. `at`: where a late answer is routed from.
[[nodiscard]] xmpp::stanza_ref serve_iq(home* at, const host_ref& h, modules::at scope,
                                        const xmpp::stanza_ref& what,
                                        modules::account_view* account = nullptr,
                                        modules::effects* out = nullptr);

/// To a service that exists once in the cluster, on whichever node has it now.
void route_to_service(home& at, const xmpp::jid_ref& name, xmpp::delivery&& what);

/// To the owner of its address on another node; at most a few times in a row.
void send_to_peer(home& at, cluster::peer_number to, xmpp::delivery&& what);

/// To every session of the host on this node, on every reactor; one shared stanza, `to` is each one's own.
void broadcast_here(home& at, const std::string& domain, const xmpp::stanza_ref& what);
/// The same on every node.
void broadcast(home& at, const std::string& domain, const xmpp::stanza_ref& what);

} // namespace actors
