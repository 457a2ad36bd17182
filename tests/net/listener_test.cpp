// Accepting on IPv4 and IPv6, handing descriptors to other loops, and what happens when there are none.
#include "base/log.hpp"
#include "net/address_counter.hpp"
#include "peers.hpp"
#include <sys/resource.h>

using namespace test;

namespace {
/// Opens on the loop's thread.
auto open_on(running_loop& on, const std::string& address, std::uint16_t port, net::listener::on_accept f) {
  return on.ask([&] { return net::listener::open(on.loop(), address, port, f); });
}
void close_on(running_loop& on, std::unique_ptr<net::listener>& l) {
  on.ask([&] {
    l = nullptr;
    return 0;
  });
}
/// Counts and closes what is accepted.
struct counter {
  std::atomic<int> v4{0}, v6{0};
  net::listener::on_accept function() {
    return [this](int fd, bool is_v6) {
      ::close(fd);
      ++(is_v6 ? v6 : v4);
    };
  }
};
template <class F>
bool becomes_true(F f) {
  for (auto end = std::chrono::steady_clock::now() + patience; std::chrono::steady_clock::now() < end;) {
    if (f())
      return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}
} // namespace

TEST_CASE("IPv4 and IPv6 listen on the same port side by side") {
  running_loop on;
  counter n;
  auto v4 = open_on(on, "0.0.0.0", 0, n.function());
  REQUIRE(v4);
  auto port = (*v4)->port();
  REQUIRE(port != 0);
  auto v6 = open_on(on, "::", port, n.function());
  if (!v6) { // somebody else has that port, or there is no IPv6 here
    MESSAGE(v6.error().text);
    REQUIRE(v6.error().error != 0);
  }
  plain_client a{port};
  CHECK(a.is_connected());
  CHECK(a.read(1).empty());
  if (v6) {
    plain_client b{port, true};
    CHECK(b.is_connected());
    CHECK(b.read(1).empty());
    CHECK(becomes_true([&] { return n.v6 == 1; }));
    close_on(on, *v6);
  }
  CHECK(becomes_true([&] { return n.v4 == 1; }));
  close_on(on, *v4);
  plain_client late{port};
  CHECK_FALSE(late.is_connected());
}

TEST_CASE("errors are values that name address and port") {
  running_loop on;
  counter n;
  auto first = open_on(on, "127.0.0.1", 0, n.function());
  REQUIRE(first);
  auto port = (*first)->port();
  auto second = open_on(on, "127.0.0.1", port, n.function());
  REQUIRE_FALSE(second);
  CHECK(second.error().error == EADDRINUSE);
  CHECK(second.error().address == "127.0.0.1");
  CHECK(second.error().port == port);
  CHECK(second.error().text == "Address already in use");
  auto nonsense = open_on(on, "localhost", 0, n.function());
  REQUIRE_FALSE(nonsense);
  CHECK(nonsense.error().error == EINVAL);
  auto foreign = open_on(on, "192.0.2.1", 0, n.function()); // TEST-NET-1: nobody's
  REQUIRE_FALSE(foreign);
  CHECK(foreign.error().error == EADDRNOTAVAIL);
  close_on(on, *first);
  auto again = open_on(on, "127.0.0.1", port, n.function()); // although old connections may linger
  CHECK(again);
  if (again)
    close_on(on, *again);
}

TEST_CASE("a burst is drained; each descriptor works on another thread's loop") {
  running_loop front;
  std::array<running_loop, 2> workers;
  std::array<std::vector<std::unique_ptr<net::client_socket>>, 2> sockets;
  std::size_t next = 0;
  auto l = open_on(front, "127.0.0.1", 0, [&](int fd, bool is_v6) {
    auto i = next++ % 2;
    workers[i].loop().post([&, i, fd, is_v6] {
      auto& s = sockets[i].emplace_back(std::make_unique<net::client_socket>(net::adopt(workers[i].loop(), fd, is_v6)));
      s->wait_readable([s = s.get()](const net::error_code& failed) {
        char b[16];
        net::error_code ec;
        auto n = failed ? 0 : s->read_some(b, sizeof b, ec);
        if (n)
          s->write_some(b, n, ec);
      });
    });
  });
  REQUIRE(l);
  constexpr int n = 600; // more than one turn takes
  std::vector<std::unique_ptr<plain_client>> clients;
  for (int i = 0; i < n; ++i) {
    clients.push_back(std::make_unique<plain_client>((*l)->port()));
    REQUIRE(clients.back()->is_connected());
  }
  int answered = 0;
  for (auto& c : clients)
    c->send("hi");
  for (auto& c : clients)
    answered += c->read(2) == "hi";
  CHECK(answered == n);
  for (std::size_t i = 0; i < 2; ++i)
    workers[i].ask([&] {
      CHECK(sockets[i].size() == n / 2);
      sockets[i].clear();
      return 0;
    });
  close_on(front, *l);
}

TEST_CASE("a listener may end itself while it accepts") {
  running_loop on;
  std::unique_ptr<net::listener> l;
  auto opened = open_on(on, "127.0.0.1", 0, [&](int fd, bool) {
    ::close(fd);
    l = nullptr;
  });
  REQUIRE(opened);
  auto port = (*opened)->port();
  on.ask([&] {
    l = std::move(*opened);
    return 0;
  });
  plain_client a{port};
  a.read(1);
  CHECK(becomes_true([&] { return on.ask([&] { return l == nullptr; }); }));
  plain_client b{port};
  CHECK_FALSE(b.is_connected());
}

TEST_CASE("without descriptors connections wait, and are accepted when there are some again") {
  running_loop on;
  counter n;
  auto l = open_on(on, "127.0.0.1", 0, n.function());
  REQUIRE(l);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET, at.sin_port = htons((*l)->port()), at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3; // every new descriptor would be above it
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  bool is_connected = connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0; // by the kernel
  std::this_thread::sleep_for(250ms);
  int accepted = n.v4;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(is_connected);
  CHECK(accepted == 0);
  CHECK(becomes_true([&] { return n.v4 == 1; }));
  ::close(fd);
  close_on(on, *l);
  base::log::flush();
}

TEST_CASE("places per address before login") {
  net::address_counter counter{{.per_address = 2, .total = 4}}, other{{.per_address = 1, .total = 10}}; // they outlive their places
  auto key = [](std::uint64_t bits, bool is_v6 = false) { return net::address_key{bits, is_v6}; };
  auto a = counter.enter(key(1)), b = counter.enter(key(1));
  CHECK(a);
  CHECK(b);
  CHECK_FALSE(counter.enter(key(1)));
  auto c = counter.enter(key(1, true)); // the same bits, another family
  CHECK(c);
  a->give_up();
  a->give_up(); // twice is once
  auto d = counter.enter(key(1));
  CHECK(d);
  CHECK_FALSE(counter.enter(key(1)));
  auto e = counter.enter(key(2));
  CHECK(e);
  CHECK(counter.total() == 4);
  CHECK_FALSE(counter.enter(key(3))); // all together
  {
    auto moved = std::move(*e);
    e.reset();
    CHECK(counter.total() == 4);
  }
  CHECK(counter.total() == 3);
  CHECK(counter.enter(key(3)));
  *b = std::move(*d); // gives up what it had
  CHECK(counter.total() == 2);
  CHECK(b->move_to(other)); // of address 1
  CHECK(counter.total() == 1);
  CHECK(other.total() == 1);
  auto f = counter.enter(key(1));
  CHECK_FALSE(f->move_to(other)); // no room there: counted nowhere
  CHECK(counter.total() == 1);
  net::address_counter::place nobody;
  CHECK(nobody.move_to(other));
  CHECK(other.total() == 1);
}

TEST_CASE("places are counted from several threads") {
  net::address_counter counter{{.per_address = 10, .total = 1'000}};
  std::atomic<int> most{0}, inside{0};
  std::vector<std::thread> all;
  for (int t = 0; t < 4; ++t)
    all.emplace_back([&] {
      for (int i = 0; i < 2'000; ++i) {
        std::vector<net::address_counter::place> mine;
        while (auto p = counter.enter({7, false})) {
          mine.push_back(std::move(*p));
          int now = ++inside;
          for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {}
        }
        inside -= static_cast<int>(mine.size());
      }
    });
  for (auto& t : all)
    t.join();
  CHECK(most <= 10);
  CHECK(most > 0);
  CHECK(counter.total() == 0);
}

TEST_CASE("the key of a peer: an IPv4 address, or the /64 of an IPv6 one") {
  running_loop on;
  std::vector<std::optional<net::endpoint>> peers;
  std::mutex mutex;
  auto note = [&](int fd, bool) {
    std::lock_guard guard{mutex};
    peers.push_back(net::peer_of(fd));
    ::close(fd);
  };
  auto v4 = open_on(on, "127.0.0.1", 0, note), v6 = open_on(on, "::1", 0, note);
  REQUIRE(v4);
  plain_client a{(*v4)->port()}, b{(*v4)->port()};
  a.read(1), b.read(1);
  std::optional<plain_client> c;
  if (v6) {
    c.emplace((*v6)->port(), true);
    c->read(1);
  }
  CHECK(becomes_true([&] {
    std::lock_guard guard{mutex};
    return peers.size() == (v6 ? 3u : 2u);
  }));
  std::lock_guard guard{mutex};
  CHECK(net::key_of(*peers[0]) == net::address_key{htonl(INADDR_LOOPBACK), false});
  CHECK(net::key_of(*peers[1]) == net::key_of(*peers[0]));
  if (v6)
    CHECK(net::key_of(*peers[2]) == net::address_key{0, true});
  CHECK_FALSE(net::peer_of(-1));
  close_on(on, *v4);
  if (v6)
    close_on(on, *v6);
}
