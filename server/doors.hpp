// Where clients come in: listeners, what stands in front of them, and who is not let in.
#pragma once
#include "net/listener.hpp"
#include "net/proxy_reader.hpp"
#include "server/config/config.hpp"
#include <map>
#include <memory>

namespace actors { class reactor; struct entrance; }

namespace server {

/// Accepts on the first reactor and deals connections out to all in turn.
class doors {
public:
  /// `c`: what it is opened with, until a restart. The others outlive this.
  doors(std::shared_ptr<const config> c, actors::node& n, const std::vector<std::unique_ptr<actors::reactor>>& reactors);
  ~doors(); // closed before, or never opened

  /// Any thread but a reactor's; waits. Errors: a text for the operator.
  [[nodiscard]] base::result<void, std::string> open();
  /// No new connections, and none of those whose PROXY header is awaited.
  void close();
  [[nodiscard]] std::uint16_t port_of(const std::string& what) const; // "c2s", "c2s_direct"

private:
  std::string open_here();
  void say_refused(const net::address_key& peer);
  void accept(int fd, bool is_v6, const actors::entrance& how, std::optional<net::endpoint> source);

  const std::shared_ptr<const config> config_;
  actors::node& node_;
  const std::vector<std::unique_ptr<actors::reactor>>& reactors_;
  std::vector<std::unique_ptr<net::listener>> listeners_;
  std::unique_ptr<net::proxy_reader> behind_proxies_;
  std::map<std::string, std::uint16_t> ports_;
  std::size_t next_ = 0; // reactor
  std::uint64_t unsaid_ = 0; // refused since the last line about it
  base::time_point say_after_{};
};

} // namespace server
