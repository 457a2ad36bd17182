// The running server: wires every concrete type, starts and stops in order.
#pragma once
#include "server/config/config.hpp"
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <atomic>
#include <functional>
#include <memory>

namespace actors { class pool; class reactor; struct session_info; }
namespace storage { class store; }

namespace server {

class settings_view;
class stored_accounts;

class runner {
public:
  explicit runner(config c);
  /// Graceful: see stop().
  ~runner();

  /// Opens stores, starts reactors, then listens. Errors: a text for the operator; nothing is left
  /// running then.
  [[nodiscard]] base::result<void, std::string> start();
  /// No new connections; every stream ends with `system-shutdown`; what is under way is handled and
  /// stored; then stores close. Blocks, at most the drain time-out.
  void stop();

  [[nodiscard]] actors::node& node();
  [[nodiscard]] const config& settings() const { return config_; }
  [[nodiscard]] stored_accounts* accounts_of(std::string_view domain);
  [[nodiscard]] std::uint16_t port_of(const std::string& what) const; // "c2s", "c2s_direct", "http"
  [[nodiscard]] bool is_ready() const { return is_ready_; }
  /// Asks each client; `then` on any thread, once, with those that answered.
  void list_sessions(std::function<void(std::vector<actors::session_info>)> then);
  /// Ends the stream of one session. False: no such session.
  bool kick(std::string_view full_jid, const std::string& text);

private:
  base::result<void, std::string> open_host(const host_config& h);

  struct parts;
  config config_;
  std::unique_ptr<parts> parts_;
  std::atomic<bool> is_ready_{false};
};

} // namespace server
