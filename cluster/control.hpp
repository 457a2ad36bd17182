// What an account says to its session on another node, and the session to it, beside stanzas. Flat, as it is on the wire.
#pragma once
#include "base/bytes.hpp"
#include "xmpp/jid.hpp"
#include <string>
#include <vector>

namespace cluster {

struct control {
  enum class kind : std::uint8_t {
    // to the account
    attach,     // full, clock, flags; with `is_back`: it was attached elsewhere, ids (one) has the epoch of the place and one, and the
                // parcel its last presence; with `was_lost`: and that node is lost; with `awaits_word`: what the account sent from there
                // may be on its way, and `settled` without ids comes behind it
    detach,
    settled,    // ids
    no_room,    // the parcel's stanza found none; flag is_full: the session closes
    look_again, // the owner of before may have stored something; no session; clock: how often it was passed on
    arrived,    // ids: of messages that others of its sessions were given, too; no session; clock: how often it was passed on; flag is_full:
                // who had the account before may have them stored
    remove,     // without a session of its own to say it: it goes, its sessions do not yet; clock: names the question
    // to the session
    accepted,   // full
    refused,    // code (xmpp::stanza_errc), type (xmpp::error_type), text
    close,      // code (xmpp::stream_errc), text
    share,      // flag wants_copies: of what the others send; with has_list, jids: who is blocked
    view,       // flags, priority; the parcel has the presence
    unspooled,  // ids: one
    elsewhere,  // the account is not here; the parcel has the stanza that was for it, if it was one
    // to the session, which goes on at another node (XEP-0198 section 5): from there, then there
    take_over,  // clock: what its client had handled
    not_resumed, // with has_list, clock: what this side had handled
    handed,     // the parcel's stanza is not acknowledged; flag has_list: an account keeps it; is_full: perhaps
    recent,     // ids, each two names of what its client has been sent lately (0: none); without any: the word that goes behind all that
                // the account on the node `text` has sent, from place to place as that does. The last of them answers by `settled`
                // without ids: that node, if the flag awaits_word is set, else wherever the account is now
    adopt,      // that was all: full, clock, ids (handled, epoch; window in ms, sent and acknowledged), flags, priority, jids: who
                // had directed presence; the parcel has the presence
    adopted,    // back: the old place may go
    // to the node
    changed,    // an account's rows, by an administrator; flag is_full: it is gone; no session
    broadcast,  // text: a domain, to whose every session the parcel's stanza goes; clock: names it, as it may come again
    removed,    // the answer to `remove`: clock, code (0: it is gone, else storage::errc + 1)
    passing,    // for the address in the parcel, behind what it was sent before it moved: goes after it. clock: names the mark,
                // text: the node that waits for it, code: how often it was passed on, type: how many marks wait for it in turn
    passed,     // the answer: clock; there is nothing of that any more on the way
  };
  static constexpr auto last = kind::passed;
  enum flag : std::uint8_t { is_back = 1, is_available = 2, wants_copies = 4, is_interested = 8, has_list = 16, is_full = 32, is_introduced = 64, was_lost = 128,
                             awaits_word = is_full }; // of attach and recent

  kind what = kind::detach;
  xmpp::jid_ref full = {};
  std::uint64_t clock = 0;
  std::uint8_t flags = 0;
  std::int8_t priority = 0;
  std::uint8_t code = 0, type = 0;
  std::string text = {};
  std::vector<xmpp::jid_ref> jids = {};
  std::vector<base::u128> ids = {};
  [[nodiscard]] bool has(flag f) const { return flags & f; }
  [[nodiscard]] bool is_for_account() const { return what <= kind::remove; }
  [[nodiscard]] bool is_for_session() const { return what >= kind::accepted && what <= kind::adopted; }
};

} // namespace cluster
