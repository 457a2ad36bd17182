// One simulated run: nodes, clients, faults, and at the end the checker. The seed decides everything.
#pragma once
#include "tests/sim_nodes/client.hpp"
#include "tests/sim_nodes/server.hpp"

namespace sim_nodes {

struct report {
  std::uint64_t seed = 0, events = 0, frames = 0;
  std::size_t nodes = 0, clients = 0;
  history seen;
  duration virtual_time{};
};

inline constexpr std::uint64_t first_about_links = 1'000'001;

class run final : public client_world {
public:
  run(std::uint64_t seed, bool traces);
  ~run() override;
  report go();

private:
  struct host {
    std::string address;
    sim_nodes::folder folder;
    std::unique_ptr<sim_nodes::server> running;
    std::uint64_t life = 0; // of the process
    std::vector<pipe_ref> pipes;
  };

  // --- run.cpp
  void boot(std::size_t n);
  void kill(std::size_t n, bool is_power_loss);
  void end_process(std::size_t n, bool resets);
  void make_accounts();
  void make_clients();
  void chat(std::size_t c);
  void announce();
  [[nodiscard]] server* at(std::size_t n) { return hosts_[n].running.get(); }
  [[nodiscard]] std::size_t random_node() { return world_.luck.below(hosts_.size()); }
  /// Each life of each home counts its crashes in a metric of the process.
  [[nodiscard]] static std::uint64_t crashes();

  // --- client_world
  pipe_ref connect(std::size_t client, stream_id stream, pipe_user& user) override;
  void send(const pipe_ref& p, std::string bytes, std::function<void(std::size_t node)> when_read) override;
  void hang_up(const pipe_ref& p, bool is_silent) override;
  void read_a_little(const pipe_ref& p);
  void moved(std::size_t account) override { seen_.moves[account].push_back(world_.now()); }
  [[nodiscard]] server* server_of(const pipe& p) {
    auto& h = hosts_[p.node];
    return h.running && h.life == p.life ? h.running.get() : nullptr;
  }

  // --- faults.cpp
  void plan_faults();
  void one_fault();
  void split();
  void trouble_a_client();
  void heal();

  // --- checker.cpp
  void watch();
  void check_settled();
  void check_messages();
  void check_order();
  void check_order_of(const std::function<bool(const message&, const message::copy&)>& is_judged);
  void check_announcements();
  void check_sessions();
  void check_tables();
  void check_presence();
  void check_service();
  void check_nothing_is_left();

  world world_;
  sim::network net_;
  database database_;
  history seen_;
  std::vector<host> hosts_;
  std::vector<std::unique_ptr<client>> clients_;
  std::vector<std::set<std::size_t>> contacts_; // of accounts
  server_options options_;
  const std::uint64_t seed_, crashes_before_;
  /// These seeds lose connections and slow paths down, and little else: what is overtaken, and what comes again, is found sooner.
  [[nodiscard]] bool is_about_links() const { return seed_ >= first_about_links; }
  std::uint64_t lives_ = 0;
  time_point faults_end_{};
  duration fault_pause_{};
  std::map<std::pair<std::size_t, std::size_t>, std::uint64_t> homes_seen_; // node and account: where that one takes it to be
  bool is_healed_ = false, talks_ = true;
};

} // namespace sim_nodes
