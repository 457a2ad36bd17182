// Order across a move (DESIGN.md section 4, Order): what is for an account that lives elsewhere since a moment waits here until what
// this reactor had sent to its old place before has been handled there, or has come to the new one (docs/cluster-internals.md).
#pragma once
#include "base/clock.hpp"
#include "cluster/table.hpp"
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace actors {

class home;

/// A word that goes behind what an address was sent, from node to node as that does. Where nothing of it is held any more it is
/// answered, and so by each node that has passed it on.
struct move_mark {
  std::string origin;    // the node that waits for the answer
  std::uint64_t id = 0;  // there
  std::uint8_t hops = 0; // how often it was passed on
  std::uint8_t depth = 0; // marks that wait for it in turn

  /// On the reactor of `bare`, in order with the stanzas that came for it.
  void arrive(home& at, const xmpp::jid_ref& bare) &&;
  /// To where the address lives; from there it is answered.
  void go_on(home& at, const xmpp::jid_ref& bare, cluster::peer_number owner) const;
  void answer(home& at, const xmpp::jid_ref& bare) const;
  /// To whoever waits for it, before the answer: something may have been stored for the address meanwhile.
  void have_it_looked_for(home& at, const xmpp::jid_ref& bare) const;

private:
  void look_here(home& at, const xmpp::jid_ref& bare) const;
  void pass(home& at, const xmpp::jid_ref& bare, cluster::peer_number owner) const;
};

/// It answers here and now, and what is done behind the answer (an account that is removed) must come behind it.
[[nodiscard]] bool is_said_by_server(const xmpp::stanza& s, const xmpp::jid& to);
/// One stanza more that had to wait, for the metric.
void count_held();

/// Of one reactor, and on its thread.
class move_keeper {
public:
  explicit move_keeper(home& h) : home_(h) {}
  /// True: it has been taken, and is routed when those before it are through, or cannot come any more. Costs three loads where nobody
  /// has moved. What has come from another node goes on at once, as its order counts there, unless some that came before it was passed on
  /// to a third node and may come back: then what is sent from here waits with it. What the server itself says, or the account to its
  /// own sessions, never waits. There are other nodes.
  [[nodiscard]] bool hold(xmpp::delivery& what);
  /// That mark was answered, or nobody will answer it. On the reactor that set it, from any other.
  static void tell(home& at, std::uint64_t mark);
  /// `then`, when what came from other nodes for that address, and waits here, has gone on.
  void behind_those_from_peers(const xmpp::jid_ref& bare, std::function<void(home&)> then);
  /// The mark of another node goes on; it is answered when that is, or is given up.
  void pass(const move_mark& mark, const xmpp::jid_ref& bare, cluster::peer_number to);
  /// A stanza from another node goes on to a third one.
  void note_relayed(const xmpp::jid& to, cluster::peer_number node);
  /// `then`, when what this reactor has passed on for that address lately is through, too: by whichever node, but for `owner`, whose link
  /// the mark takes itself. At once where there is nothing of that.
  void behind_relayed(const xmpp::jid_ref& bare, cluster::peer_number owner, std::uint8_t depth, std::function<void(home&)> then);

private:
  struct relayed { cluster::peer_number to; base::time_point last; };
  /// What waits for marks of this reactor's own, and one of those.
  struct behind { std::size_t marks; std::function<void(home&)> then; };
  struct own_mark { std::shared_ptr<behind> whose; std::uint64_t account; cluster::peer_number to; base::time_point since; };
  struct late { xmpp::delivery what; base::time_point since; };
  struct moved {
    xmpp::jid_ref bare;
    std::uint64_t number = 0; // of the move, cluster::move
    std::uint32_t marks = 0;  // without an answer: what comes now waits
    std::vector<late> waiting;
  };
  /// What has come from other nodes, what is sent behind it from here, and marks that came behind both. With another reactor than the
  /// address's: only the second.
  struct from_peers {
    std::vector<late> waiting;
    std::vector<std::function<void(home&)>> behind;
  };
  [[nodiscard]] bool hold_from_peer(xmpp::delivery& what);
  [[nodiscard]] bool hold_with_those_from_peers(xmpp::delivery& what);
  [[nodiscard]] bool has_room(const std::vector<late>& waiting, const xmpp::delivery& what) const;
  void keep(std::vector<late>& waiting, xmpp::delivery& what);
  [[nodiscard]] bool keep_if_room(std::vector<late>& waiting, xmpp::delivery& what);
  void release_from_peers(std::uint64_t account);
  void send_own(const std::shared_ptr<behind>& whose, const xmpp::jid_ref& bare, cluster::peer_number to, move_mark m);
  void route_late(std::vector<late> all);
  void set_marks(moved& m, const cluster::move& what);
  void on_answer(std::uint64_t mark);
  void release(moved& m);
  void forget_old();
  void forget_relayed(const own_mark& mark);
  [[nodiscard]] bool may_come_back(const relayed& r) const;
  [[nodiscard]] std::uint64_t next_mark();

  home& home_;
  std::unordered_map<std::uint64_t, moved> moved_;          // by hash of the bare JID
  std::unordered_map<std::uint64_t, std::uint64_t> marks_;  // whose they are
  std::unordered_map<std::uint64_t, std::vector<relayed>> relayed_; // by hash of the bare JID
  std::unordered_map<std::uint64_t, own_mark> own_marks_; // behind what was passed on
  std::unordered_map<std::uint64_t, from_peers> from_peers_; // what waits for what was passed on, by hash of the bare JID
  bool has_asked_ = false; // the address's reactor, about what is routed now
  std::uint64_t last_mark_ = 0;
  std::size_t waiting_ = 0, bytes_ = 0; // accounts; of what waits for them
  std::size_t look_at_ = 0;
};

} // namespace actors
