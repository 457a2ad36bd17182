// One life of one node's process: the real node, homes, entities, sessions, router, peers and modules, on loops that are
// stepped by hand. What is not real: sockets, the network, the clock, passwords, and CAF's actors, of which none is needed.
#pragma once
#include "actors/home.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "modules/all.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim_nodes/database.hpp"
#include "tests/sim_nodes/pipe.hpp"

namespace sim_nodes {

inline constexpr auto domain = "sim";

/// What survives a crash: the node's own folder.
struct folder {
  cluster::node_id node = 0;
  std::uint64_t boots = 0;
  std::shared_ptr<storage::memory_engine> rows = std::make_shared<storage::memory_engine>();
};

/// The same on all nodes of a run.
struct server_options {
  std::size_t homes = 1;
  std::chrono::seconds window{20}, ack_timeout{20};
  duration entity_idle = 1s;
  bool is_small = false; // links, logs and windows: so that their bounds are met
};

struct surroundings {
  world& w;
  sim::network& net;
  database& shared;
  history& seen;
};

struct stubs;

class server final : private net::far_end {
public:
  server(surroundings s, std::size_t index, const std::string& address, std::vector<std::string> seeds, folder& of, std::uint64_t salt, const server_options& o);
  ~server() override;

  // --- what happens to it
  /// SIGSTOP and SIGCONT: meanwhile everything waits.
  void pause();
  void go_on();
  /// A health endpoint turns red, clients stay.
  void drain();
  /// SIGTERM: in the order of server/runner. `then` when the process has ended.
  void stop(std::function<void()> then);
  /// Killed: this object is destroyed next. `resets`: the machine lives, and says so to whoever is connected.
  void kill(bool resets);
  void jump_wall(duration by) { clock_.offset += std::chrono::duration_cast<std::chrono::microseconds>(by); }
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  [[nodiscard]] bool takes_clients() const { return !is_stopping_ && !node_->is_draining(); }

  // --- connections of clients, which arrive now
  void accept(const pipe_ref& p);
  /// `when_read` where the process had them.
  void take(const pipe_ref& p, std::string bytes, std::function<void()> when_read);
  void on_far_end_gone(const pipe_ref& p, bool is_reset);
  void take_writes(const pipe_ref& p, std::size_t bytes);

  // --- for the checker
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] std::string name() const { return "node" + std::to_string(index_); }
  [[nodiscard]] actors::node& around() { return *node_; }
  [[nodiscard]] const actors::peers& others() const { return *peers_; }
  [[nodiscard]] const std::vector<std::unique_ptr<actors::home>>& homes() const { return homes_; }
  [[nodiscard]] std::uint64_t id() const { return folder_.node; }
  /// Actors of every kind that are still there.
  [[nodiscard]] std::size_t actor_count() const;

private:
  struct node_clock final : base::clock {
    explicit node_clock(const world& of) : w(of) {}
    [[nodiscard]] time_point now() const override { return w.now(); }
    [[nodiscard]] base::wall_time wall() const override {
      return base::wall_time{std::chrono::sys_days{std::chrono::year{2026} / 1 / 1}} + std::chrono::duration_cast<std::chrono::microseconds>(w.now().time_since_epoch()) + offset;
    }
    const world& w;
    std::chrono::microseconds offset{};
  };

  // --- net::far_end, inside a turn of a home
  void received(std::uint32_t number, std::string_view bytes) override;
  void was_read(std::uint32_t number, std::size_t bytes) override;
  void closed(std::uint32_t number) override;

  /// Runs it now, or when the process goes on.
  void post(std::function<void()> f);
  void wake();
  void round();
  bool step(std::size_t unit);
  void tick();
  void go_on_stopping(time_point until);
  void make_host();
  void watch_storing(modules::host_view& v);

  surroundings s_;
  std::size_t sees_ = 0; // other nodes
  const std::size_t index_;
  folder& folder_;
  const server_options options_;
  node_clock clock_;
  base::seeded_random random_;
  sim::chance luck_; // of the order in which threads run
  std::unique_ptr<stubs> stubs_;
  std::vector<std::unique_ptr<modules::module>> modules_ = modules::all();
  std::unique_ptr<node_store> store_;
  std::unique_ptr<storage::store> disk_;
  std::unique_ptr<actors::node> node_;
  std::vector<std::unique_ptr<net::loop>> loops_;
  std::vector<std::unique_ptr<actors::home>> homes_;
  std::unique_ptr<actors::peers> peers_;
  class sim_transport* transport_ = nullptr;
  std::map<std::uint32_t, pipe_ref> pipes_;
  std::uint32_t last_pipe_ = 0;
  std::vector<std::function<void()>> inbox_; // while it is paused
  std::shared_ptr<bool> lives_ = std::make_shared<bool>(true);
  std::function<void()> then_;
  time_point stopped_since_{};
  bool is_paused_ = false, is_stopping_ = false, is_awake_ = false, has_left_ = false;
  unsigned quiet_rounds_ = 0;
};

} // namespace sim_nodes
