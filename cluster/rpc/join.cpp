// One call per node that joins.
#include "cluster/rpc/join.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "cluster/link_rules.hpp"

namespace cluster::rpc {

namespace {
constexpr auto delay = std::chrono::seconds{1};
constexpr base::rate tries{2, 10};
constexpr std::size_t longest_request = 4'096;

grpc::Status refused() { return {grpc::StatusCode::PERMISSION_DENIED, "the token is not good: it is wrong, used, or over"}; }

base::result<join_request, std::string> read(const grpc::ServerContext& context) {
  auto range = context.client_metadata().equal_range(join_key);
  covey::link::join_request in;
  if (range.first == range.second || range.first->second.size() > longest_request
      || !in.ParseFromArray(range.first->second.data(), static_cast<int>(range.first->second.size())))
    return base::fail(std::string{"there is no request"});
  join_request r{in.secret(), in.node(), in.address(), in.request()};
  if (!wire::is_node_name(r.node) || !wire::is_node_address(r.address))
    return base::fail(std::string{"the node's name or address cannot be used"});
  return r;
}
} // namespace

void refuse_join(std::unique_ptr<join_call> c) { refuse(std::move(c), refused()); }

class join_desk::asker final : public operation {
public:
  asker(std::unique_ptr<join_call> c, base::time_point now) : due(now + delay), call_(std::move(c)) {}
  void done(bool) override { self = nullptr; }
  /// Once.
  void end(const grpc::Status& s) {
    if (!is_over.exchange(true))
      call_->stream.Finish(s, this);
  }
  void end(const join_grant& g) {
    if (is_over.exchange(true))
      return;
    covey::link::join_reply reply;
    reply.set_certificate(g.certificate);
    reply.set_authority(g.authority);
    reply.set_cluster(g.cluster);
    for (auto& s : g.seeds)
      reply.add_seeds(s);
    call_->stream.WriteAndFinish(reply, {}, grpc::Status::OK, this);
  }
  const base::time_point due; // of a refusal
  std::atomic<bool> is_refused{false}, is_over{false};
  std::shared_ptr<asker> self; // gRPC's reference
  [[nodiscard]] const grpc::ServerContext& context() const { return call_->context; }

private:
  const std::unique_ptr<join_call> call_;
};

join_desk::join_desk(join_handler handler, std::function<bool(std::function<void()>)> run, std::function<void(const std::string&, bool)> know,
                     std::function<void()> wake)
  : handler_(std::move(handler)), run_(std::move(run)), know_(std::move(know)), wake_(std::move(wake)) {}

void join_desk::start(std::unique_ptr<join_call> call) {
  auto now = base::steady::now();
  auto c = std::make_shared<asker>(std::move(call), now);
  c->self = c;
  bool is_busy = false;
  {
    std::lock_guard guard{mutex_};
    if (is_closed_)
      return c->end(refused());
    calls_.insert(c);
    if (tries_.take(0, tries, now) > base::duration::zero())
      is_busy = true;
    else
      tries_.take(1, tries, now);
  }
  auto peer = c->context().peer();
  auto request = read(c->context());
  auto node = request ? request->node : std::string{};
  if (is_busy || !request) {
    answer(*c, peer, base::fail(is_busy ? "too many tries" : request.error()), node);
  } else if (!run_([this, c, peer, r = *request] { answer(*c, peer, handler_(r), r.node); })) {
    answer(*c, peer, base::fail(std::string{"too much to do"}), node);
  }
}

void join_desk::answer(asker& c, const std::string& peer, const base::result<join_grant, std::string>& r, const std::string& node) {
  base::metrics::make_counter("covey_cluster_joins_total", "Nodes that asked for a certificate", {{"outcome", r ? "granted" : "refused"}}).add();
  know_(peer, r.has_value());
  if (r) {
    base::log::info("cluster.joined", "a node got its certificate by a token", {{"node", node}, {"peer", peer}});
    c.end(*r);
  } else {
    if (auto n = log_.due(base::steady::now()))
      base::log::warning("cluster.join_refused", "a node got no certificate", {{"node", node}, {"peer", peer}, {"error", r.error()}, {"count", std::to_string(n)}});
    c.is_refused = true;
  }
  wake_();
}

bool join_desk::tick(base::time_point now) {
  std::vector<std::shared_ptr<asker>> over;
  bool has_more = false;
  {
    std::lock_guard guard{mutex_};
    for (auto i = calls_.begin(); i != calls_.end();) {
      auto& c = **i;
      if (c.is_over || (c.is_refused && now >= c.due)) {
        over.push_back(*i);
        i = calls_.erase(i);
      } else {
        has_more = true;
        ++i;
      }
    }
  }
  for (auto& c : over)
    c->end(refused()); // nothing where it was granted
  return has_more;
}

void join_desk::close() {
  std::set<std::shared_ptr<asker>> all;
  {
    std::lock_guard guard{mutex_};
    is_closed_ = true;
    all.swap(calls_);
  }
  for (auto& c : all)
    c->end(refused());
}

} // namespace cluster::rpc
