// Takes the place of net/client_socket.hpp where actors/ are compiled anew (actors.cmake): the other end is memory, so that a
// process holds more connections than descriptors, and a simulator decides what arrives when. What it leaves out: the
// kernel's socket and Asio's state of it.
#pragma once
#include "net/endpoint.hpp"
#include "net/loop.hpp"
#include "net/tls_call.hpp"
#include "net/tls_identity.hpp"
#include <chrono>
#include <functional>
#include <string>

namespace net {

struct tls_facts {
  std::string protocol, cipher, alpn, server_name, exporter, end_point_hash;
  std::vector<std::string> client_addresses;
  std::string client_problem;
};

// Inline, so that the real class in the library of net/ has another name for the linker.
inline namespace in_memory {

/// Who reads what the sockets of one reactor write. On its thread, at the end of a turn: to answer, wait for the next.
class far_end {
public:
  virtual ~far_end() = default;
  virtual void received(std::uint32_t number, std::string_view bytes) = 0;
  virtual void closed(std::uint32_t number) = 0;
  virtual void was_read(std::uint32_t, std::size_t) {}
};

class client_socket {
public:
  explicit client_socket(tcp_socket s) : io_(&s.get_executor().context()) {}
  ~client_socket() { close(); }
  client_socket(client_socket&&) = delete;

  // --- the far end's
  void connect(far_end& to, std::uint32_t number) {
    far_ = &to;
    number_ = number;
  }
  /// What is not read at once waits.
  void arrive(std::string_view bytes) {
    if (!reader_) {
      waiting_.append(bytes);
      return;
    }
    coming_ = bytes;
    std::exchange(reader_, nullptr)({});
    if (!coming_.empty())
      waiting_.append(std::exchange(coming_, {}));
    wake();
  }
  /// No more comes: whoever reads gets what waits and then `why`; what is written from now on is refused.
  void end(error_code why) {
    over_ = why;
    wake();
    take(0);
  }
  /// At most so many bytes more are taken. Without a call: any number.
  void take(std::size_t bytes) {
    window_ = bytes;
    if (writer_ && (window_ > 0 || over_))
      asio::post(*io_, [h = std::exchange(writer_, nullptr)] { h({}); });
  }

  // --- as the real one
  template <class Handler>
  void wait_readable(Handler h) {
    reader_ = std::move(h);
    wake();
  }
  template <class Handler>
  void wait_writable(Handler h) {
    if (window_ == 0 && !over_)
      writer_ = std::move(h);
    else
      asio::post(*io_, [h = std::move(h)]() mutable { h(error_code{}); });
  }
  std::size_t read_some(char* to, std::size_t size, error_code& ec) {
    ec = {};
    if (!coming_.empty()) {
      auto n = coming_.copy(to, size);
      coming_.remove_prefix(n);
      told_read(n);
      return n;
    }
    auto n = waiting_.copy(to, size);
    if (n == waiting_.size())
      waiting_ = {};
    else
      waiting_.erase(0, n);
    if (n == 0)
      ec = over_ ? over_ : asio::error::would_block;
    told_read(n);
    return n;
  }
  [[nodiscard]] bool has_buffered() const { return false; }
  std::size_t write_some(const char* from, std::size_t size, error_code& ec) {
    ec = {};
    if (over_ || window_ == 0) [[unlikely]] {
      ec = over_ ? error_code{asio::error::broken_pipe} : asio::error::would_block;
      return 0;
    }
    if (window_ < size) [[unlikely]] {
      ec = asio::error::would_block;
      size = window_;
    }
    if (window_ != endless)
      window_ -= size;
    if (far_)
      far_->received(number_, {from, size});
    return size;
  }
  [[nodiscard]] std::size_t must_repeat() const { return 0; }
  template <class Handler>
  void start_tls(const tls_identity_source&, Handler h) {
    asio::post(*io_, [h = std::move(h)]() mutable { h(asio::error::no_protocol_option); });
  }
  [[nodiscard]] bool prepare_compression(std::uint32_t) { return false; }
  void start_compression() {}
  void watch_peer(std::chrono::seconds, std::chrono::seconds) {}
  void set_peer(const endpoint&) {}
  [[nodiscard]] bool is_tls() const { return false; }
  [[nodiscard]] tls_facts facts() const { return {}; }
  [[nodiscard]] std::optional<endpoint> peer_endpoint() const { return std::nullopt; }
  [[nodiscard]] std::string peer() const { return "memory"; }
  [[nodiscard]] std::string peer_address() const { return "memory"; }
  void shutdown() {}
  void close() {
    reader_ = writer_ = nullptr;
    waiting_ = {};
    if (auto* far = std::exchange(far_, nullptr))
      far->closed(number_);
  }
  void abort() { close(); }

private:
  void told_read(std::size_t n) {
    if (far_ && n > 0)
      far_->was_read(number_, n);
  }
  void wake() {
    if (!reader_ || (waiting_.empty() && !over_))
      return;
    asio::post(*io_, [h = std::exchange(reader_, nullptr)] { h({}); });
  }

  static constexpr auto endless = static_cast<std::size_t>(-1);
  asio::io_context* io_;
  far_end* far_ = nullptr;
  std::function<void(const error_code&)> reader_, writer_;
  std::size_t window_ = endless;
  error_code over_;
  std::string_view coming_; // while arrive() runs
  std::string waiting_;
  std::uint32_t number_ = 0;
};

} // namespace in_memory
} // namespace net
