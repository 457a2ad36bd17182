// Links between nodes of one process that run on threads of their own: cluster/memory_transport on one thread, which is the
// network. Its rules are those of the real one; no queue is ever full, and whoever dials is always welcome.
#pragma once
#include "cluster/memory_transport.hpp"
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <unordered_map>

namespace actors::testing {

class threaded_network {
public:
  threaded_network() : thread_([this] { run(); }) {}
  threaded_network(const threaded_network&) = delete;
  threaded_network& operator=(const threaded_network&) = delete;
  ~threaded_network() {
    post({}); // the end
    thread_.join();
  }

  std::unique_ptr<cluster::wire::transport> listen(const cluster::wire::hello& own, cluster::wire::post_function post, cluster::wire::transport_events& events);
  /// Links between the two break with what is on its way, dials find nobody. Any thread, as what follows.
  void cut(const std::string& a, const std::string& b) {
    wait_for([&] {
      net_.cut(a, b);
      net_.cut(b, a);
    });
  }
  void mend(const std::string& a, const std::string& b) {
    wait_for([&] {
      net_.mend(a, b);
      net_.mend(b, a);
    });
  }
  /// As if the process there had ended: links are reset, dials refused. That node itself hears nothing any more.
  void kill(const std::string& address) {
    wait_for([&] {
      if (auto i = nodes_.find(address); i != nodes_.end())
        i->second->kill();
    });
  }

private:
  friend class threaded_transport;
  using job = std::function<void()>;
  void post(job j) {
    std::lock_guard guard{mutex_};
    jobs_.push_back(std::move(j));
    wake_.notify_one();
  }
  void wait_for(const job& j) {
    auto done = std::make_shared<std::promise<void>>();
    auto is_done = done->get_future();
    post([&j, done] {
      j();
      done->set_value();
    });
    is_done.wait();
  }
  void run() {
    for (;;) {
      job next;
      {
        std::unique_lock guard{mutex_};
        wake_.wait(guard, [this] { return !jobs_.empty(); });
        next = std::move(jobs_.front());
        jobs_.pop_front();
      }
      if (!next)
        return;
      next();
    }
  }

  std::mutex mutex_; // of what follows
  std::condition_variable wake_;
  std::deque<job> jobs_;
  // of the thread
  cluster::wire::memory_network net_;
  std::map<std::string, cluster::wire::memory_transport*> nodes_;
  std::thread thread_;
};

/// The end of a node. Its own numbers of links are odd where it dialled, even where it was dialled: each is given on the
/// thread that knows of it first.
class threaded_transport final : public cluster::wire::transport {
public:
  threaded_transport(threaded_network& net, const cluster::wire::hello& own, cluster::wire::post_function post, cluster::wire::transport_events& events)
    : net_(net), near_(std::make_shared<near>()), far_(std::make_shared<far>()) {
    near_->events = &events;
    far_->post = std::move(post);
    far_->there = near_;
    net_.wait_for([&] {
      cluster::wire::transport_limits endless;
      endless.packet = endless.queue = SIZE_MAX / 2;
      far_->inner = std::make_unique<cluster::wire::memory_transport>(net_.net_, own, [n = &net_](auto j) { n->post(std::move(j)); }, *far_, endless);
      net_.nodes_[own.address] = far_->inner.get();
    });
    at_ = own.address;
  }
  ~threaded_transport() override { stop(); }

  cluster::wire::link_id dial(const std::string& address, const std::string& node) override {
    auto id = last_ += 2;
    near_->lines[id] = {};
    net_.post([f = far_, id, address, node] {
      if (f->inner)
        f->join(f->inner->dial(address, node), id);
    });
    return id;
  }
  cluster::wire::sent send(cluster::wire::link_id link, std::string frame) override {
    auto i = near_->lines.find(link);
    if (i == near_->lines.end() || !i->second.is_connected)
      return cluster::wire::sent::gone;
    ++i->second.sent;
    net_.post([f = far_, link, frame = std::move(frame)]() mutable {
      auto to = f->inner_of.find(link);
      if (!f->inner || to == f->inner_of.end())
        return; // its end is on the way
      ++f->outer_of[to->second].given;
      (void)f->inner->send(to->second, std::move(frame));
    });
    return cluster::wire::sent::ok;
  }
  void close(cluster::wire::link_id link, const cluster::wire::refusal& why) override {
    net_.post([f = far_, link, why] {
      if (auto i = f->inner_of.find(link); f->inner && i != f->inner_of.end())
        f->inner->close(i->second, why);
    });
  }
  void set_hello(const cluster::wire::hello& own) override {
    net_.post([f = far_, own] {
      if (f->inner)
        f->inner->set_hello(own);
    });
  }
  void stop() override {
    if (!near_->events)
      return;
    near_->events = nullptr;
    net_.wait_for([this] {
      far_->inner->stop();
      net_.nodes_.erase(at_);
      far_->inner = nullptr;
    });
  }

private:
  /// What the node's thread knows.
  struct near {
    struct line { bool is_connected = false; std::uint64_t sent = 0; };
    std::unordered_map<cluster::wire::link_id, line> lines;
    cluster::wire::transport_events* events = nullptr; // null: it is over
  };
  /// What the network's thread knows. No event leaves it when `inner` is gone.
  struct far final : cluster::wire::transport_events {
    struct line { cluster::wire::link_id outer = 0; std::uint64_t given = 0; };
    std::unique_ptr<cluster::wire::memory_transport> inner;
    std::unordered_map<cluster::wire::link_id, line> outer_of;
    std::unordered_map<cluster::wire::link_id, cluster::wire::link_id> inner_of;
    cluster::wire::post_function post;
    std::weak_ptr<near> there;
    cluster::wire::link_id last = 0;

    void join(cluster::wire::link_id in, cluster::wire::link_id out) {
      outer_of[in].outer = out;
      inner_of[out] = in;
    }
    template <class F>
    void tell(F f) {
      post([there = there, f = std::move(f)]() mutable {
        if (auto n = there.lock(); n && n->events)
          f(*n);
      });
    }
    base::result<void, cluster::wire::refusal> accept(const cluster::wire::hello&) override { return {}; } // nobody is asked: not on his thread
    void connected(cluster::wire::link_id link, const cluster::wire::hello& peer, std::uint32_t version) override {
      if (!outer_of.contains(link))
        join(link, last += 2);
      tell([id = outer_of[link].outer, peer, version](near& n) {
        n.lines[id].is_connected = true;
        n.events->connected(id, peer, version);
      });
    }
    void received(cluster::wire::link_id link, std::vector<std::string> frames) override {
      tell([id = outer_of[link].outer, frames = std::move(frames)](near& n) mutable { n.events->received(id, std::move(frames)); });
    }
    void written(cluster::wire::link_id link) override {
      tell([l = outer_of[link]](near& n) {
        if (auto i = n.lines.find(l.outer); i != n.lines.end() && i->second.sent == l.given)
          n.events->written(l.outer); // else another one follows
      });
    }
    void closed(cluster::wire::link_id link, const cluster::wire::closing& how) override {
      auto id = outer_of[link].outer;
      outer_of.erase(link);
      inner_of.erase(id);
      tell([id, how](near& n) {
        n.lines.erase(id);
        n.events->closed(id, how);
      });
    }
  };

  threaded_network& net_;
  std::shared_ptr<near> near_;
  std::shared_ptr<far> far_;
  std::string at_;
  cluster::wire::link_id last_ = static_cast<cluster::wire::link_id>(-1); // of dials: 1, 3 ...
};

inline std::unique_ptr<cluster::wire::transport> threaded_network::listen(const cluster::wire::hello& own, cluster::wire::post_function post,
                                                                          cluster::wire::transport_events& events) {
  return std::make_unique<threaded_transport>(*this, own, std::move(post), events);
}

} // namespace actors::testing
