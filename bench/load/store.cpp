// Messages that must be kept: to users who are not there, at most `window` of each sender unacknowledged. Then their
// receivers come for them, and each that was acknowledged must be among what they get.
#include "bench/load/bench.hpp"
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

namespace load {

int bench::store() {
  int senders = o.pairs, receivers = o.sessions;
  if (senders <= 0 || receivers <= 0)
    return 2;
  if (!login(senders))
    return 1;
  available();
  std::vector<std::uint32_t> open(static_cast<std::size_t>(senders)), next(static_cast<std::size_t>(senders));
  std::uint64_t stored = 0;
  bool stopping = false;
  auto go_on = [&](wire& w) {
    auto k = static_cast<std::size_t>(w.number());
    stored += open[k] - std::min(open[k], w.open());
    open[k] = w.open();
    if (stopping || w.open() > static_cast<std::uint32_t>(o.window) / 2)
      return;
    while (w.open() < static_cast<std::uint32_t>(o.window)) {
      char body[128], message[512];
      auto to = senders + static_cast<int>((k + next[k] * 7) % static_cast<std::size_t>(receivers)); // neighbours are not in step
      int size = std::snprintf(body, sizeof body, "~%zu.%u~", k, next[k]);
      std::memset(body + size, 'x', static_cast<std::size_t>(100 - size)); // 100 bytes of body
      size = std::snprintf(message, sizeof message, "<message to='%s@localhost' type='chat' id='m%u'><body>%.100s</body></message>", user(to).c_str(), next[k], body);
      w.send({message, static_cast<std::size_t>(size)});
      ++next[k];
      ++loop.total.sent;
    }
    w.ask_for_ack();
    open[k] = w.open();
  };
  for (auto& w : wires) {
    w->on_bytes = [&](wire& at, std::string_view s) {
      if (s.find("type='error'") != s.npos)
        ++loop.total.failed; // a message that came back was acknowledged, too
      go_on(at);
      return s.size();
    };
    open[static_cast<std::size_t>(w->number())] = w->open();
    go_on(*w);
  }
  loop.run(o.warm_up, [] { return false; });
  auto seen = watch(stored);
  stopping = true;
  all_acknowledged();

  // --- they come
  std::vector<std::vector<bool>> came;
  for (auto n : next)
    came.emplace_back(n);
  auto first = wires.size();
  int there = 0;
  for (int i = 0; i < receivers; ++i) {
    auto& w = *wires.emplace_back(std::make_unique<wire>(loop, senders + i));
    w.on_ready = [&](wire& me) {
      ++there;
      me.send("<presence/>");
    };
    w.on_bytes = [&](wire&, std::string_view s) {
      std::size_t done = 0;
      for (std::size_t a; (a = s.find('~', done)) != s.npos;) {
        auto b = s.find('~', a + 1);
        if (b == s.npos)
          return a;
        std::size_t k = 0, n = 0;
        auto r = std::from_chars(s.data() + a + 1, s.data() + b, k);
        std::from_chars(r.ptr + 1, s.data() + b, n);
        done = b + 1;
        if (k >= came.size() || n >= came[k].size())
          ++loop.total.misrouted;
        else if (came[k][n])
          ++loop.total.doubled;
        else {
          came[k][n] = true;
          ++loop.total.received;
        }
      }
      return s.size();
    };
  }
  for (auto i = first; i < wires.size(); ++i) // all at once: they are few
    wires[i]->start(user(wires[i]->number()), "b");
  loop.run(60, [&] { return there == receivers && loop.total.received >= loop.total.sent; });
  loop.run(0.5, [] { return false; }); // and what should not be
  all_acknowledged();
  char extra[100];
  std::snprintf(extra, sizeof extra, ",\"per_second\":%.0f", static_cast<double>(seen.units) / seen.seconds);
  print(extra, seen);
  return 0;
}

} // namespace load
