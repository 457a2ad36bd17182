#include "cluster/worker.hpp"
#include "base/thread_name.hpp"
#include <condition_variable>
#include <mutex>
#include <thread>

namespace cluster {

namespace {
class own_thread final : public wire::worker {
public:
  explicit own_thread(std::string name) : name_(std::move(name)) {}
  ~own_thread() override { stop(); }

  void start(std::function<std::chrono::nanoseconds()> round) override {
    thread_ = std::thread{[this, round = std::move(round)] { run(round); }};
  }
  void wake() override {
    std::lock_guard guard{mutex_};
    is_awake_ = true;
    wake_.notify_one();
  }
  void stop() override {
    if (!thread_.joinable())
      return;
    {
      std::lock_guard guard{mutex_};
      is_over_ = true;
      wake_.notify_one();
    }
    thread_.join();
  }

private:
  void run(const std::function<std::chrono::nanoseconds()>& round) {
    base::name_thread(name_);
    for (;;) {
      auto wait = round();
      std::unique_lock guard{mutex_};
      wake_.wait_for(guard, wait, [this] { return is_awake_ || is_over_; });
      if (is_over_)
        return;
      is_awake_ = false;
    }
  }

  const std::string name_;
  std::mutex mutex_; // of what follows
  std::condition_variable wake_;
  bool is_awake_ = false, is_over_ = false;
  std::thread thread_;
};
} // namespace

std::unique_ptr<wire::worker> make_worker(std::string name) { return std::make_unique<own_thread>(std::move(name)); }

} // namespace cluster
