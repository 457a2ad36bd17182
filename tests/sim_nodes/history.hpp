// What happened in a run, as the checker judges it: every message from its sender's hand to its receivers'.
#pragma once
#include "tests/sim/verdict.hpp"
#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace sim_nodes {

using namespace std::chrono_literals;
using sim::duration;
using sim::time_point;
using sim::world;

/// Of one login of one client, over any number of resumptions; and of one of its connections. Never used twice.
using login_id = std::uint64_t;
using stream_id = std::uint64_t;

struct message {
  std::size_t from = 0;      // client
  std::size_t account = 0;   // whose devices it is for
  std::string to;            // bare or full
  login_id login = 0;        // of its sender, when it was sent first
  login_id told = 0;         // and when it was acknowledged
  time_point sent{}, acknowledged{};
  bool is_resent = false;    // by its client, on another stream
  bool is_kept = false;      // nobody was there for it
  bool is_kept_again = false; // after it had gone somewhere else, or for a session that did not acknowledge it
  bool is_acknowledged = false, is_bounced = false;
  struct copy {
    std::size_t client = 0;
    login_id login = 0;
    stream_id stream = 0;
    time_point when{};
    bool is_carbon = false, is_delayed = false, is_early = false; // the last: before the client knew that it is available
    bool is_heard = false;   // a node has had the ack, and has not died since
    time_point heard{};
    std::size_t node = 0;    // which
  };
  std::vector<copy> copies;
};

struct announcement {
  std::size_t from = 0;
  time_point sent{};
  bool is_acknowledged = false, is_bounced = false, is_resent = false;
  std::map<stream_id, unsigned> copies;
};

inline constexpr auto looks_every = std::chrono::milliseconds{50}; // at what nodes think

struct history : sim::verdict {
  std::vector<message> messages{1};           // by number; 0 is not used
  std::vector<announcement> announcements{1}; // the same
  /// A life ended or a process did, or two nodes gave each other up: an ack may be lost with that, and who stays routes again.
  std::vector<time_point> losses, given_up_nodes;
  /// Of an account: from bind to <enabled/>, or until the node can have noticed that the connection broke in between. What is
  /// written to it then is handed to one that cannot acknowledge.
  struct without_acks { std::size_t account; time_point from, until; };
  std::vector<without_acks> unmanaged;
  [[nodiscard]] bool could_not_acknowledge(std::size_t account, time_point from, time_point to) const {
    return std::ranges::any_of(unmanaged, [&](auto& u) { return u.account == account && u.from <= to && from <= u.until; });
  }
  /// A client's session, as long as its server may have it.
  struct stay { std::size_t account, client; time_point from, until; };
  std::vector<stay> stays;
  /// What is stored may have been another one's, and is given on late when that goes without an ack.
  [[nodiscard]] bool had_another(std::size_t account, std::size_t client, time_point from, time_point to) const {
    return std::ranges::any_of(stays, [&](auto& s) { return s.account == account && s.client != client && s.from <= to && from <= s.until; });
  }
  /// Sessions of that account came, went or moved: its home may have moved, too.
  std::map<std::size_t, std::vector<time_point>> moves;
  /// A client has given that session up, with what it had not been told.
  std::map<login_id, time_point> given_up;
  std::uint64_t hash = 0xcbf29ce484222325; // of all that nodes and clients have said, and when
  stream_id last_stream = 0;
  std::uint64_t logins = 0, resumptions = 0, refused_resumptions = 0, conflicts = 0, kills = 0, stops = 0, pauses = 0, splits = 0, bytes = 0;

  void note(const world& w, std::string_view what) {
    auto mix = [this](std::uint64_t x) { hash = (hash ^ x) * 0x9e3779b97f4a7c15 ^ hash >> 29; };
    mix(static_cast<std::uint64_t>(w.now().time_since_epoch().count()));
    for (std::size_t i = 0; i < what.size(); i += 8) {
      std::uint64_t part = 0;
      what.copy(reinterpret_cast<char*>(&part), 8, i);
      mix(part);
    }
    bytes += what.size();
  }
  void lost(const world& w) { losses.push_back(w.now()); }
  [[nodiscard]] static bool is_any_in(const std::vector<time_point>& all, time_point from, time_point to) {
    return std::ranges::any_of(all, [&](auto t) { return t >= from && t <= to; });
  }
  /// A process has ended.
  [[nodiscard]] bool lost_something(time_point from, time_point to) const { return is_any_in(losses, from, to); }
  /// A node has given another one up, if only for a moment, whose completions and acks it can have missed.
  [[nodiscard]] bool lost_sight(time_point from, time_point to) const { return is_any_in(given_up_nodes, from, to); }
  [[nodiscard]] bool moved(std::size_t account, time_point from, time_point to) const {
    auto i = moves.find(account);
    return i != moves.end() && is_any_in(i->second, from, to);
  }
};

} // namespace sim_nodes
