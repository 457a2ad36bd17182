// A word to whoever owns an address, from anywhere.
#pragma once
#include "actors/entity.hpp"
#include "actors/home.hpp"
#include "actors/node.hpp"

namespace actors {

/// `f(entity&)`, in order with its stanzas, if it is in memory. Any thread.
template <class F>
void at_entity(node& around, const xmpp::jid& bare, F f) {
  if (auto* at = around.registry().charge_if_there(bare, home::control_cost))
    around.homes()[at->reactor]->post_from_anywhere([at, f = std::move(f)](home& h) mutable { h.post_to_entity(*at, std::move(f)); });
}

} // namespace actors
