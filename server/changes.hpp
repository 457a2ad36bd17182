// What an operator changes while the server runs: the configuration anew, hosts that come and go.
#pragma once
#include "base/metrics.hpp"
#include "server/config/compare.hpp"
#include <functional>
#include <mutex>

namespace server {

class runner;

struct change_outcome {
  enum class kind { done, failed, usage, not_found, conflict, mistakes };
  kind what = kind::done;
  std::string text;                   // why, where it is not done
  std::vector<changed_value> changed; // those that are not live wait for a restart
  std::vector<problem> problems;      // then nothing has changed
};

struct host_info {
  std::string domain, file, engine, certificate;
  bool is_added = false;              // at run time: `file` is its own
  std::int64_t certificate_until = 0; // seconds since 1970; 0: there is none
  std::size_t sessions = 0;
};

/// Any thread, one change at a time; blocks. With a mistake anywhere in the files everything stays as it is.
class changes {
public:
  /// `in_force`: what the server was started with.
  changes(runner& r, std::string file, std::vector<effective_value> in_force);

  /// What a reload would change.
  [[nodiscard]] change_outcome diff();
  /// Reads the files, certificates too, and opens the log's file again.
  [[nodiscard]] change_outcome reload();
  /// `settings`: "key=value", the value as in a file or, for texts, without quotes.
  [[nodiscard]] change_outcome add_host(const std::string& domain, const std::vector<std::string>& settings);
  /// As above; "key=" takes the host's own value away.
  [[nodiscard]] change_outcome set_host(const std::string& domain, const std::vector<std::string>& settings);
  /// Ends its sessions with `host-gone`. `erases`: its rows and its certificate, too; then also for a host
  /// that is not served any more.
  [[nodiscard]] change_outcome remove_host(const std::string& domain, bool erases);
  [[nodiscard]] std::vector<host_info> hosts() const;
  /// Makes the local authority's certificates anew where they end soon.
  void renew_certificates();

  [[nodiscard]] std::vector<effective_value> in_force() const;
  [[nodiscard]] const std::string& file() const { return file_; }

private:
  using step = std::function<base::result<void, std::string>()>;
  [[nodiscard]] std::string folder() const;
  [[nodiscard]] loaded read(std::optional<host_file> instead = {}) const;
  change_outcome apply(loaded next, const step& just_before);
  void show_certificates();
  change_outcome with_settings(const std::string& domain, std::string text, const std::vector<std::string>& settings);

  runner& runner_;
  const std::string file_;
  const std::vector<key> keys_;
  mutable std::mutex mutex_;       // of a change
  mutable std::mutex values_mutex_;
  std::vector<effective_value> in_force_;
  std::vector<std::string> shown_; // hosts whose certificate is among the metrics
  base::metrics::counter& reloads_ = base::metrics::make_counter("covey_config_reloads_total", "Reloads and changes of hosts that were put in force.");
  base::metrics::counter& refused_ = base::metrics::make_counter("covey_config_refused_total", "Those that were refused for a mistake.");
};

} // namespace server
