// One life of one node's process: the real mesh, replica and leases, and above them a small model of sessions, their router
// and offline storage, which keeps the promises of docs/delivery.md in the simplest way. So thousands of runs a minute look
// into the mesh. The real sessions, accounts, router and modules are simulated by tests/sim_nodes, which is slower.
#pragma once
#include "cluster/leases.hpp"
#include "cluster/mesh.hpp"
#include "tests/sim/history.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim/store.hpp"

namespace sim {

/// What a client sees of its server.
class client_side {
public:
  virtual ~client_side() = default;
  virtual void on_delivered(std::size_t client, stream_id stream, std::uint64_t message, std::size_t node) = 0;
  virtual void on_acknowledged(std::size_t client, stream_id stream, std::uint64_t message, bool is_bounced) = 0;
  virtual void on_closed(std::size_t client, stream_id stream, bool by_conflict) = 0;
  [[nodiscard]] virtual bool is_there(std::size_t client, stream_id stream) const = 0;
};

/// What survives a crash: the node's own folder.
struct disk {
  cluster::node_id node = 0;
  std::uint64_t boots = 0;
  std::map<std::string, std::string> rows;
  duration latency = 1ms;
  bool is_full = false;
};

/// A message by its number, as its sender's session makes it.
[[nodiscard]] xmpp::stanza_ref make_stanza(std::uint64_t message, const xmpp::jid_ref& from, const xmpp::jid_ref& to);

struct surroundings {
  world& w;
  network& net;
  sim::store& database;
  history& seen;
  client_side& clients;
};

class process final : public socket_user {
public:
  process(surroundings s, std::size_t index, const std::string& address, std::vector<std::string> seeds, disk& folder,
          std::uint64_t salt);
  ~process() override;

  void start();
  /// SIGSTOP and SIGCONT: meanwhile everything waits.
  void pause();
  void go_on();
  /// A clean end: clients are told, then peers.
  void leave();
  void drain();
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  [[nodiscard]] bool takes_clients() const { return !is_leaving_ && !mesh_.members().is_draining(); }
  void jump_wall(duration by) { wall_offset_ += by; }

  // --- from clients; in order for each
  void log_in(std::size_t client, stream_id stream, const xmpp::jid_ref& full);
  void log_out(stream_id stream);
  void say(stream_id stream, std::uint64_t message, const xmpp::jid_ref& to);
  void acknowledge(stream_id stream, std::uint64_t message);

  // --- for the checker
  [[nodiscard]] const cluster::mesh& mesh() const { return mesh_; }
  [[nodiscard]] const cluster::table& table() const { return table_; }
  [[nodiscard]] const cluster::leases& leases() const { return leases_; }
  struct open_session { std::size_t client; stream_id stream; cluster::row row; };
  [[nodiscard]] std::vector<open_session> sessions() const;
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] std::size_t open_messages() const;

private:
  // --- socket_user
  void on_dialled(connection c) override;
  void on_dial_failed(connection c, bool is_refused) override;
  void on_accepted(connection c) override;
  void on_broken(connection c) override;
  void on_bytes(connection c, const std::string& bytes) override;
  void on_written(connection c) override;

  enum class source : std::uint8_t { net, other };
  /// Runs it now, or when the process goes on.
  void post(source from, std::function<void()> f);
  /// Calls the mesh and carries out what it says.
  template <class F>
  void with_mesh(F f) {
    cluster::effects out;
    f(out);
    mesh_.flush(s_.w.now(), out);
    carry(std::move(out));
    step_on();
  }
  void step_on();
  void carry(cluster::effects&& todo);
  void tick();
  void write_rows();

  // --- sessions
  struct kept { // not acknowledged by its client
    xmpp::stanza_ref what;
    std::vector<xmpp::completion_id> ends; // who waits for it
    time_point since{};
    bool is_stored = false, is_storing = false, is_acknowledged = false;
    bool is_orphan = false; // its session ended while it was being stored
  };
  struct waiting { // own client's, without an outcome
    xmpp::stanza_ref what;
    unsigned tries = 0;
  };
  struct session {
    std::size_t client;
    stream_id stream;
    cluster::row row;
    std::map<std::uint64_t, std::shared_ptr<kept>> unacknowledged; // by message
    std::map<std::uint64_t, time_point> written;   // message: when; DESIGN section 4
    std::vector<xmpp::stanza_ref> held;            // until the offline rows have been read
    bool is_reading = false, reads_again = false, looks_again = false, is_ready = false;
    time_point last_seen{};                        // its client
    std::uint32_t next = 1;
    std::map<std::uint32_t, waiting> open;         // by completion number
  };
  session* find(std::uint64_t id);
  session* on_stream(stream_id stream);
  void end_session(std::uint64_t id, bool tells_client, bool by_conflict);
  void deliver(session& s, const xmpp::stanza_ref& what);
  void hand_over(session& s, const xmpp::stanza_ref& what, bool is_stored, std::vector<xmpp::completion_id> ends);
  void spool(session& s);
  void read_offline(std::uint64_t id);
  void claim(std::uint64_t id, const storage::row& r);
  void claimed(std::uint64_t id, const xmpp::stanza_ref& what);
  void forget_row(const xmpp::stanza_ref& what);
  void store_for_later(const xmpp::stanza_ref& what);
  void keep(const xmpp::stanza_ref& what, std::uint64_t owner, std::function<void(bool)> then);
  void settle_unknown(base::u128 batch, std::function<void(bool)> then);
  void route(const xmpp::stanza_ref& what, bool is_again);
  void complete(const xmpp::completion_id& id, cluster::ending how);
  void on_completed(std::uint64_t id, std::uint32_t number, cluster::ending how);
  void arrived(cluster::effects::arrival&& a);
  [[nodiscard]] std::string kept_value(std::uint64_t owner, const xmpp::stanza& what) const;
  [[nodiscard]] bool is_session_gone(const xmpp::jid& account, std::uint64_t id, std::uint64_t node, std::uint64_t life);
  void give_back(const xmpp::stanza_ref& what);
  void check_waits();
  void stored_for(const xmpp::jid_ref& account);
  void tell_to_fetch(const xmpp::jid_ref& account);
  void on_appeared(const xmpp::jid& account);

  // --- leases (process_leases.cpp)
  void start_leases();
  void tick_leases();
  void give_leases_back();
  void carry(cluster::lease_effects&& todo);
  void work_as_owner();

  surroundings s_;
  const std::size_t index_;
  const std::uint64_t life_; // of the process, for answers that come too late
  disk& disk_;
  std::shared_ptr<bool> lives_ = std::make_shared<bool>(true);
  base::seeded_random random_;
  cluster::table table_;
  cluster::mesh mesh_;
  bool is_stepping_ = false;
  cluster::leases leases_;
  duration wall_offset_{};
  bool is_paused_ = false, is_leaving_ = false, is_writing_ = false;
  std::vector<std::pair<source, std::function<void()>>> inbox_;
  std::map<std::uint64_t, session> sessions_;
  std::uint64_t last_session_ = 0, last_batch_ = 0;
  std::map<std::string, time_point> stored_for_; // accounts; DESIGN section 4, Login
  time_point last_missing_{};                    // a peer
};

} // namespace sim
