// What an operator's tools ask.
#include "server/health.hpp"
#include "actors/home.hpp"
#include "base/metrics.hpp"
#include "net/http_listener.hpp"
#include "server/runner.hpp"
#include <thread>

namespace server {

struct health::impl {
  runner& server;
  net::loop loop;
  std::vector<std::unique_ptr<net::http_listener>> listeners;
  std::thread thread;
  net::timer beat;
  /// When each reactor last answered; shared with the beats that are on their way.
  std::shared_ptr<std::vector<std::atomic<std::int64_t>>> answered;

  static std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  explicit impl(runner& r) : server(r) {
    auto& homes = r.node().homes();
    answered = std::make_shared<std::vector<std::atomic<std::int64_t>>>(homes.size());
    for (auto& a : *answered)
      a = now();
    ask();
  }

  void ask() {
    if (server.is_ready())
      for (auto* h : server.node().homes())
        h->post_from_anywhere([all = answered](actors::home& at) { (*all)[at.index()] = now(); });
    loop.arm(beat, std::chrono::seconds{1}, [this] { ask(); });
  }

  bool is_alive() const {
    constexpr std::int64_t most_silent = 10; // seconds
    for (auto& a : *answered)
      if (server.is_ready() && now() - a > most_silent)
        return false;
    return true;
  }

  std::optional<net::http_reply> reply(std::string_view path) {
    net::http_reply r;
    if (path == "/metrics") {
      r.body = base::metrics::expose();
      r.type = "text/plain; version=0.0.4; charset=utf-8";
      return r;
    }
    auto refuse = [&r](const char* why) {
      r.status = 503;
      r.body = why;
    };
    if (path == "/livez") {
      r.body = "alive\n";
      if (!is_alive())
        refuse("a reactor does not answer\n");
      return r;
    }
    bool is_readiness = path == "/readyz", is_of_this_alone = path == "/readyz/alone"; // whatever became of the other nodes
    if (!is_readiness && !is_of_this_alone)
      return std::nullopt;
    r.body = "ready\n";
    if (!server.is_ready())
      refuse("not ready: no new sessions, it drains or stops\n");
    else if (is_readiness && server.is_in_minority())
      refuse("not ready: in a minority, more nodes of the cluster are silent than answer\n");
    return r;
  }
};

health::health(runner& r) : impl_(std::make_unique<impl>(r)) {}

health::~health() { close(); }

bool health::is_alive() const { return impl_ && impl_->is_alive(); }

base::result<void, std::string> health::listen(const std::vector<listen_at>& all) {
  for (auto& at : all) {
    auto l = net::http_listener::open(impl_->loop, at.address, at.port, [i = impl_.get()](std::string_view path) { return i->reply(path); });
    if (!l)
      return base::fail("listen.http: " + at.address + " port " + std::to_string(at.port) + ": " + l.error().text);
    impl_->listeners.push_back(std::move(*l));
  }
  impl_->thread = std::thread{[i = impl_.get()] { i->loop.run(); }};
  return {};
}

void health::close() {
  if (!impl_)
    return;
  impl_->loop.stop();
  if (impl_->thread.joinable())
    impl_->thread.join();
  impl_->listeners.clear();
  impl_ = nullptr;
}

} // namespace server
