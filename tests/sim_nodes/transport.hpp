// The transport of one process over the simulated network: what actors/peers has instead of gRPC.
#pragma once
#include "cluster/transport.hpp"
#include "tests/sim/network.hpp"
#include "tests/sim_nodes/history.hpp"
#include <set>

namespace sim_nodes {

class sim_transport final : public cluster::wire::transport, private sim::socket_user {
public:
  /// `post` may only keep the job: it is called inside the network's events.
  sim_transport(world& w, sim::network& net, history& seen, std::size_t node, const std::string& address, cluster::wire::post_function post,
                cluster::wire::transport_events& events)
    : world_(w), net_(net), seen_(seen), node_(node), post_(std::move(post)), events_(events) {
    net_.plug(node, this, address);
  }
  ~sim_transport() override { stop(); }

  cluster::wire::link_id dial(const std::string& address, const std::string&) override {
    auto c = ++last_ | dialled_bit;
    dialling_.insert(c);
    net_.dial(node_, c, address);
    return c;
  }
  cluster::wire::sent send(cluster::wire::link_id link, std::string frame) override {
    if (!open_.contains(link))
      return cluster::wire::sent::gone;
    seen_.note(world_, frame);
    net_.write(node_, link, std::move(frame));
    return cluster::wire::sent::ok;
  }
  void close(cluster::wire::link_id link, const cluster::wire::refusal&) override {
    open_.erase(link);
    dialling_.erase(link);
    net_.close(node_, link);
  }
  void set_hello(const cluster::wire::hello&) override {}
  void stop() override {
    if (is_plugged_)
      unplug(true);
  }
  /// The process is gone. `resets`: its machine lives, and says so.
  void unplug(bool resets) {
    is_plugged_ = false;
    net_.unplug(node_, resets);
  }

private:
  static constexpr std::uint64_t dialled_bit = std::uint64_t{1} << 63;

  void on_dialled(cluster::connection c) override { opened(c); }
  void on_accepted(cluster::connection c) override { opened(c); }
  void opened(cluster::connection c) {
    post_([this, c] {
      if ((c & dialled_bit) && dialling_.erase(c) == 0)
        return net_.close(node_, c); // it was given up meanwhile
      open_.insert(c);
      events_.connected(c, {}, 1);
    });
  }
  void on_dial_failed(cluster::connection c, bool is_refused) override {
    post_([this, c, is_refused] {
      dialling_.erase(c);
      events_.closed(c, {is_refused ? cluster::wire::close_cause::connection_refused : cluster::wire::close_cause::unreachable});
    });
  }
  void on_broken(cluster::connection c) override {
    post_([this, c] {
      open_.erase(c);
      events_.closed(c, {cluster::wire::close_cause::reset});
    });
  }
  void on_bytes(cluster::connection c, const std::string& bytes) override {
    post_([this, c, bytes] { events_.received(c, {bytes}); });
  }
  void on_written(cluster::connection c) override {
    post_([this, c] { events_.written(c); });
  }

  world& world_;
  sim::network& net_;
  history& seen_;
  const std::size_t node_;
  cluster::wire::post_function post_;
  cluster::wire::transport_events& events_;
  std::set<cluster::wire::link_id> open_, dialling_;
  std::uint64_t last_ = 0;
  bool is_plugged_ = true;
};

} // namespace sim_nodes
