// One client connection of the load generator: a non-blocking socket, TLS if asked for, and the login
// of a stream. One thread, one epoll set, no allocation per message.
#pragma once
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

struct target {
  std::uint16_t port = 5222;
  bool is_relay = false, is_tls = false;
  sasl mechanism = sasl::plain;
  std::string user_prefix = "user", password = "benchpass";
  bool registers = false; // in-band registration before login (XEP-0077)
};

class loop;

class wire {
public:
  wire(loop& l, int number);
  ~wire();
  /// Connects and logs in; `ready` is called once, `failed` if it does not work out.
  void start(std::string user, std::string resource);
  void send(std::string_view xml); // collected until flush()
  void flush();
  void close();
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] const std::string& full_jid() const { return jid_; }
  [[nodiscard]] bool is_ready() const { return step_ == step::ready; }

  std::function<void(wire&)> on_ready;
  /// All input after login as it comes; returns how much is done with.
  std::function<std::size_t(wire&, std::string_view)> on_bytes;

  // --- for the loop
  void on_event(std::uint32_t events);

private:
  enum class step { connecting, handshake, header, auth, challenge, header_again, bind, registering, ready, closed };
  void fail(std::string_view why);
  void read();
  void advance();
  void stream_header();
  std::string scram_first();
  std::string scram_final(std::string_view server_first);
  bool has(std::string_view word);
  void take_all() { in_.clear(); }

  loop& loop_;
  int number_, fd_ = -1;
  SSL* ssl_ = nullptr;
  step step_ = step::connecting;
  std::string user_, resource_, jid_, in_, out_, nonce_;
};

/// Totals of one run.
struct counts {
  std::uint64_t sent = 0, received = 0, doubled = 0, reordered = 0, misrouted = 0, failed = 0;
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
