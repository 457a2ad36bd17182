// What two nodes say to each other, as values. cluster/codec makes bytes of them (proto/cluster.proto).
#pragma once
#include "base/bytes.hpp"
#include "xmpp/errors.hpp"
#include "cluster/control.hpp"
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cluster {

/// A random number made with the node's data folder: a node that lost its disk is another node.
using node_id = std::uint64_t;
/// One incarnation of a node. Higher is later; a node takes a new one at each start, and whenever its peers may have
/// declared it dead.
using life = std::uint64_t;

struct member {
  node_id node = 0;
  cluster::life life = 0;
  std::string name, address; // for people; where it is dialled
  std::uint16_t reactors = 1;
  friend bool operator==(const member&, const member&) = default;
};

/// 2: a frame may hold 1,024 stanzas, where it was 512.
inline constexpr std::uint32_t protocol_version = 2, oldest_protocol_version = 1;

struct greeting {
  std::string cluster;
  std::uint32_t version = protocol_version, oldest_version = oldest_protocol_version;
  member self;
  std::uint64_t process = 0;       // drawn at each start: tells a copy of a node from the node
  node_id to = 0;                  // for whom what follows is meant; 0: whoever listens there
  life your_dead_life = 0;         // no life of that node up to this one is spoken to
  std::uint64_t link = 0;          // that the sender has with the receiver (drawn by who answers); 0: none
  std::uint64_t taken = 0, completions_taken = 0; // over that link
  std::uint32_t profile = 0;       // of JIDs: nodes must agree what is one name
  bool is_answer = false, is_draining = false;
  std::string release;             // of the program, for people; empty: not told
};

enum class refusal : std::uint8_t {
  none,
  wrong_cluster,
  incompatible,       // no common version, or another JID profile
  declared_dead,      // come back with a new incarnation
  duplicate_identity, // a node with this identity is here and well
  duplicate_name,     // so is another one with this name
  busy,               // there is another connection, or one is being made: that is kept
  leaving,            // the sender has left the cluster, or is about to
  full,               // more nodes than this one keeps
  malformed,
};

struct farewell {
  refusal reason = refusal::none;
  life dead_life = 0; // with declared_dead
  node_id node = 0;   // who says so
};

struct heartbeat { bool is_draining = false; };

enum class row_kind : std::uint8_t { session, route };

/// Small facts of a session that any node decides by without asking.
struct attributes {
  enum flag : std::uint8_t { available = 1, carbons = 2, managed = 4, push = 8 };
  base::u128 capabilities; // first 128 bits of the hash (XEP-0115); zero: none
  std::int8_t priority = 0;
  std::uint8_t flags = 0;
  friend bool operator==(const attributes&, const attributes&) = default;
};

/// One session, or one route (who owns a room, component or outgoing link). Owned by one node, its only writer.
struct row {
  xmpp::jid_ref name;        // full JID of a session; bare JID or domain of a route
  std::uint64_t session = 0; // of a session, unique in the cluster's life; of a route 0
  std::uint64_t clock = 0;   // hybrid (cluster/hybrid_clock.hpp), taken at bind
  std::uint64_t ref = 0;     // slot and generation on its reactor
  std::uint32_t epoch = 0;   // higher after each hand-over of the session
  std::uint16_t reactor = 0;
  row_kind kind = row_kind::session;
  attributes what;
};

struct change {
  row what;
  bool is_removal = false; // then only name, session, kind and epoch count
};

struct changes {
  node_id node = 0;
  cluster::life life = 0;
  std::uint64_t first = 0;
  std::vector<change> items;
};

struct sync_request {
  node_id node = 0;
  cluster::life life = 0;
  std::uint64_t applied = 0;
  std::vector<std::uint64_t> digests; // none: go on behind `applied`
};

struct sync_part {
  node_id node = 0;
  cluster::life life = 0;
  std::uint32_t bucket = 0;
  bool is_last = false;
  std::vector<row> rows;
};

struct sync_start {
  node_id node = 0;
  cluster::life life = 0;
  std::uint64_t applied = 0;  // changes behind this one follow, and between them the buckets that differ
  std::uint32_t buckets = 0;  // how many
  bool needs_digests = false; // the changes are no longer there: ask again
};

struct digest { std::uint64_t applied = 0, sum = 0; };

enum class parcel_kind : std::uint8_t {
  to_entity,  // a stanza for whoever owns the address
  to_session, // from an account to one of its sessions
  outbound,   // from a session to its account, before it goes anywhere else
  sent,       // the same, shown to it after it went
  spool,      // the same, to be stored until it is acknowledged
  control,    // no stanza, or one that belongs to what is said
};

/// One stanza on its way to another node, or what an account and its session on two nodes say to each other.
struct parcel {
  xmpp::delivery what;         // of a control often nothing but the receiver, `to`
  parcel_kind kind = parcel_kind::to_entity;
  std::uint64_t session = 0;   // of all but to_entity
  std::shared_ptr<const cluster::control> said = {}; // of a control
  bool needs_credit = true;    // false: a reply, which is never held back
  bool has_completion = false; // its sender waits for an outcome
  std::uint64_t order = 0;     // equal for stanzas whose order counts (hash of both ends); not sent
  std::uint64_t sender = 0;    // the session that sent it to its account, and its reactor; of what is for a node, that; not sent
  std::uint16_t sender_reactor = 0;
  bool is_unreadable = false;  // it came, and nobody here understands it: only needs_credit and has_completion count

  /// Whom it names; null: nobody.
  [[nodiscard]] const xmpp::jid_ref& receiver() const { return what.to || !what.what ? what.to : what.what->to; }
  /// A stanza for this account or service.
  [[nodiscard]] bool is_for(const xmpp::jid& bare) const { return kind == parcel_kind::to_entity && receiver() && receiver()->hash() == bare.hash(); }
};

/// What an account and its session say to each other, or two nodes (session 0). Without credit: it is bounded by what it is about.
[[nodiscard]] inline parcel make_control(std::uint64_t session, control said, xmpp::delivery with = {}) {
  parcel p;
  p.kind = parcel_kind::control;
  p.session = p.order = session;
  p.needs_credit = false;
  p.said = std::make_shared<const control>(std::move(said));
  p.what = std::move(with);
  return p;
}

struct stanzas {
  std::uint64_t first = 0;
  std::vector<parcel> items;
  std::vector<const parcel*> lent = {}; // instead of items, in a frame that is only to be encoded
};

struct credit { std::uint64_t stanzas = 0, bytes = 0; };

/// How the wait for a stanza ended; the values are those of modules::outcome, but the last one.
enum class ending : std::uint8_t {
  acknowledged, stored, bounced, refused, abandoned,
  unreadable, // the receiver's codec refused it: its sender sends it nowhere again
};

struct completion {
  std::uint64_t stanza = 0;
  ending how = ending::abandoned;
  xmpp::error_ref why = {}; // with `bounced`: what its sender is told
};

struct completions {
  std::uint64_t first = 0;
  std::vector<completion> items;
};

/// One write. Parts that are absent cost nothing.
struct frame {
  std::optional<cluster::greeting> greeting;
  std::optional<cluster::farewell> farewell;
  std::optional<cluster::heartbeat> heartbeat;
  std::vector<member> members;
  std::optional<cluster::changes> changes;
  std::optional<cluster::sync_request> sync_request;
  std::vector<sync_part> sync_parts;
  std::optional<cluster::sync_start> sync_start;
  std::optional<cluster::digest> digest;
  std::uint64_t applied = 0;
  std::optional<cluster::stanzas> stanzas;
  std::optional<cluster::credit> credit;
  std::uint64_t taken = 0;
  std::optional<cluster::completions> completions;
  std::uint64_t completions_taken = 0;

  [[nodiscard]] bool is_empty() const {
    return !greeting && !farewell && !heartbeat && members.empty() && !changes && !sync_request && sync_parts.empty() && !sync_start
           && !digest && applied == 0 && !stanzas && !credit && taken == 0 && !completions && completions_taken == 0;
  }
};

/// What one frame may hold. The codec refuses more.
namespace limits {
inline constexpr std::size_t frame_bytes = 1u << 20; // but one stanza of any size that a client may send
inline constexpr std::size_t stanzas = 1'024, stanza_bytes = 512 * 1024;
inline constexpr std::size_t stanzas_of_1 = 512; // for peers of protocol version 1
inline constexpr std::size_t changes = 256, rows = 1'024, members = 512, completions = 1'024;
inline constexpr std::size_t buckets = 1'024;
inline constexpr std::size_t name_bytes = 255, error_text_bytes = 255;
} // namespace limits

} // namespace cluster
