// The running server: wires every concrete type, starts and stops in order.
#pragma once
#include "server/config/config.hpp"
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

namespace actors { class peers; class pool; class reactor; struct session_info; }
namespace storage { class store; }

namespace server {

class stored_accounts;
struct host_base;

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
  /// What is in force.
  [[nodiscard]] std::shared_ptr<const config> settings() const;
  /// Puts other settings, hosts and certificates in force. No stream ends but those of hosts that are gone,
  /// with `host-gone`; of these nothing is in memory then. Streams that begin from now on, and accounts without a session, have the new settings;
  /// what needs a restart stays as it is. `just_before`: the last that may fail; with an error nothing has
  /// changed. One thread at a time; blocks. Errors: a text for the operator.
  [[nodiscard]] base::result<void, std::string> change(config next, const std::function<base::result<void, std::string>()>& just_before = {});
  /// All rows of a host that is not served any more.
  [[nodiscard]] base::result<void, std::string> erase_rows(const std::string& domain);

  /// Null: not a host of this server.
  [[nodiscard]] stored_accounts* accounts_of(std::string_view domain);
  /// Also of hosts that are not served any more. Null: there is none.
  [[nodiscard]] storage::store* store_of(std::string_view domain);
  /// The one that is in files. Null: no host uses it.
  [[nodiscard]] storage::store* embedded_store();
  /// PostgreSQL databases, in the order of their connection strings.
  [[nodiscard]] std::vector<storage::store*> databases();
  [[nodiscard]] std::uint16_t port_of(const std::string& what) const; // "c2s", "c2s_direct", "http"
  [[nodiscard]] bool is_ready() const { return is_ready_; }
  /// It is ready, but reaches fewer nodes of its cluster than it misses (peers::is_in_minority). Any thread.
  [[nodiscard]] bool is_in_minority();
  /// A few times a minute: keys that nodes share. Does not block.
  void refresh_tickets();
  /// Null: this node is alone.
  [[nodiscard]] actors::peers* peers();
  /// No new sessions and red health from now on; those that are there stay until stop().
  void drain();
  /// What remains is to stop: the next start is alone. Errors: a text for the operator.
  [[nodiscard]] base::result<void, std::string> leave_cluster();
  /// Asks each client; `then` on any thread, once, with those that answered.
  void list_sessions(std::function<void(std::vector<actors::session_info>)> then);
  /// Ends the streams of one session, or of all of an account, on whichever node they are. False: no such session.
  bool kick(std::string_view full_jid, const std::string& text);

private:
  /// Hosts and their certificates, ready to be put in force.
  struct generation {
    std::vector<actors::host_ref> hosts;
    std::vector<actors::host_elsewhere_ref> elsewhere;
    std::vector<std::pair<std::string, net::tls_context_ref>> certificates; // by name
  };
  base::result<generation, std::string> build(const config& c);
  base::result<host_base*, std::string> base_of(const host_config& h, std::uint32_t iterations);
  base::result<config, std::string> separate(config c) const;
  static void keep_until_restart(config& next, const config& now);
  /// Ends what has the settings of before and can go: idle entities, and sessions and streams of hosts that
  /// are not served any more. Returns how many entities and sessions of the host `counted` it met.
  std::size_t sweep(const std::string& counted);
  /// Sweeps until nothing of a host that is gone is in memory, at most 10 s.
  void wait_for_end(const std::string& domain);
  template <class Sum, class F>
  Sum ask_reactors(F f);

  struct parts;
  mutable std::mutex config_mutex_;
  std::shared_ptr<const config> config_;
  std::unique_ptr<parts> parts_;
  std::atomic<bool> is_ready_{false};
};

} // namespace server
