// epoll over the listener and the strangers.
#include "cluster/rpc/door.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace cluster::rpc {

namespace {
constexpr std::size_t most_jobs = 1'024;
constexpr auto pause_without_descriptors = std::chrono::milliseconds{100};

base::metrics::counter& strangers_total(const char* reason) {
  return base::metrics::make_counter("covey_cluster_strangers_total", "Connections to the cluster port that never showed who they were", {{"reason", reason}});
}

struct named {
  std::string peer, group; // as gRPC writes it; the address alone, of an IPv6 one its /64
};

named name_of(const sockaddr_storage& s) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (s.ss_family == AF_INET) {
    auto& v4 = reinterpret_cast<const sockaddr_in&>(s);
    inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return {std::string{"ipv4:"} + text.data() + ':' + std::to_string(ntohs(v4.sin_port)), text.data()};
  }
  auto& v6 = reinterpret_cast<const sockaddr_in6&>(s);
  auto port = std::to_string(ntohs(v6.sin6_port));
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text.data(), text.size());
    return {std::string{"ipv4:"} + text.data() + ':' + port, text.data()};
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
  auto half = v6.sin6_addr;
  std::memset(&half.s6_addr[8], 0, 8);
  std::array<char, INET6_ADDRSTRLEN> group{};
  inet_ntop(AF_INET6, &half, group.data(), group.size());
  return {std::string{"ipv6:%5B"} + text.data() + "%5D:" + port, group.data()};
}

/// What gRPC does for connections that it accepts itself: a frame goes at once, and does not wait until the one before is
/// acknowledged (which the other end delays by 40 ms). And a peer whose machine is gone is noticed although nothing is written:
/// after 20 s, and unacknowledged data after 10.
void tend(int fd) {
  auto set = [fd](int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 10);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 5);
  set(IPPROTO_TCP, TCP_KEEPCNT, 2);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
}
} // namespace

std::uint64_t log_limiter::due(base::time_point now) {
  std::lock_guard guard{mutex_};
  ++count_;
  if (now < next_)
    return 0;
  next_ = now + std::chrono::seconds{10};
  return std::exchange(count_, 0);
}

door::door(const door_settings& settings, std::function<void(int)> take, std::function<bool(base::time_point)> tick)
  : settings_(settings), take_(std::move(take)), tick_(std::move(tick)) {
  poll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event e{EPOLLIN, {.fd = wake_}};
  epoll_ctl(poll_, EPOLL_CTL_ADD, wake_, &e);
}

door::~door() {
  close();
  ::close(wake_);
  ::close(poll_);
}

base::result<void, std::string> door::listen(const std::string& address) {
  auto colon = address.rfind(':');
  auto host = colon == address.npos ? address : address.substr(0, colon);
  auto port = colon == address.npos ? std::string{} : address.substr(colon + 1);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (int e = getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found); e != 0)
    return base::fail(address + " is no address to listen at: " + gai_strerror(e));
  std::unique_ptr<addrinfo, void (*)(addrinfo*)> freed{found, freeaddrinfo};
  listener_ = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int on = 1;
  if (listener_ >= 0)
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  if (listener_ < 0 || bind(listener_, found->ai_addr, found->ai_addrlen) != 0 || ::listen(listener_, 128) != 0
      || getsockname(listener_, reinterpret_cast<sockaddr*>(&own), &size) != 0) {
    auto why = address + " cannot be listened at: " + std::strerror(errno);
    if (listener_ >= 0)
      ::close(listener_);
    listener_ = -1;
    return base::fail(why);
  }
  port_ = ntohs(own.ss_family == AF_INET ? reinterpret_cast<sockaddr_in&>(own).sin_port : reinterpret_cast<sockaddr_in6&>(own).sin6_port);
  epoll_event e{EPOLLIN, {.fd = listener_}};
  epoll_ctl(poll_, EPOLL_CTL_ADD, listener_, &e);
  return {};
}

void door::wake() const {
  std::uint64_t one = 1;
  if (write(wake_, &one, sizeof one) < 0) {} // it counts already
}

bool door::run(std::function<void()> job) {
  std::lock_guard guard{mutex_};
  if (is_closed_ || jobs_.size() >= most_jobs)
    return false;
  jobs_.push_back(std::move(job));
  wake();
  return true;
}

void door::know(const std::string& peer) {
  std::lock_guard guard{mutex_};
  if (auto s = strangers_.find(peer); s != strangers_.end())
    end(s);
}

void door::refuse(const std::string& peer) {
  std::lock_guard guard{mutex_};
  if (auto s = strangers_.find(peer); s != strangers_.end())
    s->second.is_refused = true;
}

void door::close() {
  {
    std::lock_guard guard{mutex_};
    is_closed_ = true;
    wake();
  }
  if (thread_.joinable())
    thread_.join();
  std::lock_guard guard{mutex_};
  if (listener_ >= 0)
    ::close(std::exchange(listener_, -1));
  while (!strangers_.empty()) {
    shutdown(strangers_.begin()->second.watched, SHUT_RDWR);
    end(strangers_.begin());
  }
  jobs_.clear();
}

void door::end(std::map<std::string, stranger>::iterator s) {
  ::close(s->second.watched);
  if (auto g = groups_.find(s->second.group); g != groups_.end() && --g->second == 0)
    groups_.erase(g);
  strangers_.erase(s);
}

void door::turn_away(const char* reason, const std::string& peer, base::time_point now) {
  strangers_total(reason).add();
  if (auto n = log_.due(now))
    base::log::warning("cluster.stranger", "a connection to the cluster port did not show who it is",
                       {{"peer", peer}, {"reason", reason}, {"count", std::to_string(n)}});
}

void door::let_in(int fd, const std::string& peer, const std::string& group, base::time_point now) {
  const char* refused = nullptr;
  {
    std::lock_guard guard{mutex_};
    if (auto old = strangers_.find(peer); old != strangers_.end())
      end(old); // its port is in use again: it has ended
    auto& of_group = groups_[group];
    if (strangers_.size() >= settings_.strangers || of_group >= settings_.strangers_per_address)
      refused = "too_many";
    else if (int watched = fcntl(fd, F_DUPFD_CLOEXEC, 0); watched < 0)
      refused = "no_descriptors";
    else {
      ++of_group;
      strangers_.insert_or_assign(peer, stranger{watched, group, now + settings_.hello});
    }
    if (of_group == 0)
      groups_.erase(group);
  }
  if (refused) {
    ::close(fd);
    return turn_away(refused, peer, now);
  }
  tend(fd);
  take_(fd);
}

void door::accept_all(base::time_point now) {
  for (int i = 0; i < 64; ++i) { // then the strangers' deadlines again
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    int fd = accept4(listener_, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      auto n = name_of(from);
      let_in(fd, n.peer, n.group, now);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      turn_away("no_descriptors", "", now);
      std::this_thread::sleep_for(pause_without_descriptors); // it waits in the kernel meanwhile
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      return;
    }
  }
}

void door::serve() {
  for (;;) {
    auto now = base::steady::now();
    int wait = -1;
    std::vector<std::pair<const char*, std::string>> gone;
    std::vector<std::function<void()>> jobs;
    {
      std::lock_guard guard{mutex_};
      if (is_closed_)
        return;
      jobs.swap(jobs_);
      for (auto i = strangers_.begin(); i != strangers_.end();) {
        auto s = i++;
        tcp_info info{};
        socklen_t size = sizeof info;
        bool has_ended = getsockopt(s->second.watched, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_state == TCP_CLOSE
                         || info.tcpi_state == TCP_CLOSE_WAIT || info.tcpi_state == TCP_LAST_ACK || info.tcpi_state == TCP_TIME_WAIT
                         || info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2 || info.tcpi_state == TCP_CLOSING;
        if (!has_ended && now < s->second.until)
          continue;
        if (!s->second.is_refused)
          gone.emplace_back(has_ended ? "no_hello" : "too_slow", s->first);
        shutdown(s->second.watched, SHUT_RDWR);
        end(s);
      }
      if (!strangers_.empty())
        wait = 50; // few of them, and seldom: looking is simpler than being told
    }
    for (auto& [reason, peer] : gone)
      turn_away(reason, peer, now);
    for (auto& job : jobs)
      job();
    if (tick_(now) && wait < 0)
      wait = 200;
    epoll_event events[2];
    int n = epoll_wait(poll_, events, 2, wait);
    for (int i = 0; i < n; ++i) {
      if (events[i].data.fd == listener_)
        accept_all(base::steady::now());
      std::uint64_t count = 0;
      if (events[i].data.fd == wake_ && read(wake_, &count, sizeof count) < 0) {}
    }
  }
}

} // namespace cluster::rpc
