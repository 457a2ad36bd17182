// Contacts: how they come about, what a change of presence costs, what sessions cost that do nothing.
#include "bench/load/bench.hpp"
#include <cstdio>

namespace load {

int bench::presence() {
  int n = o.sessions, half = o.contacts / 2;
  if (!login(n))
    return 1;
  if (!befriend(n, half))
    return 1;
  std::vector<std::uint64_t> rounds(static_cast<std::size_t>(n));
  bool stopping = false;
  // The copy to the own session tells that a broadcast was handled; `window` of them are under way.
  auto say = [&](wire& w) {
    w.send(rounds[static_cast<std::size_t>(w.number())]++ % 2 ? "<presence><show>away</show></presence>" : "<presence/>");
    loop.total.sent += static_cast<std::uint64_t>(half) * 2 + 1; // a copy to each contact and one to the own session
  };
  loop.total = {};
  for (auto& w : wires)
    w->on_bytes = [&](wire& at, std::string_view s) {
      std::size_t done = 0;
      for (std::size_t a; (a = s.find("<presence", done)) != s.npos;) {
        auto end = s.find('>', a);
        if (end == s.npos)
          return a;
        auto tag = s.substr(a, end - a);
        if (s[end - 1] != '/') {
          auto close = s.find("</presence>", end);
          if (close == s.npos)
            return a;
          end = close + 10;
        }
        done = end + 1;
        ++loop.total.received;
        if (!stopping && tag.find("from='" + at.full_jid() + '\'') != tag.npos)
          say(at);
        else if (!stopping && tag.find("from=\"" + at.full_jid() + '"') != tag.npos)
          say(at);
      }
      return s.size();
    };
  for (auto& w : wires)
    for (int k = 0; k < o.window; ++k)
      say(*w);
  measure(stopping);
  return 0;
}

/// Counts contacts and what is said about them, and approves every request.
void bench::watch_roster(wire& w) {
  w.on_bytes = [this](wire& at, std::string_view s) {
    std::size_t done = 0;
    heard_at = now_ns();
    for (std::size_t a; (a = s.find('<', done)) != s.npos;) {
      auto end = s.find('>', a);
      if (end == s.npos)
        return a;
      done = end + 1;
      auto tag = s.substr(a, end - a);
      auto attr = [&](std::string_view name) -> std::string_view {
        auto f = tag.find(std::string{name} + '=');
        if (f == tag.npos)
          return {};
        f += name.size() + 1;
        return tag.substr(f + 1, tag.find(tag[f], f + 1) - f - 1);
      };
      if (tag.starts_with("<item"))
        known += attr("subscription") == "both";
      else if (tag.starts_with("<iq") && attr(" id") == "ro")
        ++rosters;
      else if (tag.starts_with("<presence") && attr("type") == "subscribe")
        at.send("<presence type='subscribed' to='" + std::string{attr("from")} + "'/>");
      else if (tag.starts_with("<presence") && attr("type") == "subscribed")
        ++approved;
    }
    return s.size();
  };
}

void bench::come_online(wire& w) {
  w.send("<iq type='get' id='ro'><query xmlns='jabber:iq:roster'/></iq><presence/>", 2);
}

/// Presence of everybody to everybody.
void bench::wait_for_silence() {
  loop.run(60, [this] { return now_ns() - heard_at > 1'000'000'000; });
}

/// Everybody and its 2·half neighbours subscribe to each other, through the server. Those of an earlier
/// round already are: their rosters say so.
bool bench::befriend(int n, int half) {
  for (auto& w : wires) {
    watch_roster(*w);
    come_online(*w);
  }
  if (loop.run(2, [&] { return known >= static_cast<std::size_t>(n) * static_cast<std::size_t>(half) * 2; })) {
    wait_for_silence();
    return true;
  }
  // a few at a time, so that nobody's queue is too long
  for (int d = 1; d <= half; ++d)
    for (int sign : {-1, 1}) {
      auto before = approved;
      for (int i = 0; i < n; ++i)
        wires[static_cast<std::size_t>(i)]->send("<presence type='subscribe' to='" + user((i + sign * d + n) % n) + "@localhost'/>");
      if (!loop.run(60, [&] { return approved >= before + static_cast<std::size_t>(n); })) {
        std::fprintf(stderr, "only %zu of %d subscriptions were approved\n", approved, n * half * 2);
        return false;
      }
    }
  loop.run(2, [] { return false; });
  return true;
}

int bench::make_friends() {
  if (!login(o.sessions) || !befriend(o.sessions, o.contacts / 2))
    return 1;
  print({}, {static_cast<std::uint64_t>(o.sessions), 0, 1, 0});
  return 0;
}

/// Contacts were made by an earlier run: what that left in the server's heap is none of a session's memory. Clients
/// ask for their rosters and are present as they come, as anywhere: all of them at once would be a peak, and the heap
/// keeps peaks.
int bench::idle() {
  auto before = rss_anon(o.pids);
  auto n = static_cast<std::size_t>(o.sessions);
  if (!o.contacts) {
    if (!login(o.sessions))
      return 1;
    available();
  } else {
    auto greets = [this](wire& w) {
      watch_roster(w);
      w.on_ready = [this](wire& me) { come_online(me); };
    };
    if (!login(o.sessions, way::bind, 200, greets, [this] { return static_cast<int>(rosters); })
        || (loop.run(5, [&] { return known >= n * static_cast<std::size_t>(o.contacts); }), known != n * static_cast<std::size_t>(o.contacts))) {
      std::fprintf(stderr, "%zu contacts instead of %zu: `covey_load friends` makes them\n", known, n * static_cast<std::size_t>(o.contacts));
      return 1;
    }
    wait_for_silence();
  }
  if (o.inactive) // as phones are: first there, then not looked at; what was to be told has been told
    for (auto& w : wires)
      w->send("<inactive xmlns='urn:xmpp:csi:0'/>", 0);
  loop.run(o.settle, [] { return false; });
  auto after = rss_anon(o.pids);
  print(",\"bytes_per_session\":" + std::to_string((static_cast<long>(after) - static_cast<long>(before)) / o.sessions), {static_cast<std::uint64_t>(o.sessions), 0, 1, 0});
  return 0;
}

} // namespace load
