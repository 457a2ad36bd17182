// The listening socket, and what becomes of connections until they have shown who they are: few of them, not for long.
// No gRPC: it hands descriptors on.
#pragma once
#include "base/result.hpp"
#include "base/token_bucket.hpp"
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace cluster::rpc {

/// At most one line of the log in ten seconds, with how many there were since the last.
class log_limiter {
public:
  /// 0: not now. Any thread.
  [[nodiscard]] std::uint64_t due(base::time_point now);

private:
  std::mutex mutex_;
  base::time_point next_{};
  std::uint64_t count_ = 0;
};

struct door_settings {
  std::size_t strangers, strangers_per_address;
  std::chrono::milliseconds hello;
};

/// One thread: it accepts, ends what is too slow, and does small jobs for others. Whoever it let in and who does not
/// become known in time is a stranger: closed, counted (`covey_cluster_strangers_total`), logged.
class door {
public:
  /// Both are called on the door's thread. `take` owns the descriptor. `tick` runs five times a second while it says that
  /// it wants to, and after each wake().
  door(const door_settings& settings, std::function<void(int fd)> take, std::function<bool(base::time_point now)> tick);
  ~door();
  /// "host:port" with an address or a name, port 0: any. Errors: a text for the operator. Once, before start().
  [[nodiscard]] base::result<void, std::string> listen(const std::string& address);
  void start() { thread_ = std::thread{[this] { serve(); }}; }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  /// The peer ("ipv4:…", "ipv6:…", as gRPC writes them) has shown who it is. Any thread.
  void know(const std::string& peer);
  /// It has been refused: no stranger, but it has no more time than one. Any thread.
  void refuse(const std::string& peer);
  /// Let tick() look again. Any thread.
  void wake() const;
  /// Runs it on the door's thread. False: too much waits already, or it is closed. Any thread.
  bool run(std::function<void()> job);
  /// No more connections, no more jobs; strangers are closed. What was let in stays.
  void close();

private:
  struct stranger {
    int watched; // a second descriptor of the connection: to see its end, and to bring it about
    std::string group;
    base::time_point until;
    bool is_refused = false; // and counted as that
  };
  void serve();
  void accept_all(base::time_point now);
  void let_in(int fd, const std::string& peer, const std::string& group, base::time_point now);
  void turn_away(const char* reason, const std::string& peer, base::time_point now);
  void end(std::map<std::string, stranger>::iterator s);

  const door_settings settings_;
  const std::function<void(int)> take_;
  const std::function<bool(base::time_point)> tick_;
  int listener_ = -1, poll_ = -1, wake_ = -1;
  std::uint16_t port_ = 0;
  std::mutex mutex_; // of what follows
  std::map<std::string, stranger> strangers_;
  std::map<std::string, std::size_t> groups_; // strangers by address
  std::vector<std::function<void()>> jobs_;
  bool is_closed_ = false;
  log_limiter log_;
  std::thread thread_; // last: uses the rest
};

} // namespace cluster::rpc
