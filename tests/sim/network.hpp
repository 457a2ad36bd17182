// The network between simulated nodes: connections that keep order and lose nothing while they stand, like TCP; paths that
// are slow or blocked, one way or both; resets.
#pragma once
#include "cluster/membership.hpp"
#include "tests/sim/world.hpp"
#include <deque>
#include <map>
#include <memory>

namespace sim {

using cluster::connection;

/// What a machine's shell hears. One per life of a process; unplugged when it dies.
class socket_user {
public:
  virtual ~socket_user() = default;
  virtual void on_dialled(connection c) = 0;
  virtual void on_dial_failed(connection c, bool is_refused) = 0;
  virtual void on_accepted(connection c) = 0;
  virtual void on_broken(connection c) = 0;
  virtual void on_bytes(connection c, const std::string& bytes) = 0;
  virtual void on_written(connection c) = 0;
};

class network {
public:
  network(world& w, std::size_t nodes);

  // --- nodes
  /// A process runs on `node` and listens at `address`.
  void plug(std::size_t node, socket_user* user, const std::string& address);
  /// It is gone. `resets`: its machine lives, and says so to whoever is connected or dials; else silence.
  void unplug(std::size_t node, bool resets);

  // --- for the process on `node`
  void dial(std::size_t node, connection c, const std::string& address);
  void write(std::size_t node, connection c, std::string bytes);
  void close(std::size_t node, connection c);

  // --- weather
  void block(std::size_t from, std::size_t to, bool is_blocked);
  [[nodiscard]] bool is_blocked(std::size_t from, std::size_t to) const { return paths_[from * nodes_ + to].blocks > 0; }
  void set_delay(std::size_t from, std::size_t to, duration shortest, duration longest);
  void heal();
  /// Every connection between the two is reset. Whoever cannot be reached does not hear of it.
  void reset(std::size_t a, std::size_t b);
  unsigned duplicates_percent = 0; // frames that come twice, as no TCP would: a peer that replays

  std::uint64_t frames = 0, bytes = 0;

private:
  struct path {
    int blocks = 0;
    duration shortest = 200us, longest = 1ms;
  };
  enum class kind { bytes, fin, reset };
  struct piece { kind what; std::string bytes; std::size_t tells; };
  struct wire { // between two processes
    struct end {
      std::size_t node;
      std::uint64_t life;
      connection c;
      bool is_open = true;
      time_point last{};              // when the latest piece arrives here
      std::deque<piece> held;         // what a blocked path keeps from coming here
      std::size_t unread = 0;         // bytes on the way here
      std::size_t pieces = 0;
    };
    end ends[2];
  };
  using wire_ref = std::shared_ptr<wire>;
  struct machine {
    socket_user* user = nullptr;
    std::uint64_t life = 0;
    bool answers = false; // its kernel runs
    std::map<connection, std::pair<wire_ref, int>> wires;
    connection last_accepted = 0;
  };

  path& between(std::size_t from, std::size_t to) { return paths_[from * nodes_ + to]; }
  duration delay(std::size_t from, std::size_t to);
  void send(const wire_ref& w, int to, piece p);
  void arrive(const wire_ref& w, int to, piece p);
  void take(const wire_ref& w, int to, piece p);
  void release(const wire_ref& w, int to);
  void cut(const wire_ref& w, int from);
  [[nodiscard]] bool is_live(const wire::end& e) const { return e.is_open && machines_[e.node].user && machines_[e.node].life == e.life; }

  world& world_;
  const std::size_t nodes_;
  std::vector<path> paths_;
  std::vector<machine> machines_;
  std::map<std::string, std::size_t> addresses_;
  std::vector<std::weak_ptr<wire>> all_;
};

} // namespace sim
