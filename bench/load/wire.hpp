// One client of the load generator: a non-blocking socket, TLS if asked for, and the ways to a session. It outlives
// its connection, as a client does. One thread, one epoll set, no allocation per message.
#pragma once
#include "bench/load/stanza_counter.hpp"
#include <cstdint>
#include <functional>
#include <map>
#include <openssl/ssl.h>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace load {

std::uint64_t now_ns();

enum class sasl { plain, scram_sha1 };

/// How a connection becomes a session.
enum class way {
  bind,      // SASL over the classic stream, bind, and what the target asks for
  resume,    // the same login, then <resume/> (XEP-0198)
  first,     // XEP-0388 with the password: a token is asked for, and Bind 2 enables management inline
  token,     // XEP-0388 with the token (XEP-0484), <resume/> inline
  pipelined, // the same without waiting for the features (XEP-0509)
};

struct target {
  std::uint16_t port = 5222;
  bool is_relay = false, is_tls = false;
  bool keeps_tickets = false; // TLS sessions come back, too
  sasl mechanism = sasl::plain;
  std::string user_prefix = "user", password = "benchpass";
  bool registers = false; // in-band registration before login (XEP-0077)
  bool manages = false, carbons = false; // enabled behind bind
};

/// What it took to get to a session, as the client's socket sees it.
struct cost {
  std::uint64_t in = 0, out = 0; // bytes, without those of TCP and IP
  std::uint64_t round_trips = 0; // how often the client had to wait: for TCP, for TLS, for each answer
};

class loop;

class wire {
public:
  wire(loop& l, int number);
  wire(const wire&) = delete;
  ~wire();
  /// Connects and logs in; `on_ready` is called once, and the loop counts a failure if it does not work out.
  void start(std::string user, std::string resource, way how = way::bind);
  /// Of the next connections, instead of the target's.
  void connect_to(std::uint16_t port) { port_ = port; }
  /// Another connection of the same client.
  void start_again(way how);
  /// Collected until flush(). `stanzas`: how many the peer will count; each fifth asks for an acknowledgement where
  /// management is on, as the clients that are built on slixmpp do.
  void send(std::string_view xml, unsigned stanzas = 1);
  void ask_for_ack();
  void flush();
  void close();
  /// The network is gone: a reset (SO_LINGER 0), no end of stream or TLS, and no TIME_WAIT at our end.
  void cut();
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] const std::string& full_jid() const { return jid_; }
  [[nodiscard]] bool is_ready() const { return step_ == step::ready; }
  [[nodiscard]] bool is_closed() const { return step_ == step::closed; }
  [[nodiscard]] bool is_acknowledged() const { return acked_ == sent_; }
  /// Stanzas that the server has not acknowledged.
  [[nodiscard]] std::uint32_t open() const { return sent_ - acked_; }
  [[nodiscard]] const load::cost& cost() const { return cost_; }

  std::function<void(wire&)> on_ready;
  /// All input after login as it comes; returns how much is done with.
  std::function<std::size_t(wire&, std::string_view)> on_bytes;

  // --- for the loop
  void on_event(std::uint32_t events);
  void on_ticket(SSL_SESSION* s);

private:
  enum class step {
    connecting, handshake, header, auth, challenge, header_again, bind, carbons, enable, resume, sasl2, registering, ready, closed
  };
  void fail(std::string_view why);
  void read();
  void on_input(std::string_view got);
  void count(std::string_view got);
  void push(std::string_view xml);
  std::uint64_t tls_written() const;

  // --- login.cpp
  void greet();
  /// Whether something of the input was done with, so that more may be.
  bool advance();
  bool begin_login();
  bool after_bind(bool carbons_are_on);
  bool on_resumed();
  void ready();
  /// Sends what must be answered before the client can go on.
  void ask(std::string_view xml);
  bool take_through(std::string_view word);
  bool take_element(std::string_view name);
  std::string resume_xml() const;
  std::string authenticate_xml() const;
  std::string binding() const;
  std::string scram_first();
  std::string scram_final(std::string_view server_first);
  [[nodiscard]] bool has(std::string_view word) const;

  loop& loop_;
  int number_, fd_ = -1;
  std::uint16_t port_ = 0; // 0: the target's
  SSL* ssl_ = nullptr;
  step step_ = step::connecting;
  way way_ = way::bind;
  std::string user_, resource_, jid_, in_, out_, taken_, nonce_;
  load::cost cost_;
  std::uint64_t tls_written_ = 0;

  // --- what the client keeps when its connection is gone
  bool is_managed_ = false;
  std::string session_id_, token_, config_version_; // XEP-0198, XEP-0484, XEP-0509
  std::uint32_t sent_ = 0, acked_ = 0, unasked_ = 0; // stanzas to the server
  stanza_counter got_;
  SSL_SESSION* ticket_ = nullptr;
};

/// Totals of one run.
struct counts {
  std::uint64_t sent = 0, received = 0, doubled = 0, reordered = 0, misrouted = 0, failed = 0;
  std::uint64_t answered = 0; // requests for an acknowledgement
};

class loop {
public:
  explicit loop(target t);
  ~loop();
  [[nodiscard]] const target& to() const { return target_; }
  /// Until `done()` or `seconds` are over. Returns whether it was done.
  bool run(double seconds, const std::function<bool()>& done);
  /// Called about every `ns` while running.
  std::function<void()> on_tick;
  std::uint64_t tick_ns = 1'000'000;

  int epoll() const { return epoll_; }
  SSL_CTX* tls() const { return tls_; }
  bool only_handshake = false; // the bare TLS handshake: closed after it
  bool ends_when_ready = false; // the server answers a goodbye by closing: no failure
  std::map<std::string, std::string> salted; // SCRAM: by salt, so that the generator hashes once
  counts total;
  std::vector<wire*> dirty;

private:
  target target_;
  int epoll_;
  SSL_CTX* tls_ = nullptr;
};

} // namespace load
