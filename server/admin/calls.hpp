// How a method of the administration service is served: one call waits, the next one when that has come.
#pragma once
#include "cluster/rpc/operation.hpp"
#include "proto/admin.grpc.pb.h"
#include "server/admin/socket.hpp"
#include <functional>
#include <grpcpp/grpcpp.h>
#include <type_traits>

namespace server {

/// One question, one answer. Deletes itself.
template <class Base, class In, class Out>
class unary_call final : public cluster::rpc::operation {
public:
  using method = void (Base::*)(grpc::ServerContext*, In*, grpc::ServerAsyncResponseWriter<Out>*, grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*);
  /// `end` sends the answer: once, on any thread.
  using handler = std::function<void(const In& in, Out& out, std::function<void()> end)>;

  static void wait(admin_socket& at, Base& service, method ask, handler h) {
    auto* c = new unary_call{at, service, ask, std::move(h)};
    (service.*ask)(&c->context_, &c->in_, &c->out_to_, &at.queue(), &at.queue(), c);
  }
  void done(bool ok) override {
    if (is_taken_)
      at_.end_call();
    if (is_taken_ || !ok) // it has been answered, or the server ends
      return delete this;
    is_taken_ = true;
    at_.begin_call();
    wait(at_, service_, ask_, handler_);
    handler_(in_, out_, [this] { out_to_.Finish(out_, grpc::Status::OK, this); });
  }

private:
  unary_call(admin_socket& at, Base& service, method ask, handler h) : at_(at), service_(service), ask_(ask), handler_(std::move(h)) {}
  admin_socket& at_;
  Base& service_;
  const method ask_;
  const handler handler_;
  grpc::ServerContext context_;
  grpc::ServerAsyncResponseWriter<Out> out_to_{&context_};
  In in_;
  Out out_;
  bool is_taken_ = false;
};

template <class Base, class In, class Out>
void serve(admin_socket& at, std::type_identity_t<Base>& service,
           void (Base::*ask)(grpc::ServerContext*, In*, grpc::ServerAsyncResponseWriter<Out>*, grpc::CompletionQueue*, grpc::ServerCompletionQueue*, void*),
           typename unary_call<Base, In, Out>::handler h) {
  unary_call<Base, In, Out>::wait(at, service, ask, std::move(h));
}

} // namespace server
