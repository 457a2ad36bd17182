// The operations of a call: they pass on. Credentials and channels of those who dial.
#include "cluster/rpc/grpc_streams.hpp"
#include "base/network.hpp"
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

namespace cluster::rpc {

using wire::close_cause;
using wire::refusal_code;

namespace {
class verifier final : public grpc::experimental::ExternalCertificateVerifier {
public:
  explicit verifier(std::shared_ptr<peer_check> check) : check_(std::move(check)) {}

  /// Answers at once: true.
  bool Verify(grpc::experimental::TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>, grpc::Status* now) override {
    auto chain = request->peer_cert_full_chain();
    if (chain.empty())
      chain = request->peer_cert();
    auto node = check_->verify({chain.data(), chain.size()});
    std::lock_guard guard{check_->mutex};
    if (node) {
      check_->bears = *node;
      check_->refused.reset();
      *now = grpc::Status::OK;
    } else {
      check_->refused = node.error();
      *now = grpc::Status{grpc::StatusCode::UNAUTHENTICATED, node.error().text};
    }
    return true;
  }
  void Cancel(grpc::experimental::TlsCustomVerificationCheckRequest*) override {}

private:
  const std::shared_ptr<peer_check> check_;
};

wire::closing closing_of(const wire::refusal& why) {
  return {why.code == refusal_code::duplicate ? close_cause::duplicate : close_cause::refused, why, why.text};
}
} // namespace

std::string target_of(const std::string& address) {
  auto colon = address.rfind(':');
  auto host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[')
    return "ipv6:" + address;
  auto n = base::parse_network(host);
  return n && n->is_v4() && host.find('/') == host.npos ? "ipv4:" + address : "dns:///" + address;
}

grpc::ChannelArguments channel_arguments(const wire::transport_limits& limits, const grpc::ResourceQuota& memory) {
  grpc::ChannelArguments a;
  a.SetMaxReceiveMessageSize(static_cast<int>(limits.packet) + 65'536);
  a.SetMaxSendMessageSize(-1);
  a.SetResourceQuota(memory);
  a.SetInt(GRPC_ARG_MAX_METADATA_SIZE, static_cast<int>(longest_metadata));
  a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // one connection per dial, with the certificate of that moment
  a.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  a.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  a.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  a.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(limits.hello.count())); // how long a connect may take
  // heartbeats of the layer above see silence first; this ends connections whose machine is gone (TCP_USER_TIMEOUT)
  a.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  a.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  a.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0); // any number
  return a;
}

std::shared_ptr<grpc::ChannelCredentials> credentials_for(const std::string& certificate, const std::string& key, std::shared_ptr<peer_check> check) {
  grpc::experimental::TlsChannelCredentialsOptions o;
  if (!certificate.empty()) {
    std::vector<grpc::experimental::IdentityKeyCertPair> own{{key, certificate}};
    o.set_certificate_provider(std::make_shared<grpc::experimental::StaticDataCertificateProvider>(own));
    o.watch_identity_key_cert_pairs();
  }
  o.set_verify_server_certs(false); // by gRPC: the verifier does, by the same function as the other side
  o.set_check_call_host(false);
  o.set_certificate_verifier(grpc::experimental::ExternalCertificateVerifier::Create<verifier>(std::move(check)));
  return grpc::experimental::TlsCredentials(o);
}

grpc::Status status_of(const wire::refusal& why) {
  return {grpc::StatusCode::ABORTED, std::string{to_text(why.code)}, encode(why).SerializeAsString()};
}

void call_stream::begin_call() { self_ = shared_from_this(); }

/// The last is that of the end, or one that was begun before it.
void call_stream::end_operation() {
  if (--under_way_ > 0)
    return;
  auto self = std::move(self_);
  owner()->on_gone(self);
}

void call_stream::on_written(bool ok) {
  on_write_done(ok);
  end_operation();
}

void dialled_stream::prepare(loop& at, const std::string& address, const wire::hello& own, const identity& who, const std::string& node,
                             const grpc::ChannelArguments& arguments) {
  check_->verify = [authorities = who.authorities, node](const std::string& chain) -> base::result<std::string, wire::refusal> {
    auto found = verify_peer(chain, authorities, true);
    if (found && !node.empty() && *found != node)
      return base::fail(wire::refusal{refusal_code::wrong_certificate, '"' + node + "\" was dialled, the certificate there is of \"" + *found + '"'});
    return found;
  };
  stub_ = covey::link::node::NewStub(grpc::CreateCustomChannel(target_of(address), credentials_for(who.certificate, who.key, check_), arguments));
  context_.AddMetadata(hello_key, encode(own).SerializeAsString());
  stream_ = stub_->PrepareAsynclink(&context_, &at.queue());
}

void dialled_stream::start() {
  begin_call();
  begin_operation();
  stream_->StartCall(&started_);
}

void dialled_stream::read() {
  begin_operation();
  stream_->Read(&in_, &read_);
}

std::string dialled_stream::bears() const {
  std::lock_guard guard{check_->mutex};
  return check_->bears;
}

void dialled_stream::on_started(bool ok) {
  on_write_done(ok);
  if (ok) {
    read();
  } else {
    on_read_failed();
    end_half();
  }
  end_operation();
}

void dialled_stream::on_packet(bool ok) {
  if (ok) {
    has_read_ = true;
    on_read(in_);
    read();
  } else {
    on_read_failed();
    end_half();
  }
  end_operation();
}

void dialled_stream::start_write(const packet& p) {
  begin_operation();
  stream_->Write(p, &written_);
}

void dialled_stream::finish(const wire::refusal* ours) {
  if (ours) {
    begin_operation();
    stream_->WritesDone(&all_written_);
  }
  end_half();
}

/// How it ended is asked for when nothing is read or written any more.
void dialled_stream::end_half() {
  if (--open_halves_ > 0)
    return;
  begin_operation();
  stream_->Finish(&status_, &finished_);
}

void dialled_stream::on_status(bool) {
  wire::closing how{close_cause::reset, {}, status_.error_message()};
  std::optional<wire::refusal> bad;
  {
    std::lock_guard guard{check_->mutex};
    bad = check_->refused;
  }
  covey::link::refusal said;
  if (status_.error_code() == grpc::StatusCode::ABORTED && said.ParseFromString(status_.error_details()) && said.code() != 0)
    how = closing_of(decode(said));
  else if (auto why = refused_by_peer())
    how = closing_of(*why);
  else if (bad)
    how = {close_cause::bad_certificate, *bad, bad->text};
  else if (status_.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) // larger than we take
    how.cause = close_cause::protocol_error;
  else if (!has_read_)
    how.cause = status_.error_message().find("Connection refused") != std::string::npos ? close_cause::connection_refused : close_cause::unreachable;
  report(std::move(how));
  end_operation();
}

void accepted_stream::start() {
  begin_call();
  read();
}

void accepted_stream::read() {
  begin_operation();
  call_->stream.Read(&in_, &read_);
}

void accepted_stream::on_packet(bool ok) {
  if (ok) {
    on_read(in_);
    read();
  } else {
    if (auto why = refused_by_peer())
      report(closing_of(*why));
    else
      report({close_cause::reset, {}, "the connection ended"});
    on_read_failed();
  }
  end_operation();
}

void accepted_stream::start_write(const packet& p) {
  begin_operation();
  call_->stream.Write(p, &written_);
}

void accepted_stream::finish(const wire::refusal* ours) {
  begin_operation();
  call_->stream.Finish(ours ? status_of(*ours) : grpc::Status::OK, &finished_);
}

} // namespace cluster::rpc
