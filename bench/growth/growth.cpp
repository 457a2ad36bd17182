// Growth: connections, streams, sessions and accounts of one process over a transport in memory. At each number of
// sessions one JSON line: bytes and CPU of a session, CPU of a routed message between a few pairs that are hot, and
// between all of them in turn. cluster_growth [MOST]: from 1,000 in tenfold steps.
#include "actors/client.hpp"
#include "actors/connection.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/reactor.hpp"
#include "actors/stream.hpp"
#include "base/log.hpp"
#include "modules/all.hpp"
#include "storage/memory/engine.hpp"
#include "storage/tables.hpp"
#include "tests/support/stubs.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <malloc.h>
#include <sys/resource.h>

namespace {

using namespace actors;
using namespace actors::testing; // what a password costs is another benchmark's
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::_Exit(1);
}

double cpu_seconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  auto of = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return of(u.ru_utime) + of(u.ru_stime);
}

double heap() {
  auto m = mallinfo2();
  return static_cast<double>(m.uordblks + m.hblkhd);
}

double rss_anon() {
  std::ifstream in{"/proc/self/status"};
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("RssAnon:"))
      return std::strtod(line.c_str() + 8, nullptr) * 1'024;
  return 0;
}

/// One node with one reactor, as it is in a server but for its sockets.
class small_node {
public:
  small_node() {
    auto h = std::make_shared<host>();
    h->view.domain = *xmpp::parse_jid("localhost");
    h->store = &store;
    h->credentials = &credentials_;
    for (auto& m : modules_) {
      if (!m->is_on_by_default())
        continue;
      modules::registrar reg{h->view, std::string{m->name()}, settings_, services_};
      m->start(reg);
    }
    h->stream.domain = "localhost";
    h->stream.has_tls = h->stream.require_tls = false;
    h->stream.plain_without_tls = h->stream.stream_management = true;
    h->stream.mechanisms = {xmpp::sasl::mechanism_kind::plain};
    around.put_host(std::move(h));
    at.start();
  }
  void add_accounts(std::uint32_t from, std::uint32_t until) {
    constexpr std::uint32_t at_once = 1'000;
    for (auto n = from; n < until;) {
      storage::batch b;
      for (auto end = std::min(n + at_once, until); n < end; ++n)
        b.changes.emplace_back(storage::put{storage::tables::account_key(**xmpp::parse_jid("user" + std::to_string(n) + "@localhost")),
                                            storage::tables::encode(storage::tables::account{})});
      if (store.blocking().commit({&b, 1}).front() != storage::outcome::done)
        give_up("no accounts");
    }
  }

private:
  struct caf_config : caf::actor_system_config {
    caf_config() { set("scheduler.max-threads", std::size_t{1}); }
  };
  base::system_clock clock_;
  base::secure_random random_;
  caf_config config_;
  caf::actor_system system_{config_};
  any_password credentials_;
  no_accounts people_;
  plain_settings settings_;
  modules::services services_{people_, clock_, random_, {1, 2}};
  std::vector<std::unique_ptr<modules::module>> modules_ = modules::all();

public:
  storage::threaded_store store{std::make_unique<storage::memory_engine>()};
  node around{node_settings{}, clock_, random_};
  reactor at{system_, around, 0};
};

/// All clients, on the reactor's thread: what they are told in one turn they answer in the next.
class clients final : public net::far_end {
public:
  explicit clients(small_node& n) : node_(n) {}

  /// Runs `f` on the reactor and comes back when `is_over` is set there.
  void run(const std::function<void()>& f) {
    is_over_ = false;
    node_.at.lights().post_from_anywhere([f](home&) { f(); });
    while (!is_over_)
      std::this_thread::sleep_for(1ms);
  }
  void reserve(std::size_t n) { all_.reserve(n); }

  void log_in(std::size_t until) {
    run([this, until] {
      wanted_ = until;
      most_ = 0;
      for (int n = 0; n < 200; ++n)
        begin_one();
    });
  }

  using pairs = std::vector<std::pair<std::uint32_t, std::uint32_t>>; // who writes, and to whom

  /// So many messages on their way, until `count` have come; CPU of one, in µs. `stays`: who has got one gets the next;
  /// else the next pair has its turn.
  double talk(const pairs& all, std::uint32_t at_once, std::uint64_t count, bool stays) {
    talking_ = &all;
    for (auto [a, b] : all)
      all_[b].partner = a;
    came_ = sent_ = 0;
    most_ = count;
    stays_ = stays;
    cursor_ = 0;
    double before = 0;
    run([&] {
      before = cpu_seconds();
      for (std::uint32_t n = 0; n < at_once; ++n)
        say(next_pair(), 1);
    });
    return (cpu_seconds() - before) / static_cast<double>(came_) * 1e6;
  }

  void received(std::uint32_t number, std::string_view bytes) override {
    auto& c = all_[number];
    auto ends_with = [&](std::string_view word) { return bytes.find(word) != bytes.npos; };
    switch (c.step) {
      case step::header:
        if (ends_with("</stream:features>"))
          next(number, step::auth);
        break;
      case step::auth:
        if (ends_with("<success"))
          next(number, step::header_again);
        else if (ends_with("<failure"))
          give_up("a login was refused");
        break;
      case step::header_again:
        if (ends_with("</stream:features>"))
          next(number, step::bind);
        break;
      case step::bind:
        if (ends_with("<jid>"))
          next(number, step::presence);
        break;
      case step::presence: // its own comes back
        if (ends_with("<presence")) {
          c.step = step::ready;
          ++ready_;
          begins_.push_back(number);
          wake();
        }
        break;
      case step::ready:
        std::uint32_t n = 0;
        for (std::size_t a = 0; (a = bytes.find("</message>", a)) != bytes.npos; a += 10)
          ++n;
        if (n == 0)
          break;
        came_ += n;
        answers_.emplace_back(number, n);
        wake();
    }
  }
  void closed(std::uint32_t) override { give_up("a connection was closed"); }

private:
  enum class step : std::uint8_t { header, auth, header_again, bind, presence, ready };
  struct client {
    net::client_socket* socket = nullptr;
    std::uint32_t partner = 0; // who writes to it
    clients::step step = clients::step::header;
  };

  void begin_one() {
    if (all_.size() >= wanted_)
      return;
    auto number = static_cast<std::uint32_t>(all_.size());
    auto& h = node_.at.lights();
    auto& c = h.make<connection>(net::tcp_socket{h.loop().io()}, entrance{false, false, false}, net::address_counter::place{});
    auto& s = h.make<stream>(c);
    s.set_client(spawn_client(node_.at, s.id()));
    s.start();
    c.start(s);
    c.socket().connect(*this, number);
    all_.push_back({&c.socket()});
    next(number, step::header);
  }
  void next(std::uint32_t number, step s) {
    all_[number].step = s;
    steps_.push_back(number);
    wake();
  }
  void wake() {
    if (!std::exchange(is_awake_, true))
      node_.at.loop().defer([this] { turn(); });
  }
  void turn() {
    is_awake_ = false;
    for (auto n : std::exchange(steps_, {}))
      take_step(n);
    if (!begins_.empty()) {
      auto count = std::exchange(begins_, {}).size();
      if (ready_ == wanted_ && all_.size() == wanted_)
        is_over_ = true;
      node_.at.lights().as_current([&] {
        while (count-- > 0)
          begin_one();
      });
    }
    for (auto [n, count] : std::exchange(answers_, {}))
      if (came_ >= most_)
        break;
      else if (stays_)
        say(n, count);
      else
        for (; count > 0; --count)
          say(next_pair(), 1);
    if (most_ && came_ >= most_ && came_ == sent_) // and nothing is on its way
      is_over_ = true;
  }
  std::uint32_t next_pair() { return (*talking_)[cursor_++ % talking_->size()].second; }
  void take_step(std::uint32_t number) {
    static const std::string header = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    auto& c = all_[number];
    switch (c.step) {
      case step::header:
      case step::header_again: return c.socket->arrive(header);
      case step::auth: {
        auto plain = std::string{"\0", 1} + "user" + std::to_string(number) + std::string{"\0x", 2};
        return c.socket->arrive("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base::to_base64(plain) + "</auth>");
      }
      case step::bind: return c.socket->arrive("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>b</resource></bind></iq>");
      case step::presence: return c.socket->arrive("<presence/>");
      case step::ready: return;
    }
  }
  /// The partner of `to` writes to it, so many in one go.
  void say(std::uint32_t to, std::uint32_t count) {
    static const std::string body(100, 'x');
    char message[256];
    std::string all;
    for (std::uint32_t n = 0; n < count; ++n, ++sent_) {
      auto size = std::snprintf(message, sizeof message, "<message to='user%u@localhost/b' type='chat' id='m%lu'><body>%s</body></message>", to, sent_, body.c_str());
      all.append(message, static_cast<std::size_t>(size));
    }
    all_[all_[to].partner].socket->arrive(all);
  }

  small_node& node_;
  std::vector<client> all_;
  std::vector<std::uint32_t> steps_, begins_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> answers_;
  std::size_t wanted_ = 0, ready_ = 0;
  const pairs* talking_ = nullptr;
  std::uint64_t came_ = 0, most_ = 0, sent_ = 0, cursor_ = 0;
  bool is_awake_ = false, stays_ = false;
  std::atomic<bool> is_over_{false};
};

} // namespace

int main(int argc, char** argv) {
  base::log::set_level(base::log::level::warning);
  auto most = static_cast<std::uint32_t>(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1'000'000);
  small_node node;
  node.add_accounts(0, most);
  clients all{node};
  all.reserve(most);
  std::uint32_t before = 0;
  for (std::uint32_t count = 1'000; count <= most; count *= 10) {
    auto heap_before = heap(), rss_before = rss_anon(), cpu = cpu_seconds();
    all.log_in(count);
    cpu = cpu_seconds() - cpu;
    std::this_thread::sleep_for(2s); // what a login needs and a session does not is gone
    auto fresh = static_cast<double>(count - before);
    auto bytes = (heap() - heap_before) / fresh, rss = (rss_anon() - rss_before) / fresh;

    clients::pairs few, many;
    for (std::uint32_t n = 0; n < 100; ++n) // spread over all of them
      few.emplace_back(n * (count / 100), n * (count / 100) + count / 200);
    for (std::uint32_t n = 0; n + 1 < count; n += 2) { // a prime step: who logged in one after the other does not talk
      auto mix = [&](std::uint64_t x) { return static_cast<std::uint32_t>(x * 7'919 % count); };
      many.emplace_back(mix(n), mix(n + 1));
    }
    (void)all.talk(few, 1'000, 100'000, true); // warm
    auto hot = all.talk(few, 1'000, 1'000'000, true);
    auto cold = all.talk(many, 1'000, 500'000, false);
    std::printf("{\"sessions\":%u,\"bytes\":%.0f,\"rss\":%.0f,\"login_us\":%.1f,\"hot_us\":%.3f,\"cold_us\":%.3f}\n", count, bytes, rss, cpu / fresh * 1e6, hot,
                cold);
    std::fflush(stdout);
    before = count;
  }
  std::_Exit(0); // a million goodbyes would say nothing more
}
