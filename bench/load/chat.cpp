// Messages between two, and pings.
#include "bench/load/bench.hpp"
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <iterator>

namespace load {

namespace {
struct pair { std::uint64_t next = 0, expected = 0; };
}

/// Another device of each of these users, at `home_port`: who has the oldest session of an account has the account.
bool bench::make_homes(const std::vector<int>& of, std::vector<std::unique_ptr<wire>>& devices) {
  int there = 0;
  for (int i : of) {
    auto& w = *devices.emplace_back(std::make_unique<wire>(loop, o.pairs * 2 + static_cast<int>(devices.size())));
    w.connect_to(o.home_port);
    w.on_ready = [&there](wire&) { ++there; };
    w.on_bytes = [](wire&, std::string_view s) { return s.size(); };
    w.start(user(i), "h");
  }
  bool good = loop.run(60, [&] { return there + static_cast<int>(loop.total.failed) == static_cast<int>(of.size()); }) && loop.total.failed == 0;
  loop.run(1, [] { return false; }); // every node knows of them
  return good;
}

int bench::chat(bool open_loop) {
  int n = o.pairs * 2;
  std::vector<int> partner(static_cast<std::size_t>(n)), pair_of(static_cast<std::size_t>(n));
  for (int k = 0; k < o.pairs; ++k) {
    auto [a, b] = k < static_cast<int>(o.pairing.size()) ? o.pairing[static_cast<std::size_t>(k)] : std::pair{2 * k, 2 * k + 1};
    partner[static_cast<std::size_t>(a)] = b;
    partner[static_cast<std::size_t>(b)] = a;
    pair_of[static_cast<std::size_t>(a)] = pair_of[static_cast<std::size_t>(b)] = k;
    senders.push_back(a);
  }
  std::vector<bool> receives(static_cast<std::size_t>(n), true);
  for (int a : senders)
    receives[static_cast<std::size_t>(a)] = false;
  std::vector<std::unique_ptr<wire>> homes;
  if (o.home_port) {
    std::vector<int> all;
    for (int a : senders)
      all.push_back(partner[static_cast<std::size_t>(a)]);
    if (!make_homes(all, homes))
      return 1;
  }
  if (!login(n, way::bind, 200, [&](wire& w) {
        if (o.port2 && receives[static_cast<std::size_t>(w.number())])
          w.connect_to(o.port2);
      }))
    return 1;
  std::move(homes.begin(), homes.end(), std::back_inserter(wires)); // behind those that talk
  available();
  std::vector<pair> pairs(static_cast<std::size_t>(o.pairs));
  std::vector<std::uint32_t> latencies;
  bool measuring = false, stopping = false;
  auto send_one = [&](int k) {
    auto& p = pairs[static_cast<std::size_t>(k)];
    auto& from = *wires[static_cast<std::size_t>(senders[static_cast<std::size_t>(k)])];
    auto& to = *wires[static_cast<std::size_t>(partner[static_cast<std::size_t>(from.number())])];
    char body[128], message[512];
    int size = std::snprintf(body, sizeof body, "~%d.%lu.%lu~", k, p.next, now_ns());
    std::memset(body + size, 'x', static_cast<std::size_t>(100 - size)); // 100 bytes of body
    size = std::snprintf(message, sizeof message, "<message to='%s' type='chat' id='m%lu'><body>%.100s</body></message>",
                         o.to.is_relay ? relay_jid(to.number()).c_str() : to.full_jid().c_str(), p.next, body);
    from.send({message, static_cast<std::size_t>(size)});
    ++p.next;
    ++loop.total.sent;
  };
  for (auto& w : wires)
    w->on_bytes = [&](wire& at, std::string_view s) {
      std::size_t done = 0;
      for (;;) {
        auto a = s.find('~', done);
        if (a == s.npos)
          return s.size();
        auto b = s.find('~', a + 1);
        if (b == s.npos)
          return a;
        int k = -1;
        std::uint64_t seq = 0, sent = 0;
        const char* end = s.data() + b;
        auto r = std::from_chars(s.data() + a + 1, end, k);
        r = std::from_chars(r.ptr + 1, end, seq);
        std::from_chars(r.ptr + 1, end, sent);
        done = b + 1;
        if (k < 0 || k >= o.pairs || at.number() >= n || pair_of[static_cast<std::size_t>(at.number())] != k
            || senders[static_cast<std::size_t>(k)] == at.number()) {
          ++loop.total.misrouted;
          continue;
        }
        auto& p = pairs[static_cast<std::size_t>(k)];
        if (seq < p.expected)
          ++loop.total.doubled;
        else if (seq > p.expected)
          ++loop.total.reordered;
        p.expected = std::max(p.expected, seq + 1);
        ++loop.total.received;
        if (measuring)
          latencies.push_back(static_cast<std::uint32_t>(std::min<std::uint64_t>((now_ns() - sent) / 1'000, 0xffffffff)));
        if (!open_loop && !stopping)
          send_one(k);
      }
    };
  std::uint64_t began = 0, due = 0;
  if (open_loop) {
    loop.tick_ns = 100'000;
    began = now_ns();
    loop.on_tick = [&] {
      if (stopping)
        return;
      auto should = static_cast<std::uint64_t>(static_cast<double>(now_ns() - began) / 1e9 * o.rate);
      for (; due < should; ++due)
        send_one(static_cast<int>(due % static_cast<std::uint64_t>(o.pairs)));
    };
  } else {
    for (int k = 0; k < o.pairs; ++k)
      for (int w = 0; w < o.window; ++w)
        send_one(k);
  }
  loop.run(o.warm_up, [] { return false; });
  latencies.reserve(4'000'000);
  measuring = true;
  auto seen = watch(loop.total.received);
  measuring = false;
  stopping = true;
  loop.run(10, [&] { return loop.total.received >= loop.total.sent; }); // what is on its way
  all_acknowledged();
  std::sort(latencies.begin(), latencies.end());
  auto at = [&](double q) { return latencies.empty() ? 0u : latencies[static_cast<std::size_t>(q * static_cast<double>(latencies.size() - 1))]; };
  print(",\"p50_us\":" + std::to_string(at(0.5)) + ",\"p99_us\":" + std::to_string(at(0.99)), seen);
  return 0;
}

int bench::ping() {
  if (!login(o.pairs))
    return 1;
  bool stopping = false;
  auto ask = [&](wire& w) {
    w.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    ++loop.total.sent;
  };
  for (auto& w : wires) {
    w->on_bytes = [&](wire& at, std::string_view s) {
      std::size_t done = 0; // an answer: <iq …/> or <iq …></iq>
      for (std::size_t a; (a = s.find("<iq", done)) != s.npos;) {
        auto end = s.find('>', a);
        if (end == s.npos)
          return a;
        if (s[end - 1] != '/' && s.compare(end + 1, 5, "</iq>") != 0 && s.size() < end + 6)
          return a;
        auto tag = s.substr(a, end - a);
        if (tag.find("'result'") == tag.npos && tag.find("\"result\"") == tag.npos)
          ++loop.total.failed; // an error is no answer
        done = end + 1;
        ++loop.total.received;
        if (!stopping)
          ask(at);
      }
      return s.size();
    };
    ask(*w);
  }
  measure(stopping);
  return 0;
}

} // namespace load
