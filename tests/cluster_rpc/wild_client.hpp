// A client that speaks the protocol and does with it what no node would.
#pragma once
#include "cluster/rpc/grpc_streams.hpp"
#include "tests/cluster_rpc/nodes.hpp"
#include <fstream>
#include <future>

namespace rpc_tests {

class wild_client {
public:
  wild_client(const std::string& address, const std::string& chain, const std::string& key) {
    auto any = std::make_shared<rpc::peer_check>();
    any->verify = [](const std::string&) -> base::result<std::string, wire::refusal> { return std::string{"any"}; };
    grpc::ChannelArguments a;
    a.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    a.SetMaxReceiveMessageSize(-1);
    stub_ = covey::link::node::NewStub(grpc::CreateCustomChannel(rpc::target_of(address), rpc::credentials_for(chain, key, any), a));
    context_.set_deadline(std::chrono::system_clock::now() + 5s);
  }
  ~wild_client() {
    context_.TryCancel();
    if (call_ && !is_over_)
      (void)end();
  }
  /// With this as its hello; empty: none.
  wire::refusal say(const std::string& bytes) {
    begin(bytes);
    covey::link::packet p;
    while (call_->Read(&p)) {}
    return end();
  }
  wire::refusal say_hello(const wire::hello& own) { return say(rpc::encode(own).SerializeAsString()); }
  bool link(const wire::hello& own, home& h) {
    return answered(own, h) && write_ready() && (h.run_for(50ms), true);
  }
  /// One frame of this size, then how the call ends.
  wire::refusal frames(std::size_t size) {
    covey::link::packet p;
    p.add_frames(std::string(size, 'x'));
    call_->Write(p);
    while (call_->Read(&p)) {}
    return end();
  }
  wire::refusal frames_first(const wire::hello& own, home& h) {
    covey::link::packet p;
    p.add_frames("x");
    if (answered(own, h))
      call_->Write(p);
    return rest(h);
  }
  wire::refusal ready_again(home& h) {
    write_ready();
    return rest(h);
  }
  wire::refusal wait_after_hello(const wire::hello& own, home& h) {
    (void)answered(own, h);
    return rest(h);
  }
  /// One message without a good hello, in a call that the node has refused. Bytes that the node's machine took of it.
  std::size_t flood(std::size_t size) {
    auto before = written();
    begin({});
    covey::link::packet p;
    p.add_frames(std::string(size, 'x'));
    call_->Write(p);
    (void)end();
    return written() - before;
  }

private:
  /// Bytes that this process has written, sockets included.
  static std::size_t written() {
    std::ifstream in{"/proc/self/io"};
    for (std::string name; in >> name;) {
      std::size_t n = 0;
      in >> n;
      if (name == "wchar:")
        return n;
    }
    return 0;
  }
  void begin(const std::string& hello) {
    if (!hello.empty())
      context_.AddMetadata(rpc::hello_key, hello);
    call_ = stub_->link(&context_);
  }
  bool write_ready() {
    covey::link::packet p;
    p.set_ready(true);
    return call_->Write(p);
  }
  /// While the home thread works, as the node's answer comes from there.
  template <class F>
  auto beside(home& h, F f) {
    auto done = std::async(std::launch::async, f);
    (void)h.until([&] { return done.wait_for(0s) == std::future_status::ready; });
    return done.get();
  }
  bool answered(const wire::hello& own, home& h) {
    begin(rpc::encode(own).SerializeAsString());
    return beside(h, [this] {
      covey::link::packet p;
      return call_->Read(&p) && p.has_hello();
    });
  }
  wire::refusal rest(home& h) {
    return beside(h, [this] {
      covey::link::packet p;
      while (call_->Read(&p)) {}
      return end();
    });
  }
  wire::refusal end() {
    is_over_ = true;
    auto s = call_->Finish();
    covey::link::refusal r;
    if (s.error_code() != grpc::StatusCode::ABORTED || !r.ParseFromString(s.error_details()))
      return {wire::refusal_code{}, s.error_message()};
    return rpc::decode(r);
  }
  std::unique_ptr<covey::link::node::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<covey::link::packet, covey::link::packet>> call_;
  bool is_over_ = false;
};

} // namespace rpc_tests
