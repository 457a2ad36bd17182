// The socket's thread only passes on; the pool of the service reads and writes.
#include "server/admin/files.hpp"
#include "server/transfer/transfer.hpp"

namespace server {

namespace pb = covey::admin;

void file_sender::wait(admin_socket& at, actors::pool& jobs, const std::function<method()>& next) {
  auto* c = new file_sender{at, jobs, next};
  c->what_.ask(&c->context_, &c->to_, c);
}

void file_sender::done(bool ok) {
  switch (stage_) {
    case stage::waits:
      if (!ok)
        return delete this; // the server ends
      at_.begin_call();
      wait(at_, jobs_, next_);
      stage_ = stage::sends;
      if (!jobs_.run([this] { begin(); }))
        end(pb::code::failed, "the server is busy: try again");
      return;
    case stage::sends:
      if (!ok || !jobs_.run([this] { send_next(); }))
        finish(grpc::Status::CANCELLED);
      return;
    case stage::says_end: return finish(ok ? grpc::Status::OK : grpc::Status::CANCELLED);
    case stage::ends: at_.end_call(); return delete this;
  }
}

void file_sender::begin() {
  auto source = what_.open();
  if (!source)
    return end(source.error().how, source.error().why);
  from_ = std::move(*source);
  part_.set_total(from_.total);
  send_next();
}

void file_sender::send_next() {
  auto data = from_.next();
  if (!data || data->empty())
    return end(data ? pb::code::ok : pb::code::failed, data ? "" : data.error());
  part_.set_data(std::move(*data));
  to_.Write(part_, this);
}

void file_sender::end(pb::code how, std::string why) {
  stage_ = stage::says_end;
  from_ = {}; // what it kept is gone before the other side is told that all is done
  part_.clear_data();
  answer(part_.mutable_result(), how, std::move(why));
  to_.Write(part_, this);
}

void file_sender::finish(const grpc::Status& how) {
  stage_ = stage::ends;
  to_.Finish(how, this);
}

struct import_receiver::impl {
  transfer::importer in;
};

import_receiver::import_receiver(admin_socket& at, actors::pool& jobs, runner& r, method ask)
  : at_(at), jobs_(jobs), runner_(r), ask_(std::move(ask)) {}
import_receiver::~import_receiver() = default;

void import_receiver::wait(admin_socket& at, actors::pool& jobs, runner& r, const method& ask) {
  auto* c = new import_receiver{at, jobs, r, ask};
  ask(&c->context_, &c->from_, c);
}

void import_receiver::done(bool ok) {
  switch (stage_) {
    case stage::waits:
      if (!ok)
        return delete this; // the server ends
      at_.begin_call();
      wait(at_, jobs_, runner_, ask_);
      impl_.reset(new impl{transfer::importer{runner_}});
      stage_ = stage::reads;
      return from_.Read(&part_, this);
    case stage::reads:
      if (!jobs_.run([this, ok] { take(!ok); }))
        cancel();
      return;
    case stage::ends: at_.end_call(); return delete this;
  }
}

void import_receiver::cancel() {
  stage_ = stage::ends;
  from_.FinishWithError(grpc::Status::CANCELLED, this);
}

void import_receiver::take(bool is_end) {
  auto done = is_end ? impl_->in.end() : impl_->in.feed(part_.data());
  if (done && !is_end)
    return from_.Read(&part_, this);
  auto& s = impl_->in.summary();
  auto add = [&](const transfer::mistake& m) {
    auto* o = out_.add_mistakes();
    o->set_line(m.line);
    o->set_text(m.text);
  };
  for (auto& m : s.mistakes)
    add(m);
  if (!done)
    add(done.error());
  out_.set_all_mistakes(s.all_mistakes + (done ? 0 : 1));
  out_.set_users(s.users);
  out_.set_existed(s.existed);
  out_.set_without_password(s.without_password);
  out_.set_only_sha1(s.only_sha1);
  out_.set_contacts(s.contacts);
  out_.set_messages(s.messages);
  for (auto& [kind, n] : s.skipped)
    (*out_.mutable_skipped())[kind] = n;
  answer(out_.mutable_result(), out_.all_mistakes() == 0 ? pb::code::ok : pb::code::failed, done ? "" : done.error().text);
  stage_ = stage::ends;
  from_.Finish(out_, grpc::Status::OK, this);
}

} // namespace server
