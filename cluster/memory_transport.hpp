// The transport without a network: nodes of one process that reach each other by address. For tests; one thread.
#pragma once
#include "cluster/link_rules.hpp"
#include <deque>
#include <memory>
#include <set>

namespace cluster::wire {

class memory_transport;

/// Who listens where, and who cannot reach whom.
class memory_network {
public:
  /// Nothing gets from one address to the other: dials find nobody, links break. One way, or both.
  void cut(const std::string& from, const std::string& to);
  void mend(const std::string& from, const std::string& to) { cuts_.erase({from, to}); }
  [[nodiscard]] bool is_cut(const std::string& from, const std::string& to) const { return cuts_.contains({from, to}); }

private:
  friend class memory_transport;
  std::map<std::string, memory_transport*> nodes_;
  std::set<std::pair<std::string, std::string>> cuts_;
};

/// Listens from its construction to stop(). Each step of a link is one job of the other node's `post`, so a test that
/// runs jobs in another order of nodes has other races. Frames wait at the sender while the receiver does not run.
class memory_transport final : public transport {
public:
  /// `bears`: the name in its certificate; empty: that of the hello.
  memory_transport(memory_network& net, hello own, post_function post, transport_events& events, const transport_limits& limits = {},
                   std::string bears = {});
  ~memory_transport() override;

  link_id dial(const std::string& address, const std::string& node) override;
  [[nodiscard]] sent send(link_id link, std::string frame) override;
  void close(link_id link, const refusal& why) override;
  void set_hello(const hello& own) override { own_ = own; }
  void stop() override;
  /// As if the process had ended: the others see a reset.
  void kill();

private:
  friend class memory_network;
  struct end {
    std::weak_ptr<memory_transport*> other; // empty: nobody, or ended
    link_id there = 0;
    std::string node, address; // who must be there; where the other end listens
    hello peer;
    std::uint32_t version = 0;
    bool is_dialled = false, is_connected = false, is_posted = false;
    std::vector<std::string> out; // not yet fetched by the other end
    std::size_t out_bytes = 0;
  };
  void post(std::function<void()> job);
  void to_other(end& e, std::function<void(memory_transport&, link_id)> job);
  void on_dialled(memory_transport* from, link_id there, hello peer, std::string bears);
  void on_answer(link_id link, hello peer, std::string bears);
  void on_ready(link_id link);
  void fetch(link_id link);
  void drop(link_id link, const closing& here, const refusal& there, bool says_why);
  void end_all(const closing& how);
  [[nodiscard]] end* find(link_id link);

  memory_network& net_;
  hello own_;
  std::string at_, bears_;
  post_function post_;
  transport_events* events_;
  transport_limits limits_;
  link_table table_;
  std::map<link_id, end> links_;
  link_id last_ = 0;
  std::shared_ptr<memory_transport*> alive_; // of jobs that are still to run
};

} // namespace cluster::wire
