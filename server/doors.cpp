// Listeners and the way from an accepted descriptor to a connection.
#include "server/doors.hpp"
#include "actors/client.hpp"
#include "actors/connection.hpp"
#include "actors/reactor.hpp"
#include "actors/stream.hpp"
#include "base/log.hpp"
#include <algorithm>
#include <future>
#include <unistd.h>

namespace server {

namespace {
base::metrics::counter& refused(const char* why) {
  return base::metrics::make_counter("covey_connections_refused_total", "Connections that were closed because of where they come from.", {{"reason", why}});
}

/// Listeners belong to their loop's thread.
template <class F>
auto ask(net::loop& l, F f) {
  std::packaged_task<decltype(f())()> task{std::move(f)};
  auto done = task.get_future();
  l.post([&] { task(); });
  return done.get();
}

bool is_among(const std::vector<listen_at>& all, const listen_at& at) {
  return std::ranges::any_of(all, [&](auto& a) { return a.address == at.address && a.port == at.port; });
}
} // namespace

doors::doors(std::shared_ptr<const config> c, actors::node& n, const std::vector<std::unique_ptr<actors::reactor>>& reactors)
  : config_(std::move(c)), node_(n), reactors_(reactors) {
  for (auto* why : {"strangers", "proxy"})
    refused(why); // there from the start, so that a rate of them can be watched
}

doors::~doors() = default;

base::result<void, std::string> doors::open() {
  auto failed = ask(reactors_.front()->loop(), [this] { return open_here(); });
  if (!failed.empty())
    return base::fail(std::move(failed));
  return {};
}

std::string doors::open_here() {
  auto& loop = reactors_.front()->loop();
  std::string failed;
  if (!config_->proxied.empty())
    behind_proxies_ = std::make_unique<net::proxy_reader>(loop, config_->trusted_proxies, config_->proxies, [](const std::string& peer, std::string_view why) {
      refused("proxy").add();
      base::log::warning("proxy.refused", "a connection without a PROXY header that can be trusted was closed", {{"peer", peer}, {"error", why}});
    });
  auto open = [&](const std::vector<listen_at>& all, const char* what, bool is_direct) {
    for (auto& at : all) {
      actors::entrance how{.is_direct_tls = is_direct, .is_shaped = is_among(config_->shaped, at)};
      bool is_proxied = is_among(config_->proxied, at);
      auto l = net::listener::open(loop, at.address, at.port, [this, how, is_proxied](int fd, bool is_v6) {
        if (!is_proxied)
          return accept(fd, is_v6, how, std::nullopt);
        behind_proxies_->take(fd, is_v6, [this, is_v6, how](int ready, std::optional<net::endpoint> source) { accept(ready, is_v6, how, source); });
      });
      if (!l) {
        failed += (failed.empty() ? "" : "\n") + std::string{what} + ": " + l.error().address + " port " + std::to_string(l.error().port) + ": " + l.error().text;
        continue;
      }
      ports_.emplace(what, (*l)->port());
      listeners_.push_back(std::move(*l));
    }
  };
  open(config_->c2s, "c2s", false);
  if (!node_.certificates().is_empty())
    open(config_->c2s_direct, "c2s_direct", true);
  return failed;
}

/// At most one line in ten seconds, with what was not said: a flood must not fill the disk.
void doors::say_refused(const net::address_key& peer) {
  ++unsaid_;
  if (node_.clock().now() < say_after_)
    return;
  say_after_ = node_.clock().now() + std::chrono::seconds{10};
  base::log::warning("connection.refused", "too many connections of one address, or of all, have not logged in",
                     {{"peer", net::name_of(peer)}, {"count", std::to_string(std::exchange(unsaid_, 0))}});
}

/// `source`: the client's address, where a proxy named it.
void doors::accept(int fd, bool is_v6, const actors::entrance& how, std::optional<net::endpoint> source) {
  auto peer = source ? source : net::peer_of(fd);
  auto place = peer ? node_.strangers().enter(net::key_of(*peer)) : std::nullopt;
  if (!place) { // too many strangers from there, or it is gone again
    static auto& all = refused("strangers");
    all.add();
    if (peer)
      say_refused(net::key_of(*peer));
    ::close(fd);
    return;
  }
  auto& to = *reactors_[next_++ % reactors_.size()];
  to.lights().post_from_anywhere([&to, fd, is_v6, how, source, place = std::move(*place)](actors::home& h) mutable {
    auto& c = h.make<actors::connection>(net::adopt(h.loop(), fd, is_v6), how, std::move(place));
    if (source)
      c.socket().set_peer(*source);
    auto& s = h.make<actors::stream>(c);
    s.set_client(actors::spawn_client(to, s.id()));
    s.start();
    c.start(s);
  });
}

void doors::close() {
  if (listeners_.empty() && !behind_proxies_)
    return;
  ask(reactors_.front()->loop(), [this] {
    listeners_.clear();
    behind_proxies_ = nullptr;
    return 0;
  });
}

std::uint16_t doors::port_of(const std::string& what) const {
  auto i = ports_.find(what);
  return i == ports_.end() ? 0 : i->second;
}

} // namespace server
