// What the modes of the load generator share: its clients, how they log in, what is printed.
#pragma once
#include "bench/load/wire.hpp"
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace load {

struct options {
  std::string mode;
  target to;
  std::vector<int> pids, other_pids; // of the server; of what it uses
  std::uint16_t port2 = 0, home_port = 0; // chat between two nodes: where receivers are; where their accounts live
  int pairs = 100, window = 10, sessions = 0, contacts = 0, first = 0;
  double seconds = 2, warm_up = 0.5, rate = 1'000, settle = 60;
  std::vector<std::pair<int, int>> pairing; // by reactor: who talks to whom
  std::string pairing_file;
  bool inactive = false; // idle sessions say that nobody looks (XEP-0352)
  // --- reconnect
  way back = way::token;
  int storms = 2, at_once = 500;
  double pause = 1;
  bool messages = false;
};

/// CPU time of all threads of these processes, in ns.
std::uint64_t cpu_ns(const std::vector<int>& pids);
std::uint64_t rss_anon(const std::vector<int>& pids);
double own_cpu();

struct bench {
  options o;
  load::loop loop;
  std::vector<std::unique_ptr<wire>> wires;
  int ready = 0;
  std::vector<int> finished, senders;
  std::size_t known = 0, approved = 0, rosters = 0; // contacts, answers to requests, answers to who asked for its roster
  std::uint64_t heard_at = 0;

  explicit bench(options x) : o(std::move(x)), loop(o.to) {}

  // --- the modes; each returns the exit code
  int chat(bool open_loop); // 1:1, closed or open loop: user 2k sends, user 2k+1 receives
  int ping();               // XEP-0199 to the server, one at a time per client
  int presence();           // user i changes, its contacts get a copy each
  int make_friends();       // for later runs: everybody and its neighbours subscribe to each other
  int idle();               // memory of idle sessions
  int logins(bool bare);    // one after the other on each of `pairs` connections; or bare handshakes
  int create();             // accounts, by in-band registration
  int store();              // messages to who is not there, until they are acknowledged; then they are fetched
  int reconnect();          // all connections lost at once, all clients back at once

  // --- what they share
  /// Logs `n` clients in, at most `at_once` under way. `prepare` and `done`: what a client does when it is ready, and how
  /// many are through with it; without them, nothing.
  bool login(int n, way how = way::bind, int at_once = 200, const std::function<void(wire&)>& prepare = {}, const std::function<int()>& done = {});
  bool make_homes(const std::vector<int>& of, std::vector<std::unique_ptr<wire>>& devices);
  void available();
  void watch_roster(wire& w);
  void come_online(wire& w);
  void wait_for_silence();
  bool befriend(int n, int half);
  /// As long as the server's, so that the bytes are the same.
  std::string relay_jid(int n) const { return o.to.user_prefix + std::to_string(n) + "@localhost/b"; }
  void all_acknowledged();
  void leave();
  struct cost {
    std::uint64_t units, server_ns; // of the server's processes
    double seconds, own;            // how long, and this process's CPU time in it
    std::uint64_t other_ns = 0;
  };
  /// What `seconds` of the load cost; `units` counts it, `turn` runs in each turn of the loop.
  cost watch(const std::uint64_t& units, const std::function<bool()>& turn = [] { return false; });
  void measure(bool& stopping);
  void print(const std::string& extra, const cost& seen) const;
  std::string user(int number) const { return o.to.user_prefix + std::to_string(number + o.first); }
};

} // namespace load
