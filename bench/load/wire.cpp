// Sockets and TLS, and what stream management needs of every byte.
#include "bench/load/wire.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace load {
namespace {
constexpr unsigned asks_every = 5; // stanzas
constexpr std::string_view request_xml = "<r xmlns='urn:xmpp:sm:3'/>";

int take_ticket(SSL* ssl, SSL_SESSION* s) {
  static_cast<wire*>(SSL_get_app_data(ssl))->on_ticket(s);
  return 1; // it is ours now
}
} // namespace

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

wire::wire(loop& l, int number) : loop_(l), number_(number) {}

wire::~wire() {
  close();
  if (ticket_)
    SSL_SESSION_free(ticket_);
}

void wire::close() {
  std::erase(loop_.dirty, this); // the loop must not flush what is gone
  if (ssl_) {
    SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN); // else its ticket counts as spoiled (RFC 2246 section 7.2.1)
    SSL_free(std::exchange(ssl_, nullptr));
  }
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
  step_ = step::closed;
}

void wire::cut() {
  linger reset{1, 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close();
}

void wire::fail(std::string_view why) {
  if (step_ == step::closed)
    return;
  if (step_ == step::ready && loop_.ends_when_ready)
    return close();
  if (loop_.total.failed++ < 5)
    std::fprintf(stderr, "connection %d (%s), step %d: %.*s: %.300s\n", number_, user_.c_str(), static_cast<int>(step_), static_cast<int>(why.size()), why.data(), in_.c_str());
  close();
}

void wire::start(std::string user, std::string resource, way how) {
  user_ = std::move(user);
  resource_ = std::move(resource);
  start_again(how);
}

void wire::start_again(way how) {
  way_ = how;
  in_.clear();
  out_.clear();
  got_.restart();
  cost_ = {};
  tls_written_ = 0;
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(port_ ? port_ : loop_.to().port);
  step_ = step::connecting;
  if (connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) < 0 && errno != EINPROGRESS)
    return fail("connect");
  ++cost_.round_trips;
  epoll_event ev{};
  ev.events = EPOLLIN | EPOLLOUT | EPOLLET;
  ev.data.ptr = this;
  epoll_ctl(loop_.epoll(), EPOLL_CTL_ADD, fd_, &ev);
}

std::uint64_t wire::tls_written() const { return BIO_number_written(SSL_get_wbio(ssl_)); }

void wire::on_event(std::uint32_t events) {
  if (step_ == step::closed)
    return;
  if (step_ == step::connecting && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
      return fail("connect");
    if (loop_.to().is_tls) {
      ssl_ = SSL_new(loop_.tls());
      SSL_set_fd(ssl_, fd_);
      SSL_set_app_data(ssl_, reinterpret_cast<char*>(this));
      SSL_set_tlsext_host_name(ssl_, "localhost");
      if (ticket_)
        SSL_set_session(ssl_, ticket_);
      SSL_set_connect_state(ssl_);
    }
    step_ = step::handshake;
  }
  if (step_ == step::handshake) {
    if (ssl_) {
      int r = SSL_do_handshake(ssl_);
      if (r <= 0) {
        if (auto now = tls_written(); now != std::exchange(tls_written_, now))
          ++cost_.round_trips; // it has said something, and waits
        int e = SSL_get_error(ssl_, r);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? void() : fail("handshake");
      }
    }
    if (loop_.to().is_relay) {
      step_ = step::ready;
      push("<c " + std::to_string(number_) + "/>\n");
      flush();
      on_ready(*this);
      return;
    }
    if (loop_.only_handshake) {
      step_ = step::ready;
      return on_ready(*this);
    }
    greet();
    flush();
  }
  if ((events & EPOLLOUT) && !out_.empty())
    flush();
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
    read();
}

void wire::on_ticket(SSL_SESSION* s) {
  if (ticket_)
    SSL_SESSION_free(ticket_);
  ticket_ = s;
}

void wire::read() {
  static char buffer[65'536];
  while (step_ != step::closed) {
    long n = ssl_ ? SSL_read(ssl_, buffer, sizeof buffer) : recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) {
      bool again = ssl_ ? SSL_get_error(ssl_, static_cast<int>(n)) == SSL_ERROR_WANT_READ : n < 0 && errno == EAGAIN;
      if (!again)
        fail("the server closed");
      return;
    }
    std::string_view got{buffer, static_cast<std::size_t>(n)};
    if (step_ == step::ready) {
      on_input(got);
      if (!ssl_ && got.size() < sizeof buffer && !loop_.ends_when_ready)
        return; // a short read: nothing is left, unless the end is
      continue;
    }
    cost_.in += got.size();
    in_.append(got);
    while (step_ != step::ready && step_ != step::closed && advance()) {}
    flush();
  }
}

void wire::on_input(std::string_view got) {
  if (is_managed_)
    count(got);
  if (in_.empty()) { // mostly whole messages: nothing is copied
    auto done = on_bytes(*this, got);
    if (step_ != step::closed && done < got.size())
      in_.assign(got.substr(done));
  } else {
    in_.append(got);
    auto done = on_bytes(*this, in_);
    in_.erase(0, done);
  }
}

void wire::count(std::string_view got) {
  got_.feed(
      got,
      [this] {
        char answer[64];
        auto size = std::snprintf(answer, sizeof answer, "<a xmlns='urn:xmpp:sm:3' h='%u'/>", got_.handled);
        push({answer, static_cast<std::size_t>(size)});
        ++loop_.total.answered;
      },
      [this](std::string_view tag) {
        if (auto at = tag.find(" h="); at != tag.npos && at + 4 < tag.size())
          std::from_chars(tag.data() + at + 4, tag.data() + tag.size(), acked_);
      });
}

void wire::push(std::string_view xml) {
  if (out_.empty())
    loop_.dirty.push_back(this);
  out_.append(xml);
}

void wire::send(std::string_view xml, unsigned stanzas) {
  push(xml);
  if (!is_managed_)
    return;
  sent_ += stanzas;
  unasked_ += stanzas;
  if (unasked_ >= asks_every)
    ask_for_ack();
}

void wire::ask_for_ack() {
  push(request_xml);
  unasked_ = 0;
}

void wire::flush() {
  while (!out_.empty() && step_ != step::closed) {
    long n = ssl_ ? SSL_write(ssl_, out_.data(), static_cast<int>(out_.size())) : ::send(fd_, out_.data(), out_.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      bool again = ssl_ ? SSL_get_error(ssl_, static_cast<int>(n)) == SSL_ERROR_WANT_WRITE : errno == EAGAIN;
      if (!again)
        fail("send");
      return;
    }
    if (step_ != step::ready)
      cost_.out += static_cast<std::size_t>(n);
    out_.erase(0, static_cast<std::size_t>(n));
  }
}

loop::loop(target t) : target_(std::move(t)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (target_.is_tls) {
    tls_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(tls_, target_.keeps_tickets ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
    if (target_.keeps_tickets)
      SSL_CTX_sess_set_new_cb(tls_, take_ticket);
    SSL_CTX_set1_groups_list(tls_, "P-256");
  }
}

loop::~loop() {
  ::close(epoll_);
  if (tls_)
    SSL_CTX_free(tls_);
}

bool loop::run(double seconds, const std::function<bool()>& done) {
  auto end = now_ns() + static_cast<std::uint64_t>(seconds * 1e9), next_tick = now_ns();
  epoll_event events[512];
  while (!done()) {
    auto now = now_ns();
    if (now >= end)
      return false;
    if (on_tick && now >= next_tick) {
      on_tick();
      next_tick = now + tick_ns;
    }
    for (auto* w : std::exchange(dirty, {}))
      w->flush();
    int n = epoll_wait(epoll_, events, 512, on_tick ? static_cast<int>(tick_ns < 1'000'000 ? 0 : 1) : 50);
    for (int i = 0; i < n; ++i)
      static_cast<wire*>(events[i].data.ptr)->on_event(events[i].events);
  }
  for (auto* w : std::exchange(dirty, {}))
    w->flush();
  return true;
}

} // namespace load
