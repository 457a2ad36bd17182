// covey_load: the load generator. Prints one JSON line per run: what was counted, and what it cost the
// server's processes.
#include "bench/load/wire.hpp"
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fstream>
#include <memory>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>

namespace {
using load::now_ns;

struct options {
  std::string mode;
  load::target to;
  std::vector<int> pids;
  int pairs = 100, window = 10, sessions = 0, contacts = 0, first = 0;
  double seconds = 2, warm_up = 0.5, rate = 1'000, settle = 60;
  std::vector<std::pair<int, int>> pairing; // by reactor: who talks to whom
  std::string pairing_file;
};

/// CPU time of all threads of these processes, in ns.
std::uint64_t cpu_ns(const std::vector<int>& pids) {
  std::uint64_t sum = 0;
  for (int pid : pids) {
    auto folder = "/proc/" + std::to_string(pid) + "/task";
    if (auto* d = opendir(folder.c_str())) {
      while (auto* e = readdir(d)) {
        if (e->d_name[0] == '.')
          continue;
        std::ifstream in{folder + '/' + e->d_name + "/schedstat"};
        std::uint64_t ns = 0;
        in >> ns;
        sum += ns;
      }
      closedir(d);
    }
  }
  return sum;
}

std::uint64_t rss_anon(const std::vector<int>& pids) {
  std::uint64_t sum = 0;
  for (int pid : pids) {
    std::ifstream in{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("RssAnon:"))
        sum += std::strtoull(line.c_str() + 8, nullptr, 10) * 1'024;
  }
  return sum;
}

double own_cpu() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

struct bench {
  options o;
  load::loop loop;
  std::vector<std::unique_ptr<load::wire>> wires;
  int ready = 0;

  explicit bench(options x) : o(std::move(x)), loop(o.to) {}

  /// Logs `n` clients in, at most `at_once` under way.
  bool login(int n, int at_once = 200) {
    int begun = 0;
    auto more = [&] {
      while (begun < n && begun - ready - static_cast<int>(loop.total.failed) < at_once) {
        auto i = begun++;
        wires.push_back(std::make_unique<load::wire>(loop, i));
        auto& w = *wires.back();
        w.on_ready = [&](load::wire&) { ++ready; };
        w.on_bytes = [](load::wire&, std::string_view s) { return s.size(); };
        w.start(o.to.user_prefix + std::to_string(i + o.first), "b");
      }
    };
    return loop.run(300, [&] {
      more();
      return ready + static_cast<int>(loop.total.failed) == n;
    }) && loop.total.failed == 0;
  }

  void available() {
    if (o.to.is_relay)
      return;
    for (auto& w : wires)
      w->send("<presence/>");
    loop.run(1.0, [] { return false; });
  }

  void print(const std::string& extra, std::uint64_t units, std::uint64_t server, double seconds, double own) {
    std::printf("{\"mode\":\"%s\",\"units\":%lu,\"seconds\":%.4f,\"us_per_unit\":%.4f,\"own_load\":%.3f,\"sent\":%lu,\"received\":%lu,\"lost\":%ld,"
                "\"doubled\":%lu,\"reordered\":%lu,\"misrouted\":%lu,\"failed\":%lu%s}\n",
                o.mode.c_str(), units, seconds, units ? static_cast<double>(server) / 1e3 / static_cast<double>(units) : 0.0, own / seconds, loop.total.sent,
                loop.total.received, static_cast<long>(loop.total.sent) - static_cast<long>(loop.total.received), loop.total.doubled, loop.total.reordered,
                loop.total.misrouted, loop.total.failed, extra.c_str());
  }

  // --- 1:1 chat, closed or open loop: user 2k sends, user 2k+1 receives
  struct pair { std::uint64_t next = 0, expected = 0; };

  int chat(bool open_loop) {
    int n = o.pairs * 2;
    if (!login(n))
      return 1;
    available();
    std::vector<int> partner(static_cast<std::size_t>(n)), pair_of(static_cast<std::size_t>(n));
    for (int k = 0; k < o.pairs; ++k) {
      auto [a, b] = k < static_cast<int>(o.pairing.size()) ? o.pairing[static_cast<std::size_t>(k)] : std::pair{2 * k, 2 * k + 1};
      partner[static_cast<std::size_t>(a)] = b;
      partner[static_cast<std::size_t>(b)] = a;
      pair_of[static_cast<std::size_t>(a)] = pair_of[static_cast<std::size_t>(b)] = k;
      senders.push_back(a);
    }
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
      w->on_bytes = [&](load::wire& at, std::string_view s) {
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
          if (k < 0 || k >= o.pairs || pair_of[static_cast<std::size_t>(at.number())] != k
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
    auto server = cpu_ns(o.pids), from = now_ns(), got = loop.total.received;
    auto own = own_cpu();
    loop.run(o.seconds, [] { return false; });
    server = cpu_ns(o.pids) - server;
    auto seconds = static_cast<double>(now_ns() - from) / 1e9;
    got = loop.total.received - got;
    own = own_cpu() - own;
    measuring = false;
    stopping = true;
    loop.run(10, [&] { return loop.total.received >= loop.total.sent; }); // what is on its way
    std::sort(latencies.begin(), latencies.end());
    auto at = [&](double q) { return latencies.empty() ? 0u : latencies[static_cast<std::size_t>(q * static_cast<double>(latencies.size() - 1))]; };
    print(",\"p50_us\":" + std::to_string(at(0.5)) + ",\"p99_us\":" + std::to_string(at(0.99)), got, server, seconds, own);
    return 0;
  }
  std::vector<int> senders;
  /// As long as the server's, so that the bytes are the same.
  std::string relay_jid(int n) const { return o.to.user_prefix + std::to_string(n) + "@localhost/b"; }

  // --- XEP-0199 to the server, one at a time per client
  int ping() {
    if (!login(o.pairs))
      return 1;
    bool stopping = false;
    auto ask = [&](load::wire& w) {
      w.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
      ++loop.total.sent;
    };
    for (auto& w : wires) {
      w->on_bytes = [&](load::wire& at, std::string_view s) {
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

  // --- presence to contacts: user i changes, its contacts get a copy each
  int presence() {
    int n = o.sessions, half = o.contacts / 2;
    if (!login(n))
      return 1;
    if (!befriend(n, half))
      return 1;
    std::vector<std::uint64_t> rounds(static_cast<std::size_t>(n));
    bool stopping = false;
    // The copy to the own session tells that a broadcast was handled; `window` of them are under way.
    auto say = [&](load::wire& w) {
      w.send(rounds[static_cast<std::size_t>(w.number())]++ % 2 ? "<presence><show>away</show></presence>" : "<presence/>");
      loop.total.sent += static_cast<std::uint64_t>(half) * 2 + 1; // a copy to each contact and one to the own session
    };
    loop.total = {};
    for (auto& w : wires)
      w->on_bytes = [&](load::wire& at, std::string_view s) {
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

  /// Everybody and its 2·half neighbours subscribe to each other, through the server. Those of an earlier
  /// round already are: their rosters say so.
  bool befriend(int n, int half) {
    std::size_t wanted = static_cast<std::size_t>(n) * static_cast<std::size_t>(half) * 2, approved = 0, known = 0;
    for (auto& w : wires) {
      w->on_bytes = [&](load::wire& at, std::string_view s) {
        std::size_t done = 0;
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
          else if (tag.starts_with("<presence") && attr("type") == "subscribe")
            at.send("<presence type='subscribed' to='" + std::string{attr("from")} + "'/>");
          else if (tag.starts_with("<presence") && attr("type") == "subscribed")
            ++approved;
        }
        return s.size();
      };
      w->send("<iq type='get' id='ro'><query xmlns='jabber:iq:roster'/></iq><presence/>");
    }
    if (loop.run(2, [&] { return known >= wanted; })) {
      loop.run(1, [] { return false; }); // presence of everybody to everybody
      return true;
    }
    // a few at a time, so that nobody's queue is too long
    for (int d = 1; d <= half; ++d)
      for (int sign : {-1, 1}) {
        auto before = approved;
        for (int i = 0; i < n; ++i)
          wires[static_cast<std::size_t>(i)]->send("<presence type='subscribe' to='" + o.to.user_prefix + std::to_string((i + sign * d + n) % n + o.first) + "@localhost'/>");
        if (!loop.run(60, [&] { return approved >= before + static_cast<std::size_t>(n); })) {
          std::fprintf(stderr, "only %zu of %zu subscriptions were approved\n", approved, wanted);
          return false;
        }
      }
    loop.run(2, [] { return false; });
    return true;
  }

  void measure(bool& stopping) {
    loop.run(o.warm_up, [] { return false; });
    auto server = cpu_ns(o.pids), from = now_ns(), got = loop.total.received;
    auto own = own_cpu();
    loop.run(o.seconds, [] { return false; });
    server = cpu_ns(o.pids) - server;
    auto seconds = static_cast<double>(now_ns() - from) / 1e9;
    got = loop.total.received - got;
    own = own_cpu() - own;
    stopping = true;
    loop.run(10, [&] { return loop.total.received >= loop.total.sent; }); // what is on its way
    loop.run(0.2, [] { return false; });                                  // and what should not be
    print({}, got, server, seconds, own);
  }

  // --- memory of idle sessions
  int idle() {
    auto before = rss_anon(o.pids);
    if (!login(o.sessions))
      return 1;
    if (!o.contacts)
      available();
    else if (!befriend(o.sessions, o.contacts / 2))
      return 1;
    loop.run(o.settle, [] { return false; });
    auto after = rss_anon(o.pids);
    print(",\"bytes_per_session\":" + std::to_string((static_cast<long>(after) - static_cast<long>(before)) / o.sessions), static_cast<std::uint64_t>(o.sessions), 0, 1, 0);
    return 0;
  }

  // --- logins, one after the other on each of `pairs` connections; or bare handshakes
  int storm(bool bare) {
    loop.only_handshake = bare;
    loop.ends_when_ready = true;
    std::uint64_t done = 0;
    bool stopping = false;
    std::function<void(int)> again = [&](int i) {
      wires[static_cast<std::size_t>(i)] = std::make_unique<load::wire>(loop, i);
      auto& w = *wires[static_cast<std::size_t>(i)];
      w.on_bytes = [](load::wire&, std::string_view s) { return s.size(); };
      w.on_ready = [&, i](load::wire& me) {
        ++done;
        if (!bare)
          me.send("</stream:stream>");
        me.flush();
        finished.push_back(i);
      };
      w.start(o.to.user_prefix + std::to_string(i + o.first), "b" + std::to_string(done));
    };
    wires.resize(static_cast<std::size_t>(o.pairs));
    for (int i = 0; i < o.pairs; ++i)
      again(i);
    auto turn = [&] { // a wire may not be replaced inside its own call
      for (int i : std::exchange(finished, {}))
        if (!stopping)
          again(i);
      return false;
    };
    loop.run(o.warm_up, turn);
    auto server = cpu_ns(o.pids), from = now_ns(), before = done;
    auto own = own_cpu();
    loop.run(o.seconds, turn);
    server = cpu_ns(o.pids) - server;
    auto seconds = static_cast<double>(now_ns() - from) / 1e9;
    own = own_cpu() - own;
    stopping = true;
    loop.total.sent = loop.total.received = done;
    print({}, done - before, server, seconds, own);
    return 0;
  }
  std::vector<int> finished;

  // --- accounts by in-band registration
  int create() {
    loop.total = {};
    int begun = 0, done = 0;
    wires.resize(static_cast<std::size_t>(o.sessions));
    bool good = loop.run(600, [&] {
      for (int i : std::exchange(finished, {})) {
        wires[static_cast<std::size_t>(i)] = nullptr;
        ++done;
      }
      while (begun < o.sessions && begun - done - static_cast<int>(loop.total.failed) < 50) {
        int i = begun++;
        wires[static_cast<std::size_t>(i)] = std::make_unique<load::wire>(loop, i);
        auto& w = *wires[static_cast<std::size_t>(i)];
        w.on_bytes = [](load::wire&, std::string_view s) { return s.size(); };
        w.on_ready = [this, i](load::wire&) { finished.push_back(i); };
        w.start(o.to.user_prefix + std::to_string(i + o.first), "b");
      }
      return done + static_cast<int>(loop.total.failed) == o.sessions;
    });
    print({}, static_cast<std::uint64_t>(done), 0, 1, 0);
    return good && loop.total.failed == 0 ? 0 : 1;
  }
};

int usage() {
  std::fputs("usage: covey_load MODE --port N [--pid N]... [options]\n"
             "modes: create idle chat rate ping presence login handshake\n"
             "options: --relay --tls --scram --pairs N --window N --sessions N --contacts N --seconds S --warm-up S --rate N --settle S\n"
             "         --user PREFIX --password TEXT --first N --pairing FILE (lines \"a b\": the numbers of two partners)\n", stderr);
  return 2;
}
} // namespace

int main(int argc, char** argv) {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = l.rlim_max;
  setrlimit(RLIMIT_NOFILE, &l);
  if (argc < 2)
    return usage();
  options o;
  o.mode = argv[1];
  for (int i = 2; i < argc; ++i) {
    std::string a = argv[i];
    auto next = [&] { return i + 1 < argc ? argv[++i] : const_cast<char*>(""); };
    if (a == "--port") o.to.port = static_cast<std::uint16_t>(std::atoi(next()));
    else if (a == "--pid") o.pids.push_back(std::atoi(next()));
    else if (a == "--relay") o.to.is_relay = true;
    else if (a == "--tls") o.to.is_tls = true;
    else if (a == "--scram") o.to.mechanism = load::sasl::scram_sha1;
    else if (a == "--pairs") o.pairs = std::atoi(next());
    else if (a == "--window") o.window = std::atoi(next());
    else if (a == "--sessions") o.sessions = std::atoi(next());
    else if (a == "--contacts") o.contacts = std::atoi(next());
    else if (a == "--seconds") o.seconds = std::atof(next());
    else if (a == "--warm-up") o.warm_up = std::atof(next());
    else if (a == "--rate") o.rate = std::atof(next());
    else if (a == "--settle") o.settle = std::atof(next());
    else if (a == "--first") o.first = std::atoi(next());
    else if (a == "--user") o.to.user_prefix = next();
    else if (a == "--password") o.to.password = next();
    else if (a == "--pairing") o.pairing_file = next();
    else return usage();
  }
  if (!o.pairing_file.empty()) {
    std::ifstream in{o.pairing_file};
    for (int a, b; in >> a >> b;)
      o.pairing.emplace_back(a, b);
  }
  o.to.registers = o.mode == "create";
  bench b{o};
  if (o.mode == "create") return b.create();
  if (o.mode == "idle") return b.idle();
  if (o.mode == "chat") return b.chat(false);
  if (o.mode == "rate") return b.chat(true);
  if (o.mode == "ping") return b.ping();
  if (o.mode == "presence") return b.presence();
  if (o.mode == "login") return b.storm(false);
  if (o.mode == "handshake") return b.storm(true);
  return usage();
}
