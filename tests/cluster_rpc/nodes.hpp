// Nodes of one process for the tests: certificates made on the spot, a home thread that is the test itself, and all
// that happened written down.
#pragma once
#include "base/x509.hpp"
#include "cluster/rpc/node_service.hpp"
#include "tests/server/folder.hpp"
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <doctest/doctest.h>
#include <mutex>
#include <set>
#include <thread>

namespace rpc_tests {

using namespace std::chrono_literals;
using namespace cluster;
using server_tests::folder;

/// Jobs of all nodes, run when the test says so.
class home {
public:
  wire::post_function post() {
    return [this](std::function<void()> job) {
      std::lock_guard guard{mutex_};
      jobs_.push_back(std::move(job));
      ++posted;
      came_.notify_one();
    };
  }
  /// Runs jobs until it is so. False: not within the limit.
  bool until(const std::function<bool()>& is_so, std::chrono::milliseconds limit = 5s) {
    auto end = std::chrono::steady_clock::now() + limit;
    while (!is_so()) {
      auto now = std::chrono::steady_clock::now();
      if (now > end)
        return false;
      std::unique_lock l{mutex_};
      came_.wait_until(l, std::min(end, now + 5ms), [&] { return !jobs_.empty(); }); // what no job brings is looked for, too
      auto all = std::move(jobs_);
      jobs_.clear();
      l.unlock();
      for (auto& j : all)
        j();
    }
    return true;
  }
  void run_for(std::chrono::milliseconds time) {
    (void)until([] { return false; }, time);
  }
  std::uint64_t posted = 0;

private:
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> jobs_;
};

/// A cluster's authority, and certificates of its nodes.
struct ca {
  base::x509::authority own = base::x509::make_authority("test authority", 24h);
  /// Files of a node; what is there is replaced.
  rpc::identity_files issue(const folder& f, const std::string& node, std::chrono::seconds life = 1h, const std::string& bears = {}) const {
    auto key = base::x509::key::generate();
    auto x = base::x509::issue(own, key, {node, "URI:" + wire::node_uri(bears.empty() ? node : bears), life});
    return {f.write(node + ".ca.pem", own.own.pem()), f.write(node + ".pem", x.pem() + own.own.pem()), f.write(node + ".key", key.pem())};
  }
};

struct node final : wire::transport_events {
  node(home& h, const folder& f, const ca& authority, const std::string& name, const std::function<void(rpc::settings&)>& change = {})
    : node(h, authority.issue(f, name), name, change) {}
  node(home& h, const rpc::identity_files& files, const std::string& name, const std::function<void(rpc::settings&)>& change = {}) : home_(h) {
    rpc::settings s;
    s.listen = "127.0.0.1:0";
    s.files = files;
    s.own = {"test", name, 1, "", 1, 3};
    if (change)
      change(s);
    auto made = rpc::node_service::start(std::move(s), h.post(), *this);
    if (!made)
      throw std::runtime_error(made.error());
    service = std::move(*made);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(service->port()); }
  wire::link_id dial(const node& other, const std::string& who = {}) { return service->dial(other.address(), who); }
  /// The one link to it; 0: none.
  wire::link_id link_to(const std::string& name) const {
    auto i = links.find(name);
    return i == links.end() ? 0 : i->second;
  }
  /// All that came, from whichever link.
  std::size_t count() const { return frames.size(); }

  base::result<void, wire::refusal> accept(const wire::hello& peer) override {
    ++asked;
    return verdict ? verdict(peer) : base::result<void, wire::refusal>{};
  }
  void connected(wire::link_id link, const wire::hello& peer, std::uint32_t v) override {
    CHECK(!links.contains(peer.node)); // one per pair
    links[peer.node] = link;
    names[link] = peer.node;
    version = v;
    ++connects;
  }
  void received(wire::link_id link, std::vector<std::string> some) override {
    CHECK(names.contains(link));
    ++batches;
    if (on_frames)
      return on_frames(link, some);
    for (auto& f : some)
      frames.push_back(std::move(f));
  }
  void written(wire::link_id) override { ++writes; }
  void closed(wire::link_id link, const wire::closing& how) override {
    if (auto i = names.find(link); i != names.end()) {
      links.erase(i->second);
      names.erase(i);
    }
    closings[link] = how;
    last = how;
    if (on_closed)
      on_closed(link);
  }

  home& home_;
  std::function<base::result<void, wire::refusal>(const wire::hello&)> verdict;
  std::function<void(wire::link_id, std::vector<std::string>&)> on_frames;
  std::function<void(wire::link_id)> on_closed;
  std::map<std::string, wire::link_id> links;
  std::map<wire::link_id, std::string> names;
  std::map<wire::link_id, wire::closing> closings;
  std::vector<std::string> frames;
  wire::closing last;
  std::uint32_t version = 0;
  unsigned connects = 0, asked = 0, batches = 0, writes = 0;
  std::unique_ptr<rpc::node_service> service; // last: its end uses the rest
};

} // namespace rpc_tests
