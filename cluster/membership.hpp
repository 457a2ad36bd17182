// Who is in the cluster, and who is alive: joining by seeds, heartbeats, suspicion, death, incarnations. Each node judges
// for itself, pair by pair: nothing is locked, nothing is voted on. A machine: no I/O, no clock. docs/cluster-internals.md.
#pragma once
#include "base/clock.hpp"
#include "base/random.hpp"
#include "cluster/frame.hpp"
#include "cluster/table.hpp"
#include <functional>
#include <map>
#include <utility>
#include <variant>

namespace cluster {

/// Names a connection between this machine and its shell. Those that the machine dials have the highest bit set; the
/// shell numbers what it accepts from 1. A number is never used twice.
using connection = std::uint64_t;

enum class peer_state : std::uint8_t {
  known,     // somebody has named it
  alive,
  suspected, // silent for a while: stanzas for it are held
  dead,      // this life of it is over for us, whatever it thinks
  left,      // it said goodbye
};

struct membership_options {
  std::string cluster = "covey"; // nodes of another name are refused
  std::vector<std::string> seeds; // addresses
  std::uint32_t version = protocol_version, oldest_version = oldest_protocol_version;
  std::string release; // of the program, for people
  base::duration suspected_after = std::chrono::seconds{3}, dead_after = std::chrono::seconds{10};
  base::duration redial_after = std::chrono::seconds{5};  // a silent connection may be at fault, not the node
  base::duration refused_for = std::chrono::seconds{1};   // reset, and every dial refused: its process is gone
  base::duration gap = std::chrono::seconds{8};           // of the own clock: peers may have declared us dead
  base::duration dial_limit = std::chrono::seconds{2}, greeting_limit = std::chrono::seconds{5};
  base::duration heartbeat = std::chrono::seconds{1}, gossip = std::chrono::seconds{3};
  std::size_t most_strangers = 64; // accepted connections that have not greeted
  base::duration reuse_after = std::chrono::minutes{10}; // numbers of peers that are gone, once all are taken
};

class membership {
public:
  // --- what a step gives to do, in order
  struct dial { connection c; std::string address; };
  struct close { connection c; };
  /// Say so, with `links` of the pair filled in by the caller.
  struct greet { connection c; peer_number to; cluster::greeting what; bool is_known; };
  struct part { connection c; farewell what; };
  /// The peer's greeting came: the connection is this peer's from now on. `is_new`: the life was not alive before.
  /// `is_answered`: it was the answer to ours, and decides about the link; else ours follows. `version`: the highest that both speak.
  struct up { peer_number peer; connection c; cluster::life life; bool is_new; bool is_answered; std::uint64_t link, taken, completions_taken; std::uint32_t version; };
  struct down { peer_number peer; }; // no connection
  /// A life is over. `is_replaced`: by the next one, whose `up` follows; `is_process_gone`: by its operating system's word.
  struct ended { peer_number peer; cluster::life life; bool is_replaced, is_process_gone; };
  struct suspect { peer_number peer; bool is; };
  /// A new life of our own: what is unread is to be thrown away.
  struct reborn { cluster::life life; };
  /// Somebody was turned away, or turned us away.
  struct refused { std::string who; refusal why; bool by_us; };
  using effect = std::variant<dial, close, greet, part, up, down, ended, suspect, reborn, refused>;
  using effects = std::vector<effect>;

  struct peer {
    member who;
    std::string release; // of its program; empty: not told yet
    std::uint64_t process = 0;
    peer_state state = peer_state::known;
    life dead_life = 0; // it and those before are not spoken to
    connection established = 0, dialling = 0;
    base::time_point heard{}, broken{}, next_dial{}, dialled{}, gone{};
    std::uint32_t refusals = 0, attempts = 0; // since it was last heard
    bool is_draining = false, has_redialled = false;
    bool is_process_gone = false; // dead, and its machine says that nobody listens there
    refusal told = refusal::none; // why it last turned us away
  };

  /// Nodes that this one speaks with, itself among them, and nodes that it cannot reach but that may serve clients elsewhere.
  struct reach {
    std::size_t reached = 1, missing = 0;
    /// Those who are missing are more: this is the smaller part of a split, or many machines are gone without a word. Of two
    /// equal parts neither is a minority.
    [[nodiscard]] bool is_minority() const { return missing > reached; }
  };

  /// A number is given to another peer once all are taken, when its own has been gone for long and nothing is left of it here.
  using is_free_function = std::function<bool(peer_number)>;
  membership(member own, std::uint64_t process, membership_options o, base::random& r, is_free_function is_free = [](auto) { return true; });

  void start(base::time_point now, effects& out);
  /// At least four times a second.
  void tick(base::time_point now, effects& out);
  /// First of all in each step: after a gap of the own clock everything starts anew.
  void look_at_clock(base::time_point now, effects& out);
  /// What is handled from now on has waited here for so long; zero: nothing waits. Silence is judged as of then, for what a peer
  /// has said meanwhile is in our own queue.
  void behind(base::duration d) { behind_ = d; }

  void dialled(connection c, base::time_point now, effects& out);
  void dial_failed(connection c, bool is_refused, base::time_point now, effects& out);
  void accepted(connection c, base::time_point now, effects& out);
  void broken(connection c, base::time_point now, effects& out);
  void on_greeting(connection c, const greeting& g, base::time_point now, effects& out);
  void on_farewell(connection c, const farewell& f, base::time_point now, effects& out);
  /// Anything came over `c`. The peer whose connection it is, or nothing.
  [[nodiscard]] std::optional<peer_number> heard(connection c, base::time_point now, effects& out);
  /// Whether it says something new.
  [[nodiscard]] bool on_heartbeat(peer_number p, const heartbeat& h) { return std::exchange(peers_[p].is_draining, h.is_draining) != h.is_draining; }
  void on_members(const std::vector<member>& known, base::time_point now);
  /// It broke the rules: its connection ends.
  void hang_up(connection c, refusal why, base::time_point now, effects& out);

  void drain() { is_draining_ = true; }
  void leave(base::time_point now, effects& out);

  [[nodiscard]] const member& own() const { return own_; }
  [[nodiscard]] bool is_draining() const { return is_draining_ || has_left_; }
  [[nodiscard]] bool has_left() const { return has_left_; }
  [[nodiscard]] const std::vector<peer>& peers() const { return peers_; } // by number; [0] is not used
  [[nodiscard]] const peer& at(peer_number n) const { return peers_[n]; }
  /// A number for a node that the disk knows.
  [[nodiscard]] peer_number number_of(node_id n);
  [[nodiscard]] std::vector<member> alive() const;
  /// Missing are peers that are silent or were given up for their silence: not those whose process is known to be gone, nor
  /// those that said goodbye, nor whom this process has never heard.
  [[nodiscard]] reach reachable() const;
  [[nodiscard]] const membership_options& options() const { return options_; }

private:
  struct line { // a connection
    peer_number to = self; // self: not known yet
    std::size_t seed = no_seed;
    base::time_point since{};
    bool is_dialled = false, is_open = false;
  };
  struct seed_state {
    connection dialling = 0;
    base::time_point next_dial{};
    node_id node = 0; // who answered
    std::uint32_t attempts = 0;
  };
  static constexpr std::size_t no_seed = ~std::size_t{0};

  [[nodiscard]] std::optional<peer_number> find(node_id n) const;
  [[nodiscard]] std::optional<peer_number> longest_gone() const;
  [[nodiscard]] std::optional<peer_number> add(const member& m);
  [[nodiscard]] greeting make_greeting(peer_number to, bool is_answer) const;
  refusal judge(connection c, const line& l, const greeting& g, base::time_point now) const;
  void settle_name(const greeting& g, base::time_point now, effects& out);
  void establish(connection c, const greeting& g, base::time_point now, effects& out);
  void drop(connection c, effects& out);
  void forget_line(connection c);
  void bury(peer_number n, peer_state as, bool is_process_gone, effects& out);
  void rise(life above, base::time_point now, effects& out);
  void dial_peer(peer_number n, base::time_point now, effects& out);
  void dial_seeds(base::time_point now, effects& out);
  void tick_peer(peer_number n, base::time_point now, effects& out);
  [[nodiscard]] base::duration pause(std::uint32_t attempts);
  [[nodiscard]] bool is_well(const peer& p, base::time_point now) const;
  [[nodiscard]] base::duration silence(const peer& p, base::time_point now) const { return now - behind_ - p.heard; }
  connection next_connection() { return ++last_connection_ | std::uint64_t{1} << 63; }

  member own_;
  const std::uint64_t process_;
  const membership_options options_;
  base::random& random_;
  const is_free_function is_free_;
  std::vector<peer> peers_{1};
  std::vector<seed_state> seeds_;
  std::map<connection, line> lines_;
  connection last_connection_ = 0;
  base::time_point last_{};
  base::duration behind_{};
  bool is_draining_ = false, has_left_ = false, has_started_ = false;
};

} // namespace cluster
