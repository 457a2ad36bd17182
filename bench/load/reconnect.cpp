// All connections are lost at once, and all clients come back: by resumption or by a new session.
#include "bench/load/bench.hpp"
#include <algorithm>
#include <charconv>
#include <cstdio>

namespace load {
namespace {

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// What one loss of all connections has cost.
struct storm {
  std::uint64_t back_ns = 0, cut_ns = 0; // CPU of the server
  double seconds = 0, own = 0;
};

} // namespace

int bench::reconnect() {
  bool resumes = o.back != way::bind;
  int n = o.sessions;
  if (!login(n, o.back == way::token || o.back == way::pipelined ? way::first : way::bind))
    return 1;
  available();

  // one message to each while it is away: ~number~ in the body
  std::vector<int> came(static_cast<std::size_t>(n));
  for (auto& w : wires) {
    w->on_bytes = [&](wire& at, std::string_view s) {
      std::size_t done = 0;
      for (std::size_t a; (a = s.find('~', done)) != s.npos;) {
        auto b = s.find('~', a + 1);
        if (b == s.npos)
          return a;
        int k = -1;
        std::from_chars(s.data() + a + 1, s.data() + b, k);
        done = b + 1;
        if (k != at.number())
          ++loop.total.misrouted;
        else if (came[static_cast<std::size_t>(k)]++)
          ++loop.total.doubled;
        else
          ++loop.total.received;
      }
      return s.size();
    };
    w->on_ready = [&](wire& me) {
      ++ready;
      if (!resumes)
        me.send("<presence/>"); // a new session, which nobody knows of
    };
  }

  auto lose_and_come_back = [&](const std::function<void()>& while_away) {
    storm s;
    auto before = cpu_ns(o.pids);
    for (auto& w : wires)
      w->cut();
    loop.run(o.pause, [] { return false; });
    auto from = cpu_ns(o.pids);
    s.cut_ns = from - before;
    if (while_away) {
      while_away();
      from = cpu_ns(o.pids);
    }
    auto began = now_ns();
    auto own = own_cpu();
    int begun = ready = 0;
    loop.run(120, [&] {
      while (begun < n && begun - ready - static_cast<int>(loop.total.failed) < o.at_once)
        wires[static_cast<std::size_t>(begun++)]->start_again(o.back);
      return ready + static_cast<int>(loop.total.failed) >= n;
    });
    s.seconds = static_cast<double>(now_ns() - began) / 1e9;
    s.own = own_cpu() - own;
    loop.run(0.3, [] { return false; }); // what the server does behind its answers is part of the cost
    s.back_ns = cpu_ns(o.pids) - from;
    loop.total.failed = std::max(loop.total.failed, static_cast<std::uint64_t>(std::ranges::count_if(wires, [](auto& w) { return !w->is_ready(); })));
    return s;
  };

  // The first use of a token changes its row, and the first storm fills caches: it is told apart.
  std::vector<storm> storms;
  load::cost sum;
  for (int i = 0; i <= o.storms && loop.total.failed == 0; ++i) {
    storms.push_back(lose_and_come_back({}));
    if (i == 0)
      continue;
    for (auto& w : wires) {
      sum.in += w->cost().in;
      sum.out += w->cost().out;
      sum.round_trips += w->cost().round_trips;
    }
  }
  bool said = false;
  if (o.messages && loop.total.failed == 0) {
    auto sender = std::make_unique<wire>(loop, n);
    auto& other = *sender;
    other.on_ready = [](wire&) {};
    other.on_bytes = [&](wire&, std::string_view s) {
      said = said || s.find("last") != s.npos;
      return s.size();
    };
    lose_and_come_back([&] {
      other.start(user(0), "another");
      loop.run(10, [&] { return other.is_ready(); });
      for (int i = 0; i < n; ++i, ++loop.total.sent)
        other.send("<message to='" + wires[static_cast<std::size_t>(i)]->full_jid() + "' type='chat' id='m'><body>~" + std::to_string(i) + "~</body></message>");
      other.send("<iq type='get' id='last' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
      loop.run(30, [&] { return said; });
      other.ask_for_ack(); // all messages are somebody's now
      if (!loop.run(30, [&] { return other.is_acknowledged(); }))
        ++loop.total.failed;
    });
    loop.run(10, [&] { return loop.total.received >= loop.total.sent; });
    loop.run(0.5, [] { return false; }); // and what should not be
    wires.push_back(std::move(sender));
  }
  all_acknowledged();

  auto of_measured = [&](auto what) {
    std::vector<double> values;
    for (std::size_t i = 1; i < storms.size(); ++i)
      values.push_back(what(storms[i]));
    return median(std::move(values));
  };
  auto each = [&](std::uint64_t ns) { return static_cast<double>(ns) / 1e3 / n; };
  auto seconds = of_measured([](auto& s) { return s.seconds; });
  auto own = of_measured([](auto& s) { return s.own; });
  auto back = of_measured([&](auto& s) { return static_cast<double>(s.back_ns); });
  auto units = std::max<std::uint64_t>(static_cast<std::uint64_t>(n) * (storms.size() - 1), 1);
  char extra[400];
  std::snprintf(extra, sizeof extra,
                ",\"per_second\":%.0f,\"first_us\":%.2f,\"cut_us\":%.2f,\"bytes_in\":%.0f,\"bytes_out\":%.0f,\"round_trips\":%.2f",
                seconds > 0 ? n / seconds : 0, each(storms.front().back_ns), of_measured([&](auto& s) { return each(s.cut_ns); }),
                static_cast<double>(sum.in) / static_cast<double>(units), static_cast<double>(sum.out) / static_cast<double>(units),
                static_cast<double>(sum.round_trips) / static_cast<double>(units));
  print(extra, {static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(back), std::max(seconds, 1e-9), own});
  return loop.total.failed == 0 ? 0 : 1;
}

} // namespace load
