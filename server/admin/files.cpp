// gRPC's threads only pass on; the pool of the service reads and writes.
#include "server/admin/files.hpp"

namespace server {

namespace pb = covey::admin;

file_sender* file_sender::start(actors::pool& jobs, std::function<base::result<file_source, refusal>()> open) {
  auto* s = new file_sender{jobs};
  auto begin = [s, open = std::move(open)] {
    auto source = open();
    if (!source)
      return s->end(source.error().how, source.error().why);
    s->from_ = std::move(*source);
    s->part_.set_total(s->from_.total);
    s->send_next();
  };
  if (!jobs.run(std::move(begin)))
    s->end(pb::code::failed, "the server is busy: try again");
  return s;
}

void file_sender::OnWriteDone(bool ok) {
  if (!ok || is_ended_)
    return Finish(ok ? grpc::Status::OK : grpc::Status::CANCELLED);
  if (!jobs_.run([this] { send_next(); }))
    Finish(grpc::Status::CANCELLED);
}

void file_sender::send_next() {
  auto data = from_.next();
  if (!data || data->empty())
    return end(data ? pb::code::ok : pb::code::failed, data ? "" : data.error());
  part_.set_data(std::move(*data));
  StartWrite(&part_);
}

void file_sender::end(pb::code how, std::string why) {
  is_ended_ = true;
  from_ = {}; // what it kept is gone before the other side is told that all is done
  part_.clear_data();
  answer(part_.mutable_result(), how, std::move(why));
  StartWrite(&part_);
}

} // namespace server
