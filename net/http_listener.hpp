// A small HTTP/1.1 server for what the operator's tools ask on loopback: metrics and probes.
#pragma once
#include "net/listener.hpp"
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace net {

struct http_reply {
  unsigned status = 200;
  std::string body;
  std::string type = "text/plain; charset=utf-8";
};

struct http_limits {
  std::uint32_t header_bytes = 8'192;
  std::uint32_t connections = 64;        // further ones are closed at once
  std::uint32_t requests = 1'000;        // per connection
  std::chrono::milliseconds time{10'000}; // per request, waiting for it included
};

/// GET and HEAD without a body; everything else is refused (400, 405, 413, 431). One thread: the loop's.
class http_listener {
public:
  /// What is at this path ("/metrics"; without query, never decoded: match it whole). Nothing: 404.
  /// What it throws becomes 500.
  using find_reply = std::function<std::optional<http_reply>(std::string_view path)>;

  /// Errors: see listener::open.
  static base::result<std::unique_ptr<http_listener>, listen_problem>
  open(loop& l, const std::string& address, std::uint16_t port, find_reply f, const http_limits& limits = {});
  /// Closes the listener and its connections.
  ~http_listener();
  http_listener(const http_listener&) = delete;
  [[nodiscard]] std::uint16_t port() const;

private:
  struct state;
  class session;
  explicit http_listener(std::shared_ptr<state> s);
  std::shared_ptr<state> state_;
  std::unique_ptr<listener> listener_;
};

} // namespace net
