// What the cluster's machines run on: links to other nodes that carry frames in order. No type of any network library
// is in it; cluster/rpc has the one by gRPC, cluster/memory_transport.hpp one for tests.
#pragma once
#include "base/result.hpp"
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace cluster::wire {

/// Who a node says it is. Its certificate must bear the same name.
struct hello {
  std::string cluster, node;
  std::uint64_t incarnation = 0;
  std::string address; // at which it can be dialled: host:port
  std::uint32_t version_min = 1, version_max = 1;
  friend bool operator==(const hello&, const hello&) = default;
};

/// Numbers are on the wire: only added, never changed.
enum class refusal_code : std::uint8_t {
  wrong_cluster = 1,
  wrong_certificate = 2, // none, of another authority, expired, or it does not bear the name in the hello
  wrong_version = 3,     // no version that both speak
  name_taken = 4,        // the hello has our own name
  self = 5,              // somebody dialled himself
  duplicate = 6,         // this pair of nodes has a link already
  unwelcome = 7,         // the layer above does not want it; the text says why
  malformed = 8,         // no hello, a packet out of turn, a frame too large
  leaving = 9,           // the other end stops or has closed the link; not a fault
};
[[nodiscard]] std::string_view to_text(refusal_code c);

struct refusal {
  refusal_code code = refusal_code::unwelcome;
  std::string text = {}; // for people, on both sides
  friend bool operator==(const refusal&, const refusal&) = default;
};

/// Never used twice by one transport; 0 is none.
using link_id = std::uint64_t;

enum class close_cause : std::uint8_t {
  connection_refused, // nobody listens there: the process is gone
  unreachable,        // no way there, no such name, no answer, not what we speak
  reset,              // the connection broke, or the other process ended
  refused,            // by the other end: `why` has its reason
  refused_here,       // by us: `why` has ours
  bad_certificate,    // the other end has none of this cluster, or of another node
  protocol_error,     // it sent what it may not
  overrun,            // it sent more than it was allowed while nothing was handled
  duplicate,          // there is another link to this node, or was one when this was decided: dial again if not
  timeout,            // no link within the deadline for the hello
  idle,               // nothing came for too long
};
[[nodiscard]] std::string_view to_text(close_cause c);

struct closing {
  close_cause cause = close_cause::reset;
  refusal why = {};
  std::string text = {}; // for people
};

enum class sent : std::uint8_t {
  ok,
  full,      // more waits than the bound allows; the frame was not taken
  too_large, // no packet can hold it
  gone,      // no such link, or not connected
};

struct transport_limits {
  std::size_t packet = 1u << 20;         // bytes of one packet's frames: largest frame, and what is gathered into one write
  std::size_t queue = 8u << 20;          // bytes that wait to be written to one link
  std::size_t inbox = 64u << 20;         // bytes of one link that were read and not yet handled; beyond: overrun
  std::size_t memory = 128u << 20;       // bytes that the network library holds for all links; beyond: the greedy one ends
  std::size_t strangers = 64;            // connections that have not shown who they are
  std::size_t strangers_per_address = 16; // the same of one address (IPv6: /64)
  std::chrono::milliseconds hello{5'000}; // from accept, or dial, to a link
  std::chrono::milliseconds idle{30'000}; // without a packet from the other end
};

/// Runs a job on the thread (or reactor) of whoever owns the transport: in the order given, from any thread, never
/// inside the call. All events come through it, and all calls are made there.
using post_function = std::function<void(std::function<void()>)>;

class transport_events {
public:
  virtual ~transport_events() = default;
  /// A node with this hello and a certificate to match wants a link, or answers ours. An error refuses it.
  virtual base::result<void, refusal> accept(const hello& peer) = 0;
  /// `version` is the highest that both speak. Of one node there is at most one link: an older one was closed before.
  virtual void connected(link_id link, const hello& peer, std::uint32_t version) = 0;
  /// In the order sent, all that gathered.
  virtual void received(link_id link, std::vector<std::string> frames) = 0;
  /// All that was sent over it so far is on its way; said to whoever asked by transport::is_written.
  virtual void written(link_id) {}
  /// Once for each dial and for each link that was connected; nothing comes from it any more.
  virtual void closed(link_id link, const closing& how) = 0;
};

/// A thread on which its owner has work done beside its own: neither has to wake the other.
class worker {
public:
  virtual ~worker() = default;
  /// `round` runs there, once soon, after wake(), and no later than the time that it returned last; in between as well. Once.
  virtual void start(std::function<std::chrono::nanoseconds()> round) = 0;
  /// Any thread.
  virtual void wake() = 0;
  /// No round runs any more. Not on the thread itself.
  virtual void stop() = 0;
};

class transport {
public:
  virtual ~transport() = default;
  /// That on which its events come about, if it has one where others may work. It lives until stop().
  [[nodiscard]] virtual worker* thread() { return nullptr; }
  /// Ends in `connected` or `closed`. `node`: who must be there; empty: whoever it is.
  virtual link_id dial(const std::string& address, const std::string& node) = 0;
  /// Frames that are taken arrive in order, or the link is closed.
  [[nodiscard]] virtual sent send(link_id link, std::string frame) = 0;
  /// All that was sent over it is on its way. If not, `written` says so once it is: nobody is woken who does not wait for it. (One
  /// that always says it may answer no.)
  [[nodiscard]] virtual bool is_written(link_id) { return false; }
  /// What was sent before still goes out if the other end reads it soon; `closed` follows. The other end is told `why`.
  virtual void close(link_id link, const refusal& why) = 0;
  /// Of the next hellos: after a new incarnation, or another address.
  virtual void set_hello(const hello& own) = 0;
  /// Closes all links and accepts none. No event comes after it.
  virtual void stop() = 0;
};

} // namespace cluster::wire
