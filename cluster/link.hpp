// Stanzas between two lives of two nodes: numbered, in order, each with an outcome, over any number of connections. A
// machine: no I/O, no clock. docs/cluster-internals.md has the rules.
#pragma once
#include "base/budget.hpp"
#include "cluster/frame.hpp"
#include <boost/container/deque.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <deque>

namespace cluster {

struct link_options {
  /// What may wait here to be sent, or for its outcome. Replies may go on to the hard limit.
  base::budget_limits queue{16'384, 32u << 20, 65'536, 128u << 20};
  /// What the peer may send before this node has handled it.
  std::uint64_t window_stanzas = 4'096, window_bytes = 8u << 20;
};

/// What credit and bounds count of it, in bytes.
[[nodiscard]] std::uint64_t cost(const parcel& p);

/// What a frame or the end of a link gives to do.
struct link_news {
  struct end { parcel what; ending how; xmpp::error_ref why = {}; };
  std::vector<end> ended;        // own stanzas whose wait is over
  std::vector<parcel> returned;  // own stanzas to be routed again, in the order in which they were sent
  std::size_t unreadable = 0;    // of the peer's, dropped
  std::vector<parcel> arrived;   // the peer's; with completion.session = its number, where an outcome is wanted
};

/// One pair of processes, until either gives the other up: then it ends by close(). A new life of a node that was not given up
/// goes on with it.
class link {
public:
  using options = link_options;
  enum class verdict : std::uint8_t { fine, replayed, hostile };
  /// `generation`: of this link among all of the process, so that an outcome for an earlier one finds nothing.
  /// `name`: the same on both sides, as the greetings agreed.
  link(std::uint64_t name, std::uint32_t generation, options o = {}) : name_(name), generation_(generation), options_(o), granted_{o.window_stanzas, o.window_bytes} {}

  // --- sending
  /// Queues one. `over`: taken, but clients that feed this link should pause. `full`: refused, `p` is as it was.
  [[nodiscard]] base::room send(parcel&& p);
  /// More waits than the soft limit.
  [[nodiscard]] bool is_congested() const {
    return waiting_ + base_ + entries_.size() - 1 - sent_ > options_.queue.messages || waiting_bytes_ > options_.queue.bytes;
  }
  [[nodiscard]] std::size_t waiting_bytes() const { return waiting_bytes_; }
  [[nodiscard]] std::size_t open_count() const { return entries_.size(); }
  /// A stanza for that address waits here, or for its outcome. Looks at all of them.
  [[nodiscard]] bool has_for(const xmpp::jid& bare) const;

  // --- receiving
  /// The stanza that arrived with this number has its outcome. Once; of an unknown one nothing happens.
  void complete(std::uint64_t stanza, ending how, xmpp::error_ref why = {});
  /// So much of what arrived has been handled or dropped: the peer may send as much again. Replies do not count.
  void handled(std::uint64_t stanzas, std::uint64_t bytes);

  // --- the wire
  enum class urgency : std::uint8_t { nothing, may_wait_long, may_wait, soon, now };
  /// Of what fill() would add. What only says how far something has come is waited for by nobody; good outcomes may wait a few
  /// milliseconds for company; stanzas, bad outcomes and credit that is needed go as soon as they may; what fills a frame goes now.
  [[nodiscard]] urgency wants_to_say(bool holds) const;
  /// The protocol's version from here on: how much the peer takes in a frame.
  void speak(std::uint32_t version) { most_stanzas_ = version >= 2 ? limits::stanzas : limits::stanzas_of_1; }
  /// A connection of this pair begins; the peer has taken so much.
  void resume(std::uint64_t taken, std::uint64_t completions_taken);
  [[nodiscard]] verdict receive(frame& f, link_news& out);
  /// Adds what the peer should hear next. `holds`: it is suspected, stanzas stay here. They are lent: until the next call.
  void fill(frame& f, bool holds);
  /// One of the two lives is over: every stanza without an outcome goes back, and one whose sender waits for none if it
  /// was not taken.
  void close(link_news& out);

  [[nodiscard]] std::uint64_t name() const { return name_; }
  [[nodiscard]] std::uint32_t generation() const { return generation_; }
  [[nodiscard]] std::uint64_t taken() const { return taken_; }
  [[nodiscard]] std::uint64_t completions_taken() const { return completions_taken_; }
  /// Outcomes that the peer has not confirmed: it may route those stanzas again if it never hears them.
  [[nodiscard]] std::size_t unconfirmed_completions() const { return completions_.size(); }

private:
  struct entry {
    parcel what;           // until is_ended
    std::uint64_t bytes;   // its cost
    bool is_ended = false; // its outcome has come; the ones before it are still open
  };
  using queue = boost::container::deque<entry, void, boost::container::deque_options<boost::container::block_bytes<4'096u>>::type>;
  [[nodiscard]] bool may_send(const parcel& p, std::uint64_t bytes) const;
  [[nodiscard]] bool may_send(const entry& e) const { return may_send(e.what, e.bytes); }
  [[nodiscard]] bool is_over(std::uint64_t bytes, std::size_t most_stanzas, std::size_t most_bytes) const;
  /// The number that one more would get is not further than a frame ahead: what waits without one can still be passed by replies.
  [[nodiscard]] bool has_number() const { return base_ + entries_.size() < sent_ + 1 + most_stanzas_; }
  void number(parcel&& p, std::uint64_t bytes);
  verdict on_stanzas(cluster::stanzas& s, link_news& out);
  verdict on_completions(const cluster::completions& c, link_news& out);
  void settle(std::uint64_t up_to);
  void add_completion(std::uint64_t stanza, ending how, xmpp::error_ref why = {});
  void pop_ended();
  void number_waiting();
  void owe(bool is);

  const std::uint64_t name_;
  const std::uint32_t generation_;
  const options options_;
  // Own stanzas. Those that wait have no number yet: a reply may overtake what waits for credit.
  queue waiting_stanzas_, waiting_replies_;
  boost::unordered_flat_map<std::uint64_t, std::uint32_t> waiting_by_order_; // of waiting_stanzas_
  std::size_t waiting_ = 0, waiting_bytes_ = 0, kept_bytes_ = 0;
  bool is_held_ = false;        // as fill() was told last
  std::size_t most_stanzas_ = limits::stanzas; // in a frame
  queue entries_;               // numbered: base_ and what follows
  std::uint64_t base_ = 1, sent_ = 0, confirmed_ = 0; // numbers: first kept, last sent on this connection, last that the peer took
  std::uint64_t used_stanzas_ = 0, used_bytes_ = 0;   // of the peer's credit, ever
  credit allowed_;              // by the peer, ever
  std::uint64_t completions_taken_ = 0; // the peer's outcomes that came

  // The peer's stanzas.
  std::uint64_t taken_ = 0, told_taken_ = 0, told_completions_ = 0;
  credit granted_, told_granted_;
  std::uint64_t arrived_stanzas_ = 0, arrived_bytes_ = 0; // that used credit
  std::deque<bool> owed_;                                 // whether the outcome is wanted: of owed_base_ and what follows
  std::uint64_t owed_base_ = 1;
  std::deque<completion> completions_;                    // not confirmed by the peer
  std::uint64_t completions_base_ = 1, completions_sent_ = 0, urgent_completion_ = 0; // the last: of the latest bad one
};

} // namespace cluster
