// The order of writes, the bounds, the ways to end.
#include "cluster/rpc/stream.hpp"
#include "cluster/rpc/counters.hpp"
#include <cassert>

namespace cluster::rpc {

using wire::close_cause;
using wire::refusal_code;

namespace {
constexpr auto grace = std::chrono::seconds{1};
/// What a frame costs beside its bytes: many empty ones must count, too.
constexpr std::size_t frame_cost = 16;
} // namespace

covey::link::hello encode(const wire::hello& h) {
  covey::link::hello out;
  out.set_cluster(h.cluster);
  out.set_node(h.node);
  out.set_incarnation(h.incarnation);
  out.set_address(h.address);
  out.set_version_min(h.version_min);
  out.set_version_max(h.version_max);
  return out;
}
wire::hello decode(const covey::link::hello& h) {
  return {h.cluster(), h.node(), h.incarnation(), h.address(), h.version_min(), h.version_max()};
}
covey::link::refusal encode(const wire::refusal& r) {
  covey::link::refusal out;
  out.set_code(static_cast<std::uint32_t>(r.code));
  out.set_text(r.text.substr(0, 500));
  return out;
}
wire::refusal decode(const covey::link::refusal& r) {
  bool is_known = r.code() >= 1 && r.code() <= static_cast<std::uint32_t>(refusal_code::leaving);
  return {is_known ? static_cast<refusal_code>(r.code()) : refusal_code::unwelcome, r.text().substr(0, 500)};
}

stream::stream(std::shared_ptr<stream_owner> owner, wire::link_id id, bool is_dialled, const wire::transport_limits& limits, base::time_point now)
  : owner_(std::move(owner)), id_(id), is_dialled_(is_dialled), limits_(limits), began_(now), last_read_(now) {}

stream::~stream() { counters().queued.add(-static_cast<std::int64_t>(queued_)); }

void stream::say_hello(const wire::hello& own) {
  lock l{mutex_};
  hello_ = own;
  pump(l);
}

void stream::say_ready() {
  lock l{mutex_};
  has_ready_ = is_connected_ = true;
  pump(l);
}

wire::sent stream::send(std::string frame) {
  if (frame.size() > limits_.packet)
    return wire::sent::too_large;
  auto cost = frame.size() + frame_cost;
  lock l{mutex_};
  if (!is_connected_ || ending_ || is_broken_)
    return wire::sent::gone;
  if (queued_ > 0 && queued_ + cost > limits_.queue)
    return wire::sent::full;
  queued_ += cost;
  counters().queued.add(static_cast<std::int64_t>(cost));
  frames_.push_back(std::move(frame));
  pump(l);
  return wire::sent::ok;
}

/// Whether there is something to write: then it is in out_.
bool stream::fill() {
  out_.Clear();
  bool is_any = false;
  if (hello_) {
    *out_.mutable_hello() = encode(*hello_);
    hello_.reset();
    is_any = true;
  }
  if (has_ready_) {
    out_.set_ready(true);
    has_ready_ = false;
    is_any = true;
  }
  std::size_t bytes = 0, cost = 0;
  while (next_ < frames_.size() && (bytes == 0 || cost + frames_[next_].size() + frame_cost <= limits_.packet)) {
    bytes += frames_[next_].size();
    cost += frames_[next_].size() + frame_cost;
    *out_.add_frames() = std::move(frames_[next_++]);
    is_any = true;
  }
  if (next_ == frames_.size()) {
    frames_.clear();
    next_ = 0;
  }
  queued_ -= cost;
  auto& c = counters();
  c.queued.add(-static_cast<std::int64_t>(cost));
  c.bytes_sent.add(bytes);
  if (ending_ && is_ours_ && is_dialled_ && !has_said_why_ && frames_.empty()) { // the acceptor says it by the status
    *out_.mutable_refusal() = encode(*ending_);
    has_said_why_ = is_any = true;
  }
  c.packets_sent.add(is_any ? 1 : 0);
  return is_any;
}

/// Starts a write or the end, if it is time for either. The lock is open then.
void stream::pump(lock& l) {
  if (is_writing_ || is_finished_)
    return;
  if (!is_broken_ && fill()) {
    is_writing_ = true;
    l.unlock();
    return start_write(out_);
  }
  if (!ending_)
    return;
  is_finished_ = true;
  auto why = *ending_;
  bool is_ours = is_ours_;
  l.unlock();
  finish(is_ours ? &why : nullptr);
}

void stream::on_write_done(bool ok) {
  lock l{mutex_};
  is_writing_ = false;
  is_broken_ |= !ok; // the read fails, too, and reports
  bool is_all = ok && is_written_asked_ && frames_.empty();
  pump(l);
  if (is_all)
    owner_->on_written(shared_from_this());
}

void stream::end_for(lock& l, const wire::refusal& why, bool is_ours) {
  if (!ending_) {
    ending_ = why;
    is_ours_ = is_ours;
    ending_since_ = base::steady::now();
  }
  pump(l);
}

void stream::end(const wire::refusal& why) {
  lock l{mutex_};
  end_for(l, why, true);
}

void stream::abort() {
  {
    lock l{mutex_};
    is_broken_ = is_aborted_ = true;
    end_for(l, {refusal_code::leaving, {}}, false);
  }
  cancel();
}

/// It did what it may not.
void stream::fail(const wire::closing& how) {
  report(how);
  end(how.why);
}

void stream::on_read(packet& p) {
  counters().packets_received.add();
  std::optional<wire::closing> wrong;
  bool is_first_frame = false, is_ready = false;
  std::optional<wire::hello> hello;
  {
    lock l{mutex_};
    last_read_ = base::steady::now();
    auto malformed = [&](const char* text) {
      wrong = wire::closing{close_cause::protocol_error, {refusal_code::malformed, text}, text};
    };
    if (p.has_refusal())
      peer_refusal_ = decode(p.refusal());
    if (is_dialled_ ? p.has_hello() : p.ready()) {
      if (has_begun_)
        malformed("a second beginning");
      has_begun_ = true;
      if (is_dialled_)
        hello = decode(p.hello());
      else
        is_ready = is_connected_ = true;
    } else if (!has_begun_ && !p.has_refusal()) {
      malformed("the first packet is no hello");
    }
    if (p.frames_size() > 0 && !wrong) {
      if (!is_connected_) {
        malformed("frames before the link");
      } else if (!ending_) { // else nobody wants them
        is_first_frame = inbox_.empty();
        std::size_t bytes = 0;
        for (auto& f : *p.mutable_frames()) {
          bytes += f.size();
          inbox_bytes_ += f.size() + frame_cost;
          inbox_.push_back(std::move(f));
        }
        counters().bytes_received.add(bytes);
        if (inbox_bytes_ > limits_.inbox)
          wrong = wire::closing{close_cause::overrun, {refusal_code::malformed, "too many frames that were not handled"}, {}};
      }
    }
    if (p.has_refusal()) // the last packet
      end_for(l, {refusal_code::leaving, {}}, false);
  }
  auto self = shared_from_this();
  if (wrong)
    return fail(*wrong);
  if (hello)
    owner_->on_hello(self, std::move(*hello), bears());
  if (is_ready)
    owner_->on_ready(self);
  if (is_first_frame)
    owner_->on_frames(self);
}

bool stream::is_written() {
  lock l{mutex_};
  if (is_written_asked_ || is_writing_ || !frames_.empty()) {
    is_written_asked_ = true;
    return false;
  }
  return true;
}

void stream::hear_written() {
  lock l{mutex_};
  is_written_asked_ = false;
}

std::vector<std::string> stream::take_frames() {
  lock l{mutex_};
  inbox_bytes_ = 0;
  return std::exchange(inbox_, {});
}

std::optional<wire::refusal> stream::refused_by_peer() {
  lock l{mutex_};
  return peer_refusal_;
}

void stream::on_read_failed() {
  lock l{mutex_};
  is_broken_ = true;
  end_for(l, {refusal_code::leaving, {}}, false);
}

void stream::report(wire::closing how) {
  {
    lock l{mutex_};
    if (std::exchange(is_reported_, true))
      return;
  }
  owner_->on_over(shared_from_this(), how);
}

void stream::check(base::time_point now) {
  std::optional<wire::closing> late;
  bool is_forced = false;
  {
    lock l{mutex_};
    if (ending_)
      is_forced = !is_aborted_ && now - ending_since_ > grace;
    else if (!is_connected_ && now - began_ > limits_.hello)
      late = wire::closing{close_cause::timeout, {refusal_code::malformed, "no link in time"}, "no answer in time"};
    else if (is_connected_ && now - last_read_ > limits_.idle)
      late = wire::closing{close_cause::idle, {refusal_code::leaving, "nothing came for too long"}, "nothing came for too long"};
  }
  if (late)
    fail(*late);
  if (is_forced)
    abort();
}

} // namespace cluster::rpc
