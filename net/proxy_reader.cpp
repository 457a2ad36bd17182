// Takes exactly the header off a socket: bytes are looked at first, and only those that belong to it are
// read. So no piece of any size makes it wait for what is there already.
#include "net/proxy_reader.hpp"
#include "net/client_socket.hpp"
#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

namespace net {

struct proxy_reader::pending {
  tcp_socket socket;
  std::string peer;
  on_header then;
  std::string bytes{}; // of the header, so far
  timer deadline{};
};

proxy_reader::~proxy_reader() {
  for (auto& p : waiting_) { // their handlers come later and find them closed
    p->deadline.cancel();
    error_code ignored;
    p->socket.close(ignored);
  }
}

void proxy_reader::take(int fd, bool is_v6, on_header then) {
  auto peer = peer_of(fd);
  auto text = peer ? to_text(*peer) : "unknown";
  bool is_trusted = peer && std::ranges::any_of(trusted_, [&](auto& n) { return n.contains(*peer); });
  if (!is_trusted || waiting_.size() >= limits_.connections) {
    ::close(fd);
    return refused_(text, is_trusted ? "too many" : "stranger");
  }
  auto p = std::make_shared<pending>(adopt(loop_, fd, is_v6), text, std::move(then));
  waiting_.insert(p);
  loop_.arm(p->deadline, limits_.time, [this, p] { refuse(p, "deadline"); });
  read(p); // mostly it is there already
}

void proxy_reader::wait(const std::shared_ptr<pending>& p) {
  p->socket.async_wait(tcp_socket::wait_read, [this, p](const error_code& ec) {
    if (!ec && p->socket.is_open()) // else it was refused, or this reader is gone
      read(p);
  });
}

void proxy_reader::read(const std::shared_ptr<pending>& p) {
  std::array<char, longest_proxy_header> next;
  int fd = p->socket.native_handle();
  auto had = p->bytes.size();
  auto n = ::recv(fd, next.data(), next.size() - had, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return wait(p);
  if (n <= 0)
    return refuse(p, "closed");
  p->bytes.append(next.data(), static_cast<std::size_t>(n));
  auto h = parse_proxy_header(p->bytes);
  if (!h && h.error() != proxy_errc::incomplete)
    return refuse(p, name_of(h.error()));
  auto whole = h ? h->size : p->bytes.size();
  if (::recv(fd, next.data(), whole - had, MSG_DONTWAIT) != static_cast<ssize_t>(whole - had))
    return refuse(p, "closed"); // reset between the two calls
  if (!h)
    return wait(p);
  p->deadline.cancel();
  error_code ec;
  fd = p->socket.release(ec);
  auto then = std::move(p->then);
  waiting_.erase(p);
  if (!ec)
    then(fd, h->source);
}

void proxy_reader::refuse(const std::shared_ptr<pending>& kept, std::string_view why) {
  auto p = kept; // the timer's own call may be what holds it
  p->deadline.cancel();
  error_code ignored;
  p->socket.close(ignored);
  waiting_.erase(p);
  refused_(p->peer, why);
}

} // namespace net
