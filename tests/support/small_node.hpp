// A whole node in the test's process: reactors with their light actors, the modules, a memory store, clients on loopback
// sockets. Whoever names an existing account is let in. So what runs in parallel is seen by a sanitizer.
#pragma once
#include "actors/client.hpp"
#include "actors/connection.hpp"
#include "actors/entity.hpp"
#include "actors/node.hpp"
#include "actors/peers.hpp"
#include "actors/reactor.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"
#include "base/log.hpp"
#include "modules/all.hpp"
#include "storage/memory/engine.hpp"
#include "storage/tables.hpp"
#include "tests/support/stubs.hpp"
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <mutex>
#include <thread>
#include <unistd.h>

namespace actors::testing {

/// A chat message whose body is that number, and its id "m" and the number.
inline std::string message(const std::string& to, int n) {
  return "<message to='" + to + "' type='chat' id='m" + std::to_string(n) + "'><body>" + std::to_string(n) + "</body></message>";
}

/// A client by hand: blocking, with a time-out; of one thread.
class small_client {
public:
  explicit small_client(int fd) : fd_(fd) {
    timeval limit{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  small_client(const small_client&) = delete;
  small_client& operator=(const small_client&) = delete;
  ~small_client() { ::close(fd_); }

  bool send(std::string_view text) {
    while (!text.empty()) {
      auto n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// Everything up to and with `word`; without it, if the peer closed or fell silent before.
  std::string read_until(std::string_view word) {
    for (;;) {
      if (auto at = buffer_.find(word); at != buffer_.npos) {
        auto got = buffer_.substr(0, at + word.size());
        buffer_.erase(0, got.size());
        return got;
      }
      char more[16'384];
      auto n = ::recv(fd_, more, sizeof more, 0);
      if (n <= 0)
        return std::exchange(buffer_, {});
      buffer_.append(more, static_cast<std::size_t>(n));
    }
  }
  /// Nothing comes meanwhile.
  bool hears_nothing(std::chrono::milliseconds for_so_long) {
    pollfd one{fd_, POLLIN, 0};
    return buffer_.empty() && ::poll(&one, 1, static_cast<int>(for_so_long.count())) == 0;
  }
  /// The server ends the connection, before the time-out.
  bool is_let_go() {
    char more[16'384];
    for (;;)
      if (auto n = ::recv(fd_, more, sizeof more, 0); n <= 0)
        return n == 0 || errno == ECONNRESET;
  }
  bool sees(std::string_view word) { return read_until(word).ends_with(word); }
  bool login(const std::string& name, const std::string& resource) {
    return login_only(name) && send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource + "</resource></bind></iq>")
           && sees("</iq>");
  }
  /// Without a resource.
  bool login_only(const std::string& name) {
    auto plain = std::string{"\0", 1} + name + std::string{"\0x", 2};
    auto header = "<stream:stream to='b' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    return send(header) && sees("</stream:features>")
           && send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base::to_base64(plain) + "</auth>")
           && sees("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>") && send(header) && sees("</stream:features>");
  }
  bool ping() {
    auto id = "p" + std::to_string(++pings_);
    return send("<iq type='get' id='" + id + "' to='b'><ping xmlns='urn:xmpp:ping'/></iq>") && sees("id='" + id + "' type='result'/>");
  }
  /// Turns stream management on. The id to resume with.
  std::string enable() {
    if (!send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>") || !sees("<enabled ") || !sees(" id='"))
      return {};
    auto id = read_until("'");
    id.pop_back();
    return sees("/>") ? id : std::string{};
  }
  void shut() { ::shutdown(fd_, SHUT_RDWR); }

private:
  int fd_;
  std::string buffer_;
  int pings_ = 0;
};

/// Up to the end of the next body that comes to this client, from where that begins.
inline std::string next_body(small_client& c) {
  auto got = c.read_until("</body>");
  auto at = got.rfind("<body>");
  return at == got.npos ? got : got.substr(at);
}

/// Of a node among others (small_cluster.hpp): whose rows it shares, and its part in the cluster.
struct small_surroundings {
  std::unique_ptr<storage::engine> engine;
  std::function<std::unique_ptr<peers>(node&)> make_peers; // the reactors are there, and do not run yet
};

class small_node {
public:
  /// `extend`: machines and handlers of the test's own, before the host is frozen.
  explicit small_node(std::size_t reactors = 2, const node_settings& settings = quick(), const std::function<void(modules::host_view&)>& extend = {},
                      small_surroundings others = {std::make_unique<storage::memory_engine>(), {}})
    : around_(std::make_unique<node>(settings, clock_, random_)), store_(std::make_unique<storage::threaded_store>(std::move(others.engine))) {
    for (std::size_t n = 0; n < reactors; ++n)
      reactors_.push_back(std::make_unique<reactor>(system_, around, static_cast<std::uint16_t>(n)));
    if (others.make_peers)
      peers_ = others.make_peers(around);
    auto h = std::make_shared<host>();
    h->view.domain = *xmpp::parse_jid("b");
    h->store = &store;
    h->is_shared = peers_ != nullptr;
    h->credentials = &credentials_;
    for (auto& m : modules_) {
      if (!m->is_on_by_default())
        continue;
      modules::registrar reg{h->view, std::string{m->name()}, settings_, services_};
      m->start(reg);
    }
    if (extend)
      extend(h->view);
    h->stream.domain = "b";
    h->stream.has_tls = h->stream.require_tls = false;
    h->stream.plain_without_tls = h->stream.stream_management = true;
    h->stream.mechanisms = {xmpp::sasl::mechanism_kind::plain};
    around.put_host(std::move(h));
    for (auto& r : reactors_)
      r->start();
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    at_.sin_family = AF_INET;
    at_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at_;
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&at_), size) == 0);
    REQUIRE(::listen(listener_, 512) == 0);
    REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&at_), &size) == 0);
  }
  ~small_node() {
    stop();
    ::close(listener_);
    base::log::flush();
  }

  void add_account(const std::string& name) {
    storage::batch b;
    b.changes.emplace_back(storage::put{storage::tables::account_key(**xmpp::parse_jid(name + "@b")),
                                        storage::tables::encode(storage::tables::account{})});
    REQUIRE(store.blocking().commit({&b, 1}).front() == storage::outcome::done);
  }
  /// A connection that reactor number `to` has. Any thread.
  std::unique_ptr<small_client> connect(std::size_t to) {
    std::lock_guard guard{*accepting_}; // so that what is accepted is what has been connected
    int mine = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::connect(mine, reinterpret_cast<const sockaddr*>(&at_), sizeof at_) != 0)
      throw std::runtime_error{"no connection"};
    int theirs = ::accept(listener_, nullptr, nullptr);
    auto& r = *reactors_[to % reactors_.size()];
    r.lights().post_from_anywhere([&r, theirs](home& h) {
      auto& c = h.make<connection>(net::adopt(h.loop(), theirs, false), entrance{false, false, false}, net::address_counter::place{});
      auto& s = h.make<stream>(c);
      s.set_client(spawn_client(r, s.id()));
      s.start();
      c.start(s);
    });
    return std::make_unique<small_client>(mine);
  }
  /// A client of this account, which is made where it is not there, on reactor number `to`.
  std::unique_ptr<small_client> log_in(const std::string& name, const std::string& resource, std::size_t to) {
    add_account(name);
    auto c = connect(to);
    REQUIRE(c->login(name, resource));
    return c;
  }
  /// `f(entity&)` of this address, on its reactor. Any thread.
  template <class F>
  void with_entity(const std::string& address, F f) {
    auto bare = *xmpp::parse_jid(address);
    around.homes()[around.reactor_of(*bare)]->post_from_anywhere([bare, f](home& h) mutable {
      auto& where = h.around().registry().charge_always(bare, h.index(), home::control_cost);
      h.post_to_entity(where, std::move(f));
    });
  }
  template <class Condition>
  static bool wait_until(Condition is_so) {
    for (int n = 0; n < 4'000; ++n) {
      if (is_so()) // asked once: it need not stay so
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return false;
  }
  /// In the order of server/runner.
  void stop() {
    if (reactors_.empty())
      return;
    around.drain();
    if (peers_)
      peers_->drain();
    for (auto& r : reactors_) {
      r->end_all();
      r->lights().post_from_anywhere(end_detached_sessions);
    }
    auto is_left = [&] { return std::to_string(around.session_count()) + " sessions, " + std::to_string(around.registry().address_count()) + " addresses, "
                                + std::to_string(around.operations.load()) + " operations"; };
    bool is_over = wait_until([&] { return around.session_count() == 0 && around.registry().is_quiet() && around.operations.load() == 0; });
    CHECK_MESSAGE(is_over, is_left());
    if (peers_)
      peers_->stop();
    for (auto& r : reactors_)
      r->end_all(caf::exit_reason::kill);
    system_.await_all_actors_done();
    for (auto& r : reactors_)
      r->stop();
    store_ = nullptr; // its threads have answered the reactors, and peers
    peers_ = nullptr;
    reactors_.clear();
  }

  static node_settings quick() {
    node_settings s;
    s.entity_idle = std::chrono::milliseconds{1}; // entities come and go all the time
    return s;
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
  int listener_ = -1;
  sockaddr_in at_{};
  // On the heap: on the stack ThreadSanitizer takes a mutex for the one of an earlier test, as none of them is announced.
  std::unique_ptr<std::mutex> accepting_ = std::make_unique<std::mutex>();
  std::unique_ptr<node> around_;
  std::unique_ptr<storage::threaded_store> store_;
  std::unique_ptr<actors::peers> peers_;

public:
  node& around = *around_;
  storage::threaded_store& store = *store_;

private:
  std::vector<std::unique_ptr<reactor>> reactors_;
};

} // namespace actors::testing
