// Several whole nodes in the test's process that serve one host from one store, with clients on each.
#pragma once
#include "tests/support/shared_engine.hpp"
#include "tests/support/small_node.hpp"
#include "tests/support/threaded_network.hpp"

namespace actors::testing {

class small_cluster {
public:
  /// `extend`: as small_node's, with the number of the node. `links`: bounds of theirs.
  explicit small_cluster(std::size_t size, const cluster::membership_options& members = {},
                         const std::function<void(modules::host_view&, std::size_t node)>& extend = {}, const cluster::link_options& links = {},
                         const node_settings& settings = small_node::quick()) {
    for (std::size_t n = 0; n < size; ++n) {
      cluster::member own{(n + 1) << 55, std::uint64_t{1} << cluster::process_shift, name_of(n), address_of(n), 2};
      cluster::mesh_options o;
      o.members = members;
      o.stanzas = links;
      for (std::size_t other = 0; other < size; ++other)
        if (other != n)
          o.members.seeds.push_back(address_of(other));
      small_surroundings others;
      others.engine = std::make_unique<shared_engine>(rows_);
      others.make_peers = [&](node& around) {
        auto made = std::make_unique<peers>(around, own, o, nullptr);
        around.set_peers(made.get(), own.node << 1);
        around.set_resumption_key({1, 2});
        return made;
      };
      nodes_.push_back(std::make_unique<small_node>(2, settings, [&](modules::host_view& v) {
        if (extend)
          extend(v, n);
      }, std::move(others)));
      auto ok = this->others(n).start([&](auto post, auto& events) -> base::result<std::unique_ptr<cluster::wire::transport>, std::string> {
        return net_->listen({o.members.cluster, own.name, own.life, own.address, 1, 1}, std::move(post), events);
      });
      REQUIRE(ok);
    }
    for (std::size_t n = 0; n < size; ++n)
      REQUIRE(small_node::wait_until([&] { return this->others(n).alive().size() == size - 1; }));
  }
  ~small_cluster() {
    for (auto& n : nodes_)
      n->stop();
  }

  [[nodiscard]] static std::string name_of(std::size_t n) { return "n" + std::to_string(n); }
  small_node& operator[](std::size_t n) { return *nodes_[n]; }
  [[nodiscard]] std::size_t size() const { return nodes_.size(); }
  peers& others(std::size_t n) { return *nodes_[n]->around.peers(); }
  /// Where the account lives, as node `n` sees it; nothing: it has no session.
  std::optional<std::string> home_of(const std::string& account, std::size_t n) {
    auto there = others(n).rows().home_of(**xmpp::parse_jid(account + "@b"));
    if (!there)
      return std::nullopt;
    return name_seen(n, there->node);
  }
  /// Where what is for the account goes, as node `n` sees it.
  std::string owner_of(const std::string& account, std::size_t n) { return name_seen(n, others(n).owner_of(**xmpp::parse_jid(account + "@b")).node); }
  /// A client that is available, that all nodes know, and whose account has looked for what is stored: nothing waits for that any more.
  std::unique_ptr<small_client> come(std::size_t n, const std::string& name, const std::string& resource, std::size_t reactor,
                                     const std::string& presence = "<presence/>") {
    auto c = log_in(n, name, resource, reactor, presence);
    c->send("<message id='first' to='" + name + "@b/" + resource + "'><body>here</body></message>");
    REQUIRE(c->sees("<body>here</body>"));
    REQUIRE(c->sees("</message>"));
    return c;
  }
  /// A client that is available, and that all nodes know.
  std::unique_ptr<small_client> log_in(std::size_t n, const std::string& name, const std::string& resource, std::size_t reactor,
                                     const std::string& presence = "<presence/>") {
    auto c = nodes_[n]->log_in(name, resource, reactor);
    c->send(presence);
    REQUIRE(c->ping());
    auto full = *xmpp::parse_jid(name + "@b/" + resource);
    for (std::size_t at = 0; at < nodes_.size(); ++at)
      REQUIRE(small_node::wait_until([&] { return this->others(at).rows().find(*full).has_value(); }));
    return c;
  }
  /// Messages that wait for the account's next session.
  std::size_t stored_for(const std::string& account) {
    auto found = rows_->scan(storage::tables::offline_of(**xmpp::parse_jid(account + "@b")), storage::order::forward, 1'000);
    REQUIRE(found);
    return found->size();
  }
  void cut(std::size_t a, std::size_t b) { net_->cut(address_of(a), address_of(b)); }
  void mend(std::size_t a, std::size_t b) { net_->mend(address_of(a), address_of(b)); }
  void kill(std::size_t n) { net_->kill(address_of(n)); }

private:
  std::string name_seen(std::size_t by, cluster::peer_number node) { return node == cluster::self ? name_of(by) : others(by).name_of(node); }
  static std::string address_of(std::size_t n) { return name_of(n) + ":1"; }

  std::unique_ptr<threaded_network> net_ = std::make_unique<threaded_network>(); // on the heap: see small_node
  std::shared_ptr<storage::memory_engine> rows_ = std::make_shared<storage::memory_engine>();
  std::vector<std::unique_ptr<small_node>> nodes_;
};

} // namespace actors::testing
