// One simulated run: nodes, clients, faults, and at the end the checker. The seed decides everything.
#pragma once
#include "tests/sim/process.hpp"

namespace sim {

struct report {
  std::uint64_t seed = 0;
  std::vector<std::string> violations;
  std::uint64_t nodes = 0, messages = 0, acknowledged = 0, copies = 0, frames = 0, bytes = 0, events = 0;
  history seen;
  duration virtual_time{};
};

class run final : private client_side {
public:
  run(std::uint64_t seed, bool traces);
  report go();

private:
  struct host {
    std::string address;
    disk folder;
    std::unique_ptr<sim::process> running;
    std::uint64_t life = 0; // of the process
  };
  struct client {
    std::size_t user = 0;
    std::string resource;
    xmpp::jid_ref full;
    std::size_t node = 0;
    std::uint64_t life = 0;
    stream_id stream = 0; // 0: not connected
    std::vector<std::uint64_t> unacknowledged; // in the order in which they were sent
    unsigned renamed = 0;
    bool is_slow = false;
  };

  // --- nodes (run.cpp)
  void boot(std::size_t n);
  void crash(std::size_t n, bool is_power_loss);
  [[nodiscard]] sim::process* at(std::size_t n) { return hosts_[n].running.get(); }
  [[nodiscard]] std::size_t random_node() { return world_.luck.below(hosts_.size()); }
  std::vector<std::string> seeds_for(std::size_t n) const;

  // --- clients (clients.cpp)
  void make_clients();
  void connect(std::size_t c);
  void disconnect(std::size_t c, bool tells_server);
  void chat(std::size_t c);
  void tell(std::size_t c, std::function<void(sim::process&)> f);
  void on_delivered(std::size_t client, stream_id stream, std::uint64_t message, std::size_t node) override;
  void on_acknowledged(std::size_t client, stream_id stream, std::uint64_t message, bool is_bounced) override;
  void on_closed(std::size_t client, stream_id stream, bool by_conflict) override;
  [[nodiscard]] bool is_there(std::size_t client, stream_id stream) const override { return clients_[client].stream == stream; }

  // --- faults (faults.cpp)
  void plan_faults();
  void one_fault();
  void split(std::size_t kind, duration length);
  void heal();

  // --- the checker (checker.cpp)
  void watch_owners();
  void check();
  void check_messages();
  void check_outcomes();
  void check_order();
  void check_tables();
  void check_sessions();
  void check_leases();
  [[nodiscard]] bool lost_something(time_point from, time_point to) const;

  world world_;
  network net_;
  store database_;
  history seen_;
  std::vector<host> hosts_;
  std::vector<client> clients_;
  std::vector<xmpp::jid_ref> users_;
  const std::uint64_t seed_;
  std::uint64_t lives_ = 0;
  stream_id last_stream_ = 0;
  time_point faults_end_{}, chat_end_{}, end_{};
  bool is_healed_ = false, talks_ = true;
  duration fault_pause_{};
};

} // namespace sim
