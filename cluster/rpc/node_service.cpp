// Who is linked, decided on the owner's thread; the server, the door and the dials around it.
#include "cluster/rpc/node_service.hpp"
#include "base/log.hpp"
#include "cluster/rpc/counters.hpp"
#include "cluster/rpc/door.hpp"
#include "cluster/rpc/grpc_process.hpp"
#include "cluster/rpc/grpc_streams.hpp"
#include "cluster/rpc/join.hpp"
#include <condition_variable>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <set>

namespace cluster::rpc {

using wire::close_cause;
using wire::link_id;
using wire::refusal;
using wire::refusal_code;

namespace {
constexpr std::size_t longest_hello = 2'048;
} // namespace

class node_service::core final : public stream_owner, public std::enable_shared_from_this<core>, private covey::link::node::AsyncService {
public:
  core(settings s, wire::post_function post, wire::transport_events& events)
    : settings_(std::move(s)), post_(std::move(post)), events_(events), own_(settings_.own),
      door_({settings_.limits.strangers, settings_.limits.strangers_per_address, settings_.limits.hello}, [this](int fd) { take(fd); },
            [this](base::time_point now) { return tick(now); }) {
    memory_.Resize(settings_.limits.memory);
  }

  base::result<void, std::string> start();
  void stop();
  link_id dial(const std::string& address, const std::string& node);
  wire::sent send(link_id link, std::string frame) {
    auto i = links_.find(link);
    return i == links_.end() || !i->second.is_connected ? wire::sent::gone : i->second.via->send(std::move(frame));
  }
  bool is_written(link_id link) {
    auto i = links_.find(link);
    return i != links_.end() && i->second.is_connected && i->second.via->is_written();
  }
  void drop(link_id link, close_cause cause, const refusal& why);
  void set_hello(const wire::hello& h) {
    std::lock_guard guard{mutex_};
    own_ = h;
  }
  const wire::hello& own() const { return own_; }
  loop& thread() { return *loop_; }
  std::uint16_t port() const { return settings_.listen.empty() ? 0 : door_.port(); }

  // stream_owner, on the loop's thread
  void on_hello(const stream_ref& s, wire::hello peer, std::string bears) override {
    post([s, peer = std::move(peer), bears = std::move(bears)](core& c) { c.answered(s, peer, bears); });
  }
  void on_ready(const stream_ref& s) override {
    post([s](core& c) { c.ready(s); });
  }
  void on_frames(const stream_ref& s) override {
    post([s](core& c) { c.read(s); });
  }
  void on_written(const stream_ref& s) override {
    post([s](core& c) {
      s->hear_written();
      if (auto i = c.links_.find(s->id()); i != c.links_.end() && i->second.is_connected)
        c.events_.written(s->id());
    });
  }
  void on_over(const stream_ref& s, const wire::closing& how) override {
    post([s, how](core& c) { c.over(s->id(), how); });
  }
  void on_gone(const stream_ref& s) override;

private:
  struct entry {
    stream_ref via; // null: the dial has not begun
    std::string address;
    wire::hello peer;
    std::uint32_t version = 0;
    bool is_dialled = false, is_connected = false;
  };

  /// Of one method: it waits for a call, and once that has come for the next.
  template <class Call>
  struct waiting final : operation {
    waiting(core& c, void (core::*ask)(), void (core::*take)(std::unique_ptr<Call>)) : of(c), ask(ask), take(take) {}
    void done(bool ok) override {
      if (!ok)
        return; // the server ends
      auto came = std::move(call);
      (of.*ask)();
      (of.*take)(std::move(came));
    }
    core& of;
    void (core::*const ask)();
    void (core::*const take)(std::unique_ptr<Call>);
    std::unique_ptr<Call> call{};
  };

  // on the loop's thread
  void ask_for_link();
  void ask_for_join();
  void link(std::unique_ptr<accepted_call> c);
  void join(std::unique_ptr<join_call> c);
  base::result<wire::hello, refusal> read_hello(const grpc::ServerContext& context, std::uint32_t& version, std::string& node);
  bool add(const stream_ref& s);
  // on the door's thread
  void take(int fd);
  bool tick(base::time_point now);
  void begin_dial(link_id id, const std::string& address, const std::string& node);
  // on the owner's thread
  template <class Job>
  void post(Job job) {
    post_([self = shared_from_this(), job = std::move(job)]() mutable {
      if (!self->is_over_)
        job(*self);
    });
  }
  void dialled(const stream_ref& s, const wire::hello& peer, std::uint32_t version);
  void answered(const stream_ref& s, const wire::hello& peer, const std::string& bears);
  void ready(const stream_ref& s);
  void read(const stream_ref& s);
  void over(link_id id, const wire::closing& how);
  void tell_closed(link_id id, const entry& e, const wire::closing& how);
  void connect(const stream_ref& s, const std::vector<link_id>& go, std::uint32_t version);
  wire::hello own_now() {
    std::lock_guard guard{mutex_};
    return own_;
  }

  settings settings_;
  grpc::ResourceQuota memory_{"cluster"};
  const wire::post_function post_;
  wire::transport_events& events_;
  // the owner's thread
  std::map<link_id, entry> links_;
  wire::link_table table_;
  bool is_over_ = false;
  // any thread
  std::mutex mutex_;
  std::condition_variable gone_;
  wire::hello own_;
  std::set<stream_ref> streams_; // that gRPC has not done with
  bool is_stopping_ = false;
  std::atomic<link_id> last_{0};
  refusal_log refusals_;
  std::unique_ptr<join_desk> joins_;
  std::shared_ptr<grpc::experimental::FileWatcherCertificateProvider> certificates_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  waiting<accepted_call> next_link_{*this, &core::ask_for_link, &core::link};
  waiting<join_call> next_join_{*this, &core::ask_for_join, &core::join};
  grpc::ServerCompletionQueue* calls_ = nullptr; // the loop's
  std::unique_ptr<loop> loop_;
  std::unique_ptr<grpc::Server> server_;
  door door_; // first to be closed: uses the rest
};

base::result<void, std::string> node_service::core::start() {
  auto who = read_identity(settings_.files);
  if (!who)
    return base::fail(who.error());
  if (own_.node.empty())
    own_.node = who->node;
  if (own_.node != who->node)
    return base::fail(settings_.files.certificate + " is the certificate of the node " + who->node + ", not of " + own_.node);
  if (!settings_.listen.empty()) {
    if (auto ok = door_.listen(settings_.listen); !ok)
      return ok;
    auto& at = own_.address;
    if (at.empty())
      at = settings_.listen;
    if (at.ends_with(":0"))
      at = at.substr(0, at.size() - 1) + std::to_string(door_.port());
    if (settings_.join)
      joins_ = std::make_unique<join_desk>(settings_.join, [this](std::function<void()> job) { return door_.run(std::move(job)); },
                                           [this](const std::string& peer, bool is_known) { is_known ? door_.know(peer) : door_.refuse(peer); }, [this] { door_.wake(); });
    certificates_ = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(settings_.files.key, settings_.files.certificate, 1);
    grpc::experimental::TlsServerCredentialsOptions o{certificates_};
    o.watch_identity_key_cert_pairs();
    // gRPC asks, we judge: so that a node which is refused learns why, and one without a certificate may join
    o.set_cert_request_type(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
    grpc::ServerBuilder b;
    b.RegisterService(this);
    b.SetMaxReceiveMessageSize(static_cast<int>(settings_.limits.packet) + 65'536);
    b.SetMaxSendMessageSize(-1);
    b.SetResourceQuota(memory_);
    b.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 4);
    b.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(longest_metadata));
    b.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, static_cast<int>(settings_.limits.hello.count()));
    b.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 10'000); // known once, without a link since
    b.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
    b.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    b.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
    acceptor_ = b.experimental().AddExternalConnectionAcceptor(grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
                                                               grpc::experimental::TlsServerCredentials(o));
    auto queue = b.AddCompletionQueue();
    calls_ = queue.get();
    server_ = b.BuildAndStart();
    if (!server_) {
      queue->Shutdown();
      return base::fail(std::string{"gRPC does not start"});
    }
    loop_ = std::make_unique<loop>(std::move(queue));
    ask_for_link();
    ask_for_join();
  } else {
    loop_ = std::make_unique<loop>(std::make_unique<grpc::CompletionQueue>());
  }
  base::metrics::watch("covey_cluster_certificate_until_seconds", "When this node's certificate for the cluster ends", {}, [files = settings_.files] {
    auto now = read_identity(files);
    return now ? static_cast<double>(std::chrono::system_clock::to_time_t(now->ends)) : 0.0;
  });
  door_.start();
  return {};
}

void node_service::core::stop() {
  if (is_over_)
    return;
  is_over_ = true;
  {
    std::lock_guard guard{mutex_};
    is_stopping_ = true;
  }
  door_.close(); // no new connections, no new dials
  for (auto& [id, e] : links_) {
    if (e.is_connected)
      counters().links.add(-1);
    if (e.via)
      e.via->end({refusal_code::leaving, "the node stops"});
  }
  links_.clear();
  if (joins_)
    joins_->close();
  auto wait = [&](std::chrono::milliseconds limit) {
    std::unique_lock l{mutex_};
    return gone_.wait_for(l, limit, [&] { return streams_.empty(); });
  };
  if (!wait(std::chrono::milliseconds{300})) {
    std::set<stream_ref> left;
    {
      std::lock_guard guard{mutex_};
      left = streams_;
    }
    for (auto& s : left)
      s->abort();
    wait(std::chrono::seconds{10}); // gRPC ends what was cancelled
  }
  if (server_) {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  loop_ = nullptr;
  server_ = nullptr; // what the loop had left was its own
  acceptor_ = nullptr;
  certificates_ = nullptr; // has a thread of its own
}

// --- dialling

link_id node_service::core::dial(const std::string& address, const std::string& node) {
  auto id = ++last_;
  auto& e = links_[id];
  e.address = address;
  e.is_dialled = true;
  table_.add(id, true);
  bool is_begun = wire::is_node_address(address) && door_.run([this, id, address, node] { begin_dial(id, address, node); });
  if (!is_begun)
    post([id, address](core& c) { c.over(id, {close_cause::unreachable, {}, '"' + address + "\" cannot be dialled"}); });
  return id;
}

void node_service::core::begin_dial(link_id id, const std::string& address, const std::string& node) {
  auto who = read_identity(settings_.files);
  auto own = own_now();
  if (who && who->node != own.node)
    who = base::fail(settings_.files.certificate + " is not of this node any more");
  if (!who) {
    base::log::error("cluster.certificate_unusable", "this node's certificate cannot be used", {{"error", who.error()}});
    refusal why{refusal_code::wrong_certificate, who.error()};
    return post([id, why](core& c) { c.over(id, {close_cause::refused_here, why, why.text}); });
  }
  auto s = std::make_shared<dialled_stream>(shared_from_this(), id, true, settings_.limits, base::steady::now());
  s->prepare(*loop_, address, own, *who, node, channel_arguments(settings_.limits, memory_));
  if (!add(s))
    return;
  post([s](core& c) { // before anything comes; it may be aborted from here on
    if (auto i = c.links_.find(s->id()); i != c.links_.end())
      i->second.via = s;
    else
      s->abort(); // closed meanwhile
  });
  s->start();
}

void node_service::core::answered(const stream_ref& s, const wire::hello& peer, const std::string& bears) {
  auto i = links_.find(s->id());
  if (i == links_.end())
    return s->end({refusal_code::leaving, "not wanted any more"});
  i->second.peer = peer;
  auto own = own_now();
  auto version = check_hello(own, peer, bears);
  if (!version)
    return drop(s->id(), version.error().code == refusal_code::wrong_certificate ? close_cause::bad_certificate : close_cause::refused_here, version.error());
  if (auto verdict = events_.accept(peer); !verdict)
    return drop(s->id(), close_cause::refused_here, verdict.error());
  auto d = table_.on_hello(s->id(), own, peer);
  if (!d.stays)
    return drop(s->id(), close_cause::duplicate, {refusal_code::duplicate, "there is another link"});
  connect(s, d.go, *version);
}

/// The link is the only one to its node from here on.
void node_service::core::connect(const stream_ref& s, const std::vector<link_id>& go, std::uint32_t version) {
  for (auto id : go)
    drop(id, close_cause::duplicate, {refusal_code::duplicate, "there is another link"});
  auto i = links_.find(s->id());
  if (i == links_.end() || is_over_)
    return; // closed in one of the events
  auto& e = i->second;
  e.version = version;
  e.is_connected = true;
  if (e.is_dialled)
    s->say_ready();
  counters().links.add();
  base::log::info("cluster.linked", "a link to another node",
                  {{"node", e.peer.node}, {"address", e.peer.address}, {"version", std::to_string(version)}, {"dialled", e.is_dialled ? "here" : "there"}});
  auto peer = e.peer; // the event may end it
  events_.connected(s->id(), peer, version);
}

// --- accepting

void node_service::core::take(int fd) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters p;
  p.fd = fd;
  acceptor_->HandleNewConnection(&p);
}

base::result<wire::hello, refusal> node_service::core::read_hello(const grpc::ServerContext& context, std::uint32_t& version, std::string& node) {
  auto certificates = context.auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
  std::string chain = certificates.empty() ? std::string{} : std::string{certificates[0].data(), certificates[0].size()};
  auto bears = verify_peer(chain, chain.empty() ? std::vector<base::x509::certificate>{} : read_authorities(settings_.files.authority), false);
  if (!bears)
    return base::fail(bears.error());
  node = *bears;
  auto range = context.client_metadata().equal_range(hello_key);
  covey::link::hello in;
  if (range.first == range.second || range.first->second.size() > longest_hello
      || !in.ParseFromArray(range.first->second.data(), static_cast<int>(range.first->second.size())))
    return base::fail(refusal{refusal_code::malformed, "there is no hello"});
  auto peer = decode(in);
  auto checked = check_hello(own_now(), peer, *bears);
  if (!checked)
    return base::fail(checked.error());
  version = *checked;
  return peer;
}

void node_service::core::ask_for_link() {
  auto& c = *(next_link_.call = std::make_unique<accepted_call>());
  Requestlink(&c.context, &c.stream, calls_, calls_, &next_link_);
}

void node_service::core::ask_for_join() {
  auto& c = *(next_join_.call = std::make_unique<join_call>());
  Requestjoin(&c.context, &c.stream, calls_, calls_, &next_join_);
}

void node_service::core::link(std::unique_ptr<accepted_call> c) {
  std::uint32_t version = 0;
  std::string node, at = c->context.peer();
  auto peer = read_hello(c->context, version, node);
  if (!peer) {
    door_.refuse(at);
    refusals_.say(true, peer.error(), at, node);
    return refuse(std::move(c), status_of(peer.error()));
  }
  door_.know(at);
  auto s = std::make_shared<accepted_stream>(shared_from_this(), ++last_, settings_.limits, base::steady::now(), std::move(c));
  s->start(); // gRPC is done with it only then
  if (!add(s))
    return s->end({refusal_code::leaving, "the node stops"});
  post([s, p = std::move(*peer), version](core& c) { c.dialled(s, p, version); });
}

void node_service::core::dialled(const stream_ref& s, const wire::hello& peer, std::uint32_t version) {
  auto& e = links_[s->id()];
  e = {s, peer.address, peer, version, false, false};
  table_.add(s->id(), false);
  if (auto verdict = events_.accept(peer); !verdict)
    return drop(s->id(), close_cause::refused_here, verdict.error());
  table_.on_accept(s->id(), peer);
  s->say_hello(own_now());
}

void node_service::core::ready(const stream_ref& s) {
  auto i = links_.find(s->id());
  if (i != links_.end())
    connect(s, table_.on_ready(s->id()), i->second.version);
}

// --- both

void node_service::core::read(const stream_ref& s) {
  auto frames = s->take_frames();
  if (auto i = links_.find(s->id()); i != links_.end() && i->second.is_connected)
    events_.received(s->id(), std::move(frames));
}

void node_service::core::over(link_id id, const wire::closing& how) {
  auto i = links_.find(id);
  if (i == links_.end())
    return;
  auto e = std::move(i->second);
  links_.erase(i);
  table_.remove(id);
  if (how.cause == close_cause::refused || how.cause == close_cause::duplicate)
    refusals_.say(false, how.why, e.address, e.peer.node);
  else if (how.cause == close_cause::bad_certificate || how.cause == close_cause::protocol_error || how.cause == close_cause::overrun)
    refusals_.say(true, how.why, e.address, e.peer.node);
  tell_closed(id, e, how);
}

/// Where anybody knew of it.
void node_service::core::tell_closed(link_id id, const entry& e, const wire::closing& how) {
  if (e.is_connected) {
    counters().links.add(-1);
    base::log::info("cluster.link_lost", "a link to another node ended", {{"node", e.peer.node}, {"cause", to_text(how.cause)}, {"error", how.text}});
  }
  if (e.is_dialled || e.is_connected)
    events_.closed(id, how);
}

/// By us.
void node_service::core::drop(link_id id, close_cause cause, const refusal& why) {
  auto i = links_.find(id);
  if (i == links_.end())
    return;
  auto e = std::move(i->second);
  links_.erase(i);
  table_.remove(id);
  if (e.via)
    e.via->end(why);
  refusals_.say(true, why, e.address, e.peer.node);
  tell_closed(id, e, {cause, why, why.text});
}

bool node_service::core::add(const stream_ref& s) {
  {
    std::lock_guard guard{mutex_};
    if (is_stopping_)
      return false;
    streams_.insert(s);
  }
  door_.wake(); // for its deadlines
  return true;
}

void node_service::core::on_gone(const stream_ref& s) {
  std::lock_guard guard{mutex_};
  streams_.erase(s);
  if (streams_.empty())
    gone_.notify_all();
}

bool node_service::core::tick(base::time_point now) {
  std::vector<stream_ref> all;
  {
    std::lock_guard guard{mutex_};
    all.assign(streams_.begin(), streams_.end());
  }
  for (auto& s : all)
    s->check(now);
  bool has_joins = joins_ && joins_->tick(now);
  return has_joins || !all.empty();
}

void node_service::core::join(std::unique_ptr<join_call> c) {
  if (joins_)
    joins_->start(std::move(c));
  else
    refuse_join(std::move(c));
}

// ---

node_service::node_service(std::shared_ptr<core> c) : core_(std::move(c)) {}
node_service::~node_service() { core_->stop(); }

base::result<std::unique_ptr<node_service>, std::string> node_service::start(settings s, wire::post_function post, wire::transport_events& events) {
  prepare_grpc();
  std::unique_ptr<node_service> made{new node_service{std::make_shared<core>(std::move(s), std::move(post), events)}};
  if (auto ok = made->core_->start(); !ok)
    return base::fail(ok.error());
  return made;
}

std::uint16_t node_service::port() const { return core_->port(); }
const wire::hello& node_service::own() const { return core_->own(); }
link_id node_service::dial(const std::string& address, const std::string& node) { return core_->dial(address, node); }
wire::sent node_service::send(link_id link, std::string frame) { return core_->send(link, std::move(frame)); }
bool node_service::is_written(link_id link) { return core_->is_written(link); }
void node_service::close(link_id link, const refusal& why) { core_->drop(link, close_cause::refused_here, why); }
void node_service::set_hello(const wire::hello& own) { core_->set_hello(own); }
wire::worker* node_service::thread() { return &core_->thread(); }
void node_service::stop() { core_->stop(); }

} // namespace cluster::rpc
