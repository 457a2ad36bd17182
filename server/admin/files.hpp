// Files that go over the administration socket piece by piece, as fast as the other side takes them.
#pragma once
#include "actors/pool.hpp"
#include "base/result.hpp"
#include "proto/admin.grpc.pb.h"
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

/// Deletes itself when the call is over.
class file_sender final : public grpc::ServerWriteReactor<covey::admin::data_part> {
public:
  struct refusal { covey::admin::code how; std::string why; };
  /// `open` runs on the pool, and each piece is made there.
  static file_sender* start(actors::pool& jobs, std::function<base::result<file_source, refusal>()> open);
  void OnWriteDone(bool ok) override;
  void OnDone() override { delete this; }

private:
  explicit file_sender(actors::pool& jobs) : jobs_(jobs) {}
  void send_next();
  void end(covey::admin::code how, std::string why);
  actors::pool& jobs_;
  file_source from_;
  covey::admin::data_part part_;
  bool is_ended_ = false;
};

/// Reads a file of XEP-0227 into the server. Deletes itself when the call is over.
class import_receiver final : public grpc::ServerReadReactor<covey::admin::data_part> {
public:
  static import_receiver* start(actors::pool& jobs, runner& r, covey::admin::import_reply* out);
  ~import_receiver() override;
  void OnReadDone(bool ok) override;
  void OnDone() override { delete this; }

private:
  import_receiver(actors::pool& jobs, runner& r, covey::admin::import_reply* out);
  void take(bool is_end);
  struct impl;
  actors::pool& jobs_;
  covey::admin::import_reply* out_;
  covey::admin::data_part part_;
  std::unique_ptr<impl> impl_;
};

} // namespace server
