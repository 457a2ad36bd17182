// A reactor of a node that does nothing for a while: what is for it waits.
#pragma once
#include "tests/support/small_node.hpp"
#include <future>

namespace actors::testing {

/// Until it is let go.
class stopped_reactor {
public:
  stopped_reactor(small_node& n, std::size_t reactor) {
    n.around.homes()[reactor]->post_from_anywhere([until = until_](home&) { until.wait(); });
  }
  /// The one that has that address.
  stopped_reactor(small_node& n, const std::string& address) : stopped_reactor(n, n.around.reactor_of(**xmpp::parse_jid(address))) {}
  ~stopped_reactor() { go_on(); }
  void go_on() {
    if (!std::exchange(is_over_, true))
      go_.set_value();
  }

private:
  std::promise<void> go_;
  std::shared_future<void> until_ = go_.get_future().share();
  bool is_over_ = false;
};

} // namespace actors::testing
