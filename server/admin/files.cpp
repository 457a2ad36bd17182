// gRPC's threads only pass on; the pool of the service reads and writes.
#include "server/admin/files.hpp"
#include "server/transfer/transfer.hpp"

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

struct import_receiver::impl {
  transfer::importer in;
};

import_receiver::import_receiver(actors::pool& jobs, runner& r, pb::import_reply* out)
  : jobs_(jobs), out_(out), impl_(new impl{transfer::importer{r}}) {}
import_receiver::~import_receiver() = default;

import_receiver* import_receiver::start(actors::pool& jobs, runner& r, pb::import_reply* out) {
  auto* s = new import_receiver{jobs, r, out};
  s->StartRead(&s->part_);
  return s;
}

void import_receiver::OnReadDone(bool ok) {
  if (!jobs_.run([this, ok] { take(!ok); }))
    Finish(grpc::Status::CANCELLED);
}

void import_receiver::take(bool is_end) {
  auto done = is_end ? impl_->in.end() : impl_->in.feed(part_.data());
  if (done && !is_end)
    return StartRead(&part_);
  auto& s = impl_->in.summary();
  auto add = [&](const transfer::mistake& m) {
    auto* o = out_->add_mistakes();
    o->set_line(m.line);
    o->set_text(m.text);
  };
  for (auto& m : s.mistakes)
    add(m);
  if (!done)
    add(done.error());
  out_->set_all_mistakes(s.all_mistakes + (done ? 0 : 1));
  out_->set_users(s.users);
  out_->set_existed(s.existed);
  out_->set_without_password(s.without_password);
  out_->set_only_sha1(s.only_sha1);
  out_->set_contacts(s.contacts);
  out_->set_messages(s.messages);
  for (auto& [kind, n] : s.skipped)
    (*out_->mutable_skipped())[kind] = n;
  answer(out_->mutable_result(), out_->all_mistakes() == 0 ? pb::code::ok : pb::code::failed, done ? "" : done.error().text);
  Finish(grpc::Status::OK);
}

} // namespace server
