// Files that go over the administration socket piece by piece, as fast as the other side takes them.
#pragma once
#include "actors/pool.hpp"
#include "base/result.hpp"
#include "cluster/rpc/operation.hpp"
#include "proto/admin.grpc.pb.h"
#include "server/admin/socket.hpp"
#include <functional>
#include <grpcpp/grpcpp.h>

namespace server {

class runner;

inline void answer(covey::admin::status* s, covey::admin::code code, std::string text) {
  s->set_result(code);
  s->set_text(std::move(text));
}

/// Where the pieces come from: an empty one is the end. It blocks.
struct file_source {
  std::function<base::result<std::string, std::string>()> next;
  std::uint64_t total = 0; // bytes; 0: not known
};

/// A call that is answered by a file. Deletes itself.
class file_sender final : public cluster::rpc::operation {
public:
  struct refusal { covey::admin::code how; std::string why; };
  using writer = grpc::ServerAsyncWriter<covey::admin::data_part>;
  struct method {
    /// Waits for the call: its question is kept until it comes.
    std::function<void(grpc::ServerContext* context, writer* to, void* tag)> ask;
    /// What the file is; it runs on the pool, and each piece is made there.
    std::function<base::result<file_source, refusal>()> open;
  };
  /// `next`: makes what the next call needs.
  static void wait(admin_socket& at, actors::pool& jobs, const std::function<method()>& next);
  void done(bool ok) override;

private:
  file_sender(admin_socket& at, actors::pool& jobs, std::function<method()> next) : at_(at), jobs_(jobs), next_(std::move(next)), what_(next_()) {}
  void begin();
  void send_next();
  void end(covey::admin::code how, std::string why);
  void finish(const grpc::Status& how);

  admin_socket& at_;
  actors::pool& jobs_;
  const std::function<method()> next_;
  const method what_;
  enum class stage { waits, sends, says_end, ends } stage_ = stage::waits;
  grpc::ServerContext context_;
  writer to_{&context_};
  file_source from_;
  covey::admin::data_part part_;
};

/// A call that brings a file of XEP-0227. Deletes itself.
class import_receiver final : public cluster::rpc::operation {
public:
  using reader = grpc::ServerAsyncReader<covey::admin::import_reply, covey::admin::data_part>;
  using method = std::function<void(grpc::ServerContext* context, reader* from, void* tag)>;
  static void wait(admin_socket& at, actors::pool& jobs, runner& r, const method& ask);
  ~import_receiver();
  void done(bool ok) override;

private:
  import_receiver(admin_socket& at, actors::pool& jobs, runner& r, method ask);
  void take(bool is_end);
  void cancel();

  struct impl;
  admin_socket& at_;
  actors::pool& jobs_;
  runner& runner_;
  const method ask_;
  enum class stage { waits, reads, ends } stage_ = stage::waits;
  grpc::ServerContext context_;
  reader from_{&context_};
  covey::admin::import_reply out_;
  covey::admin::data_part part_;
  std::unique_ptr<impl> impl_;
};

} // namespace server
