// What can wait, and what supersedes what.
#include "xmpp/im/client_state.hpp"
#include "xmpp/im/message_class.hpp"
#include <algorithm>

namespace xmpp::im {

namespace {
bool is_plain_presence(const stanza& s) {
  return s.kind() == stanza_kind::presence && (s.type() == stanza_type::available || s.type() == stanza_type::unavailable);
}
/// Only the last one of its sender is worth anything.
bool supersedes(const stanza& later, const stanza& earlier) {
  if (later.kind() != earlier.kind() || !later.from || !earlier.from || !(*later.from == *earlier.from))
    return false;
  if (is_plain_presence(later))
    return is_plain_presence(earlier);
  auto is_typing = [](const stanza& s) { return facts_of(s).kind == message_kind::chat_state; };
  return later.kind() == stanza_kind::message && is_typing(later) && is_typing(earlier);
}
} // namespace

bool can_wait(const stanza& s) {
  if (s.kind() == stanza_kind::presence)
    return is_plain_presence(s);
  return s.kind() == stanza_kind::message && !handling_of(facts_of(s).kind).is_urgent;
}

bool held_back::hold(delivery& what, delivery& replaced) {
  if (!can_wait(*what.what))
    return false;
  auto earlier = std::find_if(waiting_.begin(), waiting_.end(), [&](auto& w) { return supersedes(*what.what, *w.what); });
  if (earlier != waiting_.end()) {
    replaced = std::move(*earlier);
    waiting_.erase(earlier);
  } else if (waiting_.size() >= most) {
    return false;
  }
  waiting_.push_back(std::move(what));
  return true;
}

} // namespace xmpp::im
