// The world of hundred_nodes.cpp: what is assumed, virtual time, the network, rows and stanzas.
#pragma once
#include "base/random.hpp"
#include "cluster/codec.hpp"
#include "cluster/mesh.hpp"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <queue>
#include <string>

namespace hundred {

using namespace std::chrono_literals;
using namespace cluster;
using base::time_point;
using ns = std::chrono::nanoseconds;

inline constexpr std::size_t real_count = 3;

/// What is assumed; docs/cluster-size.md says why.
struct assumptions {
  std::uint64_t rows = 10'000'000, nodes = 100, seconds = 10;
  double changes = 10;       // of its row, per session and hour: login 3, logout 1, presence 6
  double messages = 1;       // per session and minute; their senders wait for an outcome
  double contacts = 20;      // online, of a session: each of 8 presences an hour goes to them, with 40 probes and answers
  double gbit = 1;           // of a node's network card, each way
  ns latency = 100us;        // one way
  ns turn = 200us, ack = 50ms; // a reactor's turn; a client's acknowledgement
  bool gathers = true;         // else every frame goes at once, however many
  double disk_rows = 200'000; // written a second
  [[nodiscard]] std::uint64_t of_node() const { return rows / nodes; }
  [[nodiscard]] double changes_of_node() const { return static_cast<double>(of_node()) * changes / 3600; } // a second
  [[nodiscard]] double presences() const { return (8 * contacts + 40) / 60; }                             // per session and minute
  [[nodiscard]] double stanzas_of_node() const { return static_cast<double>(of_node()) * (messages + presences()) / 60; }
  /// Ethernet, IP and TCP a packet; TLS, HTTP/2 and gRPC a frame.
  [[nodiscard]] static std::size_t wire_bytes(std::size_t n) { return n + 36 + 90 * ((n + 36 + 1'447) / 1'448); }
  [[nodiscard]] ns on_wire(std::size_t n) const { return ns{static_cast<std::int64_t>(static_cast<double>(wire_bytes(n)) * 8 / gbit)}; }
};
inline assumptions given;

[[noreturn]] inline void give_up(const std::string& why) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", why.c_str());
  std::_Exit(1);
}

inline ns thread_cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return std::chrono::seconds{t.tv_sec} + ns{t.tv_nsec};
}
/// Of asking twice, which is in every measure.
inline const ns cpu_of_asking = [] {
  auto least = ns::max();
  for (int i = 0; i < 10'000; ++i) {
    auto before = thread_cpu();
    least = std::min(least, thread_cpu() - before);
  }
  return least;
}();

inline double seconds(base::duration d) { return std::chrono::duration<double>(d).count(); }

/// What happens when. One for all.
struct timetable {
  struct event {
    time_point at;
    std::uint64_t n;
    std::function<void()> f;
    bool operator<(const event& o) const { return at != o.at ? at > o.at : n > o.n; }
  };
  std::priority_queue<event> events;
  std::uint64_t last = 0;
  time_point now{1'000s};
  void at(time_point t, std::function<void()> f) { events.push({std::max(t, now), ++last, std::move(f)}); }
  void after(base::duration d, std::function<void()> f) { at(now + d, std::move(f)); }
  /// Until it is so, or the limit. The time that it took.
  base::duration run(base::duration most, const std::function<bool()>& is_so = [] { return false; }, base::duration look_every = 1ms) {
    auto began = now, end = now + most, next_look = now;
    while (!events.empty() && events.top().at <= end) {
      auto e = std::move(const_cast<event&>(events.top()));
      events.pop();
      now = e.at;
      e.f();
      if (now >= next_look) {
        if (is_so())
          return now - began;
        next_look = now + look_every;
      }
    }
    now = end;
    return most;
  }
  [[nodiscard]] base::wall_time wall() const {
    return base::wall_time{std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()) + 480'000h};
  }
};
inline timetable vt;

inline base::seeded_random luck{20'261'126};
inline double chance() { return static_cast<double>(luck.number() >> 11) / 9007199254740992.0; }

inline constexpr std::uint64_t first_clock = std::uint64_t{1'700'000'000'000} << 16; // of the rows that are there at the beginning
/// 41 characters, whatever the number.
inline xmpp::jid_ref name(std::uint64_t n) {
  auto user = "user" + std::to_string(1'000'000 + n) + "@example.org/";
  return *xmpp::parse_jid(user + std::string{"Conversations.a1b2c3"}.substr(0, 41 - user.size()));
}
inline row make_row(std::uint64_t n, std::uint64_t session, std::uint64_t clock, std::uint64_t variant) {
  row r;
  r.name = name(n);
  r.session = session;
  r.clock = clock;
  r.ref = session << 8 | 1;
  r.reactor = static_cast<std::uint16_t>(n % 2);
  r.what.capabilities = {0x9e3779b97f4a7c15 * (n % 97 + 1), variant + 1};
  r.what.priority = static_cast<std::int8_t>(variant % 100);
  r.what.flags = attributes::available | attributes::managed;
  return r;
}

/// As the disk has it.
inline storage::row disk_row(node_id owner, const row& r) {
  std::string key{replica::disk_prefix};
  base::put_be64(key, owner);
  key.push_back(static_cast<char>(r.kind));
  base::put_be64(key, r.session);
  return {key + std::string{r.name->full()}, encode(r), 1};
}

/// The sessions of one owner, and what happens to them: of ten changes one logout, three of a login, six of presence.
struct sessions {
  std::uint64_t first = 0, last_session = 0, step = 0, count = 0;
  std::vector<std::uint32_t> generation; // how often each has logged in
  std::uint64_t id(std::uint64_t n) const { return (first + n + 1) << 16 | generation[n]; }
  template <class Publish, class Withdraw>
  void next(std::uint64_t clock, Publish publish, Withdraw withdraw) {
    auto n = step / 10 * 7919 % count, phase = step % 10;
    ++step;
    if (phase == 0)
      return withdraw(make_row(first + n, id(n), clock, 0));
    if (phase == 1)
      ++generation[n];
    else if (phase > 3)
      n = (n + phase * 104'729) % count;
    publish(make_row(first + n, id(n), clock, step));
  }
};

struct meter {
  std::uint64_t count = 0;
  ns cpu{}, longest{};
  void add(ns used) {
    ++count;
    cpu += used;
    longest = std::max(longest, used);
  }
};
enum class call : std::uint8_t { publish, send, receive, written, tick, settle, disk, step, other, count };
inline constexpr const char* call_names[] = {"publish, withdraw", "send", "received", "written", "tick", "handled, complete",
                                             "disk", "go on", "other"};

struct wire;
/// A node, real or a model: what the network knows of it.
struct machine {
  std::size_t index = 0;
  bool is_up = false;
  int side = 0; // of a split
  time_point sent_until{}, heard_until{};
  sessions own;
  virtual ~machine() = default;
  virtual void on_accepted(const std::shared_ptr<wire>& w) = 0;
  virtual void on_bytes(const std::shared_ptr<wire>& w, std::string bytes) = 0;
  virtual void on_written(const std::shared_ptr<wire>& w) = 0;
  virtual void on_broken(const std::shared_ptr<wire>& w) = 0;
  [[nodiscard]] node_id node() const { return 1'000 + index; }
  [[nodiscard]] std::string address() const { return "10.0.0." + std::to_string(index + 1) + ":5290"; }
  [[nodiscard]] member me(life l) const { return {node(), l, "node" + std::to_string(index + 1), address(), 2}; }
};
inline std::vector<std::unique_ptr<machine>> machines;
inline bool is_split = false;
inline bool can_hear(const machine& a, const machine& b) { return !is_split || a.side == b.side; }

/// A connection. A frame is written when it has come and the one before it has been read: TCP's window.
struct wire : std::enable_shared_from_this<wire> {
  machine* end[2];
  connection c[2]{};
  bool is_open = true;
  struct way { time_point last{}; std::size_t unread = 0, untold = 0; } to[2];
  int at(const machine& m) const { return end[0] == &m ? 0 : 1; }
  void send(machine& from, std::string bytes, time_point t) {
    auto there = 1 - at(from);
    auto& other = *end[there];
    auto takes = given.on_wire(bytes.size());
    from.sent_until = std::max(t, from.sent_until) + takes;
    auto arrives = std::max(from.sent_until + given.latency, std::max(other.heard_until, t) + takes);
    other.heard_until = arrives;
    to[there].last = arrives = std::max(arrives, to[there].last);
    vt.at(arrives, [self = shared_from_this(), there, b = std::move(bytes)]() mutable {
      if (!self->is_open || !can_hear(*self->end[0], *self->end[1]) || !self->end[there]->is_up)
        return;
      if (++self->to[there].unread > 1)
        ++self->to[there].untold;
      else
        self->end[1 - there]->on_written(self);
      self->end[there]->on_bytes(self, std::move(b));
    });
  }
  void read(const machine& by) {
    auto& w = to[at(by)];
    --w.unread;
    if (w.untold == 0 || !is_open)
      return;
    --w.untold;
    end[1 - at(by)]->on_written(shared_from_this());
  }
  void close(machine& by, time_point t) {
    vt.at(t, [self = shared_from_this(), &by] {
      auto there = 1 - self->at(by);
      vt.at(std::max(vt.now + given.latency, self->to[there].last), [self, there] {
        if (!std::exchange(self->is_open, false))
          return;
        if (can_hear(*self->end[0], *self->end[1]) && self->end[there]->is_up)
          self->end[there]->on_broken(self);
      });
    });
  }
};

inline parcel make_stanza(const machine& from, const machine& to) {
  static const std::string body(100, 'x'), presence = "<presence><priority>5</priority><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' "
                                                      "node='https://conversations.im' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>";
  bool is_message = chance() < given.messages / (given.messages + given.presences());
  auto id = std::to_string(luck.number());
  auto message = "<message type='chat' id='" + id + "'><body>" + body + "</body><origin-id xmlns='urn:xmpp:sid:0' id='" + id + "'/></message>";
  parcel p;
  p.what.what = xmpp::stanza::from_xml(is_message ? message : presence);
  auto& s = *p.what.what;
  s.from = name(from.own.first + luck.number() % from.own.count);
  s.to = name(to.own.first + luck.number() % to.own.count);
  p.order = s.from->hash() ^ s.to->hash();
  p.has_completion = is_message;
  if (is_message)
    s.completion = {luck.number() | 1, 1, 0, 0};
  return p;
}

} // namespace hundred
