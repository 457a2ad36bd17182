#include "server/admin/socket.hpp"
#include "base/thread_name.hpp"
#include "cluster/rpc/operation.hpp"
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

namespace server {

namespace {
constexpr std::size_t most_connections = 64; // of its owner; whoever comes then is turned away
constexpr auto linger = std::chrono::milliseconds{100};

int open_listener(const std::string& file) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  std::memcpy(at.sun_path, file.c_str(), file.size() + 1);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  unlink(file.c_str());      // what a killed server left; another one would hold the ports
  auto before = umask(0177); // the socket is its owner's alone from the first moment
  bool ok = fd >= 0 && bind(fd, reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0 && ::listen(fd, SOMAXCONN) == 0;
  umask(before);
  if (!ok && fd >= 0)
    ::close(fd);
  return ok ? fd : -1;
}
} // namespace

base::result<void, std::string> admin_socket::listen(const std::string& file, grpc::ServerBuilder& b) {
  if (file.size() > 100)
    return base::fail("the path of the administration socket is too long: " + file);
  listener_ = open_listener(file);
  if (listener_ < 0)
    return base::fail("the administration socket " + file + " cannot be opened: " + std::strerror(errno));
  file_ = file;
  end_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  queue_ = b.AddCompletionQueue();
  server_ = b.BuildAndStart();
  server_thread_ = std::thread{[this] { serve(); }};
  acceptor_ = std::thread{[this] { accept(); }};
  return {};
}

void admin_socket::close() {
  if (listener_ < 0)
    return;
  (void)eventfd_write(end_, 1);
  acceptor_.join();
  {
    std::lock_guard guard{mutex_};
    is_closing_ = true;
    wake_.notify_one();
  }
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds{2});
  {
    std::unique_lock guard{mutex_};
    over_.wait(guard, [this] { return calls_ == 0; }); // a handler that is still at work ends its call by the queue
  }
  queue_->Shutdown();
  server_thread_.join();
  server_ = nullptr;
  queue_ = nullptr;
  for (auto fd : watched_)
    ::close(fd);
  watched_.clear();
  ::close(std::exchange(listener_, -1));
  ::close(std::exchange(end_, -1));
  unlink(file_.c_str());
}

void admin_socket::begin_call() {
  std::lock_guard guard{mutex_};
  ++calls_;
}

void admin_socket::end_call() {
  std::lock_guard guard{mutex_};
  if (--calls_ == 0)
    over_.notify_one();
}

void admin_socket::accept() {
  base::name_thread("covey-admin");
  for (;;) {
    std::vector<pollfd> all{{listener_, POLLIN, 0}, {end_, POLLIN, 0}};
    for (auto fd : watched_)
      all.push_back({fd, POLLRDHUP, 0});
    if (poll(all.data(), all.size(), -1) < 0)
      continue; // a signal
    if (all[1].revents)
      return;
    for (auto i = all.begin() + 2; i != all.end(); ++i)
      if (i->revents)
        forget(i->fd);
    if (all[0].revents)
      let_in();
  }
}

void admin_socket::let_in() {
  int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  int second = fd < 0 || watched_.size() == most_connections ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (second < 0) {
    if (fd >= 0)
      ::close(fd);
    else if (errno == EMFILE || errno == ENFILE)
      std::this_thread::sleep_for(linger); // whoever waits goes on waiting
    return;
  }
  watched_.push_back(second);
  {
    std::lock_guard guard{mutex_};
    ++connections_;
    wake_.notify_one();
  }
  grpc::AddInsecureChannelFromFd(server_.get(), fd);
}

void admin_socket::forget(int fd) {
  ::close(fd);
  std::erase(watched_, fd);
  std::lock_guard guard{mutex_};
  --connections_;
}

void admin_socket::serve() {
  base::name_thread("covey-admin");
  for (bool was_idle = false;;) { // what ended is looked at once more
    {
      std::unique_lock guard{mutex_};
      auto is_wanted = [this] { return connections_ > 0 || calls_ > 0 || is_closing_; };
      if (was_idle)
        wake_.wait(guard, is_wanted);
      was_idle = !is_wanted();
    }
    void* tag = nullptr;
    bool ok = false;
    auto how = queue_->AsyncNext(&tag, &ok, std::chrono::system_clock::now() + linger);
    if (how == grpc::CompletionQueue::SHUTDOWN)
      return;
    if (how == grpc::CompletionQueue::GOT_EVENT)
      static_cast<cluster::rpc::operation*>(tag)->done(ok);
  }
}

} // namespace server
