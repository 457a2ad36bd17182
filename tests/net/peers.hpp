// Both ends of a connection for the tests: a server of client_sockets on a loop of its own, a blocking
// client on plain OpenSSL, and commands. Every wait is bounded.
#pragma once
#include "certificates.hpp"
#include "net/client_socket.hpp"
#include "net/listener.hpp"
#include <arpa/inet.h>
#include <atomic>
#include <condition_variable>
#include <doctest/doctest.h>
#include <functional>
#include <optional>
#include <future>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <set>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>

namespace test {

using namespace std::chrono_literals;
constexpr auto patience = 20s;

/// What the shell command wrote, its standard error included, and its status.
struct output { std::string text; int status = -1; };
inline output run(const std::string& command) {
  output out;
  auto* pipe = popen(("timeout 20 sh -c '" + command + "' 2>&1").c_str(), "r");
  for (int c; (c = std::fgetc(pipe)) != EOF;)
    out.text += static_cast<char>(c);
  out.status = WEXITSTATUS(pclose(pipe));
  return out;
}

/// A loop that runs on a thread until this goes.
class running_loop {
public:
  running_loop() : thread_([this] { loop_.run(); }) {}
  ~running_loop() { stop(); }
  void stop() {
    loop_.stop();
    if (thread_.joinable())
      thread_.join();
  }
  net::loop& loop() { return loop_; }
  /// Runs `f` there and waits for what it returns.
  template <class F>
  auto ask(F f) {
    std::packaged_task<decltype(f())()> task{std::move(f)};
    auto done = task.get_future();
    loop_.post([&] { task(); });
    return done.get();
  }

private:
  net::loop loop_;
  std::thread thread_;
};

class server;

/// One accepted connection; lives on the loop while a handler holds it.
class connection : public std::enable_shared_from_this<connection> {
public:
  connection(server& s, net::tcp_socket socket, std::size_t index) : server_(s), socket_(std::move(socket)), index_(index) {}
  void start_tls();
  void read();
  void send(std::string_view bytes) {
    out_ += bytes;
    flush();
  }
  /// Says goodbye once all is written.
  void finish() {
    is_finishing_ = true;
    flush();
  }
  void end(net::error_code why);
  net::client_socket& socket() { return socket_; }
  std::string in; // what was read and not taken away

private:
  void on_readable();
  void flush() {
    net::error_code ec;
    while (!out_.empty() && !ec)
      out_.erase(0, socket_.write_some(out_.data(), out_.size(), ec));
    if (ec == net::asio::error::would_block && !std::exchange(waits_, true))
      socket_.wait_writable([self = shared_from_this()](const net::error_code& failed) {
        self->waits_ = false;
        if (!failed)
          self->flush();
      });
    if (out_.empty() && is_finishing_)
      socket_.shutdown();
  }
  server& server_;
  net::client_socket socket_;
  std::string out_;
  std::size_t index_;
  bool waits_ = false, is_finishing_ = false, has_ended_ = false;
};

/// What became of a connection.
struct fate {
  std::optional<net::error_code> handshake, end;
  net::tls_facts facts;
  std::string peer, peer_address;
  std::size_t received = 0;
};

class server {
public:
  enum class mode { plain, direct };
  using on_bytes = std::function<void(connection&)>;

  server(mode m, on_bytes f, const std::string& address = "127.0.0.1") : mode_(m), on_bytes_(std::move(f)) {
    port = on.ask([&] {
      auto l = net::listener::open(on.loop(), address, 0, [this](int fd, bool is_v6) { accept(fd, is_v6); });
      listener_ = l ? std::move(*l) : nullptr;
      return l ? listener_->port() : std::uint16_t{0};
    });
    REQUIRE(port != 0);
  }
  ~server() {
    on.ask([&] {
      listener_ = nullptr;
      for (auto& w : all_)
        if (auto c = w.lock())
          c->socket().close();
      return 0;
    });
    on.ask([] { return 0; }); // the handlers of what was closed have run
    on.stop();
  }
  /// Waits until `is_true(fates)`. Returns whether it became so.
  template <class F>
  bool wait(F is_true) {
    std::unique_lock guard{mutex_};
    return changed_.wait_for(guard, patience, [&] { return is_true(fates_); });
  }
  /// The fate of connection `i`, once `is_true` of it.
  template <class F>
  fate wait_for(std::size_t i, F is_true) {
    REQUIRE(wait([&](auto& all) { return all.size() > i && is_true(all[i]); }));
    std::lock_guard guard{mutex_};
    return fates_[i];
  }
  void note(std::size_t i, const std::function<void(fate&)>& f) {
    std::lock_guard guard{mutex_};
    f(fates_[i]);
    changed_.notify_all();
  }
  /// Without any connection under way.
  void forget() {
    std::lock_guard guard{mutex_};
    std::vector<fate>{}.swap(fates_);
    on.ask([&] {
      std::vector<std::weak_ptr<connection>>{}.swap(all_);
      return 0;
    });
  }

  folder files;
  net::tls_identity_source ids;
  running_loop on;
  std::uint16_t port = 0;
  std::atomic<int> reads{0}; // calls, those that found nothing included

private:
  friend class connection;
  void accept(int fd, bool is_v6) {
    std::size_t i = 0;
    {
      std::lock_guard guard{mutex_};
      i = fates_.size();
      fates_.emplace_back();
    }
    auto c = std::make_shared<connection>(*this, net::adopt(on.loop(), fd, is_v6), i);
    all_.push_back(c);
    note(i, [&](fate& f) {
      f.peer = c->socket().peer();
      f.peer_address = c->socket().peer_address();
    });
    mode_ == mode::direct ? c->start_tls() : c->read();
  }
  mode mode_;
  on_bytes on_bytes_;
  std::unique_ptr<net::listener> listener_;
  std::vector<std::weak_ptr<connection>> all_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<fate> fates_;
};

inline void connection::start_tls() {
  socket_.start_tls(server_.ids, [self = shared_from_this()](const net::error_code& ec) {
    self->server_.note(self->index_, [&](fate& f) {
      f.handshake = ec;
      if (!ec)
        f.facts = self->socket_.facts();
    });
    ec ? self->end(ec) : self->read();
  });
}

inline void connection::read() {
  socket_.wait_readable([self = shared_from_this()](const net::error_code& ec) {
    if (!ec && !self->has_ended_)
      self->on_readable();
  });
}

inline void connection::on_readable() {
  do {
    char buffer[8'192];
    net::error_code ec;
    auto n = socket_.read_some(buffer, sizeof buffer, ec);
    ++server_.reads;
    if (ec == net::asio::error::would_block)
      break;
    if (ec)
      return end(ec);
    in.append(buffer, n);
    server_.note(index_, [&](fate& f) { f.received += n; });
    auto had_tls = socket_.is_tls();
    server_.on_bytes_(*this);
    if (has_ended_ || socket_.is_tls() != had_tls)
      return; // the handshake reads now
  } while (socket_.has_buffered());
  read();
}

inline void connection::end(net::error_code why) {
  if (std::exchange(has_ended_, true))
    return;
  socket_.close();
  server_.note(index_, [&](fate& f) { f.end = why; });
}

/// Answers each piece with itself.
inline void echo(connection& c) { c.send(std::exchange(c.in, {})); }
/// Sends the first line back, says goodbye.
inline void echo_line(connection& c) {
  if (auto end = c.in.find('\n'); end != std::string::npos) {
    c.send(std::exchange(c.in, {}).substr(0, end + 1));
    c.finish();
  }
}

/// A connected blocking socket with a time limit on each call.
class plain_client {
public:
  explicit plain_client(std::uint16_t port, bool is_v6 = false) : fd_(socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0)) {
    timeval limit{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in v4{};
    v4.sin_family = AF_INET, v4.sin_port = htons(port), v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6, v6.sin6_port = htons(port), v6.sin6_addr = in6addr_loopback;
    is_connected_ = (is_v6 ? connect(fd_, reinterpret_cast<sockaddr*>(&v6), sizeof v6)
                           : connect(fd_, reinterpret_cast<sockaddr*>(&v4), sizeof v4)) == 0;
  }
  plain_client(const plain_client&) = delete;
  ~plain_client() { close(); }
  [[nodiscard]] bool is_connected() const { return is_connected_; }
  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  /// Up to `size` bytes; fewer at the end of the stream or after an error, which errno tells.
  std::string read(std::size_t size) {
    std::string out;
    errno = 0;
    while (out.size() < size) {
      char b[4'096];
      auto n = recv(fd_, b, std::min(size - out.size(), sizeof b), 0);
      if (n <= 0)
        break;
      out.append(b, static_cast<std::size_t>(n));
    }
    return out;
  }
  void reset() {
    linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void close() {
    if (fd_ >= 0)
      ::close(std::exchange(fd_, -1));
  }
  [[nodiscard]] int fd() const { return fd_; }

private:
  int fd_;
  bool is_connected_ = false;
};

struct tls_wish {
  int version = TLS1_3_VERSION;
  std::string server_name = "";
  std::string alpn = ""; // on the wire: length, name
  bool has_extended_master_secret = true;
};

/// A blocking TLS client that trusts anybody.
class tls_client {
public:
  explicit tls_client(plain_client& below, const tls_wish& wish = {})
    : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free), ssl_(nullptr, SSL_free) {
    SSL_CTX_set_min_proto_version(context_.get(), wish.version);
    SSL_CTX_set_max_proto_version(context_.get(), wish.version);
    if (!wish.has_extended_master_secret)
      SSL_CTX_set_options(context_.get(), SSL_OP_NO_EXTENDED_MASTER_SECRET);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), below.fd());
    if (!wish.server_name.empty())
      SSL_set_tlsext_host_name(ssl_.get(), wish.server_name.c_str());
    if (!wish.alpn.empty())
      SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(wish.alpn.data()),
                          static_cast<unsigned>(wish.alpn.size()));
    ERR_clear_error();
    is_connected_ = SSL_connect(ssl_.get()) == 1;
    if (!is_connected_)
      problem_ = ERR_error_string(ERR_peek_error(), nullptr);
  }
  [[nodiscard]] bool is_connected() const { return is_connected_; }
  [[nodiscard]] const std::string& problem() const { return problem_; }
  SSL* native() { return ssl_.get(); }
  bool send(std::string_view bytes) {
    std::size_t n = 0;
    return SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &n) == 1;
  }
  /// Up to `size` bytes; fewer at the end.
  std::string read(std::size_t size) {
    std::string out(size, '\0');
    std::size_t have = 0, n = 0;
    while (have < size && SSL_read_ex(ssl_.get(), out.data() + have, size - have, &n) == 1)
      have += n;
    out.resize(have);
    return out;
  }
  /// What is there, or comes next.
  std::string read_some() {
    std::string out(16'384, '\0');
    std::size_t n = 0;
    SSL_read_ex(ssl_.get(), out.data(), out.size(), &n);
    out.resize(n);
    return out;
  }
  [[nodiscard]] bool has_goodbye() const { return SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN; }
  std::string exporter() {
    std::string out(32, '\0');
    std::string_view label = "EXPORTER-Channel-Binding";
    SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(out.data()), out.size(), label.data(),
                               label.size(), nullptr, 0, 0);
    return out;
  }
  /// The subject's common name in the server's certificate.
  std::string server() {
    char text[256] = "";
    if (auto* x = SSL_get0_peer_certificate(ssl_.get()))
      X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, text, sizeof text);
    return text;
  }

private:
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> ssl_;
  bool is_connected_ = false;
  std::string problem_;
};

inline std::string to_hex(std::string_view bytes) {
  std::string out;
  for (unsigned char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02X", c);
    out += two;
  }
  return out;
}

inline std::size_t open_descriptors() {
  std::size_t n = 0;
  for (auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"})
    n += !entry.path().empty();
  return n;
}

} // namespace test
