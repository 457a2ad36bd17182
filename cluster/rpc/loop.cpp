#include "cluster/rpc/loop.hpp"
#include "base/thread_name.hpp"
#include <algorithm>

namespace cluster::rpc {

namespace {
constexpr int most_events = 64; // before a round
constexpr std::chrono::nanoseconds longest_wait = std::chrono::seconds{60};

/// gRPC waits for whole milliseconds, rounded up.
gpr_timespec in(std::chrono::nanoseconds t) {
  return t.count() <= 0 ? gpr_inf_past(GPR_CLOCK_MONOTONIC) : gpr_time_from_nanos(t.count(), GPR_TIMESPAN);
}
} // namespace

loop::loop(std::unique_ptr<grpc::CompletionQueue> queue) : queue_(std::move(queue)), thread_([this] { run(); }) {}

loop::~loop() {
  {
    std::lock_guard guard{wake_mutex_};
    is_over_ = true;
  }
  queue_->Shutdown();
  thread_.join();
}

void loop::run() {
  base::name_thread("covey-peers");
  auto wait = longest_wait;
  for (;;) {
    void* tag = nullptr;
    bool ok = false;
    auto next = [&](std::chrono::nanoseconds at_most) { return queue_->AsyncNext(&tag, &ok, in(at_most)); };
    auto how = next(std::min(wait, longest_wait));
    for (int n = 1; how == grpc::CompletionQueue::GOT_EVENT; ++n) {
      static_cast<operation*>(tag)->done(ok);
      if (n == most_events)
        break;
      how = next({});
    }
    if (how == grpc::CompletionQueue::SHUTDOWN)
      return;
    wait = do_round();
  }
}

std::chrono::nanoseconds loop::do_round() {
  std::lock_guard guard{round_mutex_};
  return round_ ? round_() : longest_wait;
}

void loop::start(std::function<std::chrono::nanoseconds()> round) {
  {
    std::lock_guard guard{round_mutex_};
    round_ = std::move(round);
  }
  wake();
}

void loop::stop() {
  std::lock_guard guard{round_mutex_};
  round_ = nullptr;
}

void loop::wake() {
  if (std::this_thread::get_id() == thread_.get_id())
    return; // a round follows whatever it does
  std::lock_guard guard{wake_mutex_};
  if (is_over_ || std::exchange(is_waking_, true))
    return;
  alarm_.Set(queue_.get(), gpr_time_0(GPR_CLOCK_MONOTONIC), &awake_);
}

void loop::awake::done(bool) {
  std::lock_guard guard{of.wake_mutex_};
  of.is_waking_ = false;
}

} // namespace cluster::rpc
