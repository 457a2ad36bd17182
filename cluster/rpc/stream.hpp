// One link's stream, apart from what of it is gRPC's: what waits to be written, what was read, and how it ends.
#pragma once
#include "base/clock.hpp"
#include "cluster/transport.hpp"
#include "proto/cluster_link.pb.h"
#include <memory>
#include <mutex>
#include <optional>

namespace cluster::rpc {

class stream;
using stream_ref = std::shared_ptr<stream>;

/// Called on the loop's thread: it only passes on.
class stream_owner {
public:
  virtual ~stream_owner() = default;
  /// Dialled: the acceptor's hello, not checked, and the name that its certificate bears.
  virtual void on_hello(const stream_ref& s, wire::hello peer, std::string bears) = 0;
  /// Accepted: the dialler takes this link.
  virtual void on_ready(const stream_ref& s) = 0;
  /// Frames were read where there were none: take_frames() has them, and what comes meanwhile.
  virtual void on_frames(const stream_ref& s) = 0;
  /// Frames were written, and none waits; to whoever asked.
  virtual void on_written(const stream_ref& s) = 0;
  /// Once: nothing comes any more.
  virtual void on_over(const stream_ref& s, const wire::closing& how) = 0;
  /// gRPC is done with it.
  virtual void on_gone(const stream_ref& s) = 0;
};

/// One write is in flight; what is sent meanwhile goes in the next one. It is always read. Any thread.
class stream : public std::enable_shared_from_this<stream> {
public:
  stream(std::shared_ptr<stream_owner> owner, wire::link_id id, bool is_dialled, const wire::transport_limits& limits, base::time_point now);
  stream(const stream&) = delete;
  virtual ~stream();

  [[nodiscard]] wire::link_id id() const { return id_; }
  [[nodiscard]] bool is_dialled() const { return is_dialled_; }
  /// Accepted: our hello, as the answer.
  void say_hello(const wire::hello& own);
  /// Dialled: we take this link. Frames may be sent on both sides from here on; where it was accepted, from on_ready().
  void say_ready();
  [[nodiscard]] wire::sent send(std::string frame);
  /// Nothing waits or is in flight. Else on_written follows, up to which this stays false: then hear_written() is to be called.
  [[nodiscard]] bool is_written();
  void hear_written();
  [[nodiscard]] std::vector<std::string> take_frames();
  /// Writes what waits, then `why`, then ends; by force after a second.
  void end(const wire::refusal& why);
  /// Ends it by force.
  void abort();
  /// Deadlines.
  void check(base::time_point now);

protected:
  using packet = covey::link::packet;
  // for the two ends of gRPC's streams
  virtual void start_write(const packet& p) = 0;
  /// Nothing is in flight, and nothing will be written any more. `ours`: tell the other end; null: it knows.
  virtual void finish(const wire::refusal* ours) = 0;
  virtual void cancel() = 0;
  /// The name in the acceptor's certificate, which was verified.
  [[nodiscard]] virtual std::string bears() const { return {}; }
  void on_read(packet& p);
  void on_read_failed();
  void on_write_done(bool ok);
  void report(wire::closing how);
  /// What the other end refused us for, if it did.
  [[nodiscard]] std::optional<wire::refusal> refused_by_peer();
  [[nodiscard]] const std::shared_ptr<stream_owner>& owner() const { return owner_; }

private:
  using lock = std::unique_lock<std::mutex>;
  void pump(lock& l);
  bool fill();
  void end_for(lock& l, const wire::refusal& why, bool is_ours);
  void fail(const wire::closing& how);

  const std::shared_ptr<stream_owner> owner_;
  const wire::link_id id_;
  const bool is_dialled_;
  const wire::transport_limits limits_;
  const base::time_point began_;

  std::mutex mutex_; // of all below but out_, which belongs to whoever set is_writing_
  packet out_;
  std::optional<wire::hello> hello_; // to be written
  bool has_ready_ = false;           // to be written
  std::vector<std::string> frames_;  // to be written, from next_ on
  std::size_t next_ = 0, queued_ = 0;
  std::optional<wire::refusal> ending_;
  bool is_ours_ = false, has_said_why_ = false;
  bool is_written_asked_ = false;
  bool is_writing_ = is_dialled_; // the beginning of a call is its first write
  bool is_broken_ = false, is_finished_ = false, is_reported_ = false, is_aborted_ = false;
  bool has_begun_ = false;     // the other end's first packet came
  bool is_connected_ = false;  // frames may come and go
  base::time_point last_read_, ending_since_;
  std::vector<std::string> inbox_;
  std::size_t inbox_bytes_ = 0;
  std::optional<wire::refusal> peer_refusal_;
};

[[nodiscard]] covey::link::hello encode(const wire::hello& h);
[[nodiscard]] wire::hello decode(const covey::link::hello& h);
[[nodiscard]] covey::link::refusal encode(const wire::refusal& r);
/// A reason of a newer version is `unwelcome`; the text is cut to 500 bytes.
[[nodiscard]] wire::refusal decode(const covey::link::refusal& r);

} // namespace cluster::rpc
