// Sockets, TLS and login.
#include "bench/load/wire.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace load {

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

namespace {
std::string base64(std::string_view in) {
  std::string out(4 * ((in.size() + 2) / 3) + 1, '\0');
  int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(in.data()), static_cast<int>(in.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}
std::string unbase64(std::string_view in) {
  std::string out(in.size(), '\0');
  int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(in.data()), static_cast<int>(in.size()));
  out.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  for (auto i = in.size(); i > 0 && in[i - 1] == '=' && !out.empty(); --i)
    out.pop_back();
  return out;
}
std::string hmac(std::string_view key, std::string_view data) {
  unsigned char md[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  HMAC(EVP_sha1(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(data.data()), data.size(), md, &n);
  return {reinterpret_cast<char*>(md), n};
}
std::string_view between(std::string_view s, std::string_view from, std::string_view until) {
  auto a = s.find(from);
  if (a == s.npos)
    return {};
  a += from.size();
  return s.substr(a, s.find(until, a) - a);
}
} // namespace

wire::wire(loop& l, int number) : loop_(l), number_(number) {}
wire::~wire() { close(); }

void wire::close() {
  std::erase(loop_.dirty, this); // the loop must not flush what is gone
  if (ssl_)
    SSL_free(std::exchange(ssl_, nullptr));
  if (fd_ >= 0)
    ::close(std::exchange(fd_, -1));
  step_ = step::closed;
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

void wire::start(std::string user, std::string resource) {
  user_ = std::move(user);
  resource_ = std::move(resource);
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int one = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(loop_.to().port);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) < 0 && errno != EINPROGRESS)
    return fail("connect");
  epoll_event ev{};
  ev.events = EPOLLIN | EPOLLOUT | EPOLLET;
  ev.data.ptr = this;
  epoll_ctl(loop_.epoll(), EPOLL_CTL_ADD, fd_, &ev);
  step_ = step::connecting;
}

void wire::stream_header() {
  send("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
}

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
      SSL_set_tlsext_host_name(ssl_, "localhost");
      SSL_set_connect_state(ssl_);
    }
    step_ = step::handshake;
  }
  if (step_ == step::handshake) {
    if (ssl_) {
      int r = SSL_do_handshake(ssl_);
      if (r <= 0) {
        int e = SSL_get_error(ssl_, r);
        return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? void() : fail("handshake");
      }
    }
    if (loop_.to().is_relay) {
      step_ = step::ready;
      send("<c " + std::to_string(number_) + "/>\n");
      flush();
      on_ready(*this);
      return;
    }
    if (loop_.only_handshake) {
      step_ = step::ready;
      return on_ready(*this);
    }
    step_ = step::header;
    stream_header();
    flush();
  }
  if ((events & EPOLLOUT) && !out_.empty())
    flush();
  if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
    read();
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
      if (in_.empty()) { // mostly whole messages: nothing is copied
        auto done = on_bytes(*this, got);
        if (step_ != step::closed && done < got.size())
          in_.assign(got.substr(done));
      } else {
        in_.append(got);
        auto done = on_bytes(*this, in_);
        in_.erase(0, done);
      }
      if (!ssl_ && got.size() < sizeof buffer)
        return; // a short read: nothing is left
      continue;
    }
    in_.append(got);
    advance();
    flush();
  }
}

bool wire::has(std::string_view word) { return in_.find(word) != std::string::npos; }

void wire::advance() {
  const auto& t = loop_.to();
  switch (step_) {
    case step::header:
      if (!has("</stream:features>"))
        return;
      take_all();
      if (t.registers) {
        send("<iq type='set' id='reg'><query xmlns='jabber:iq:register'><username>" + user_ + "</username><password>" + t.password + "</password></query></iq>");
        step_ = step::registering;
        return;
      }
      if (t.mechanism == sasl::plain) {
        std::string token;
        token.append(1, '\0').append(user_).append(1, '\0').append(t.password);
        send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base64(token) + "</auth>");
        step_ = step::auth;
      } else {
        send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>" + base64("n,," + scram_first()) + "</auth>");
        step_ = step::challenge;
      }
      return;
    case step::registering:
      if (!has("reg"))
        return;
      if (has("/iq>") || has("/>")) {
        step_ = step::ready;
        if (!has("result") && !has("conflict"))
          return fail("register");
        take_all();
        on_ready(*this);
      }
      return;
    case step::challenge: {
      if (has("</failure>"))
        return fail("login");
      if (!has("</challenge>"))
        return;
      auto text = unbase64(between(between(in_, "<challenge", "</challenge>"), ">", "<"));
      take_all();
      send("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + base64(scram_final(text)) + "</response>");
      step_ = step::auth;
      return;
    }
    case step::auth:
      if (has("<failure"))
        return fail("login");
      if (!has("<success"))
        return;
      if (!has("/>") && !has("</success>"))
        return;
      take_all();
      stream_header();
      step_ = step::header_again;
      return;
    case step::header_again:
      if (!has("</stream:features>"))
        return;
      take_all();
      send("<iq type='set' id='bind1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + resource_ + "</resource></bind></iq>");
      step_ = step::bind;
      return;
    case step::bind:
      if (!has("</iq>"))
        return;
      jid_ = between(in_, "<jid>", "</jid>");
      if (jid_.empty())
        return fail("bind");
      take_all();
      step_ = step::ready;
      on_ready(*this);
      return;
    default:
      return;
  }
}

std::string wire::scram_first() {
  unsigned char random[18];
  RAND_bytes(random, sizeof random);
  nonce_ = base64({reinterpret_cast<char*>(random), sizeof random});
  return "n=" + user_ + ",r=" + nonce_;
}

std::string wire::scram_final(std::string_view server_first) {
  auto nonce = std::string{between(server_first, "r=", ",")};
  auto salt = unbase64(between(server_first, "s=", ","));
  auto rounds = std::atoi(std::string{server_first.substr(server_first.find("i=") + 2)}.c_str());
  auto& key = loop_.salted[salt];
  if (key.empty()) {
    key.resize(20);
    PKCS5_PBKDF2_HMAC_SHA1(loop_.to().password.data(), static_cast<int>(loop_.to().password.size()), reinterpret_cast<const unsigned char*>(salt.data()),
                           static_cast<int>(salt.size()), rounds, 20, reinterpret_cast<unsigned char*>(key.data()));
  }
  auto client_key = hmac(key, "Client Key");
  unsigned char stored[20];
  EVP_Digest(client_key.data(), client_key.size(), stored, nullptr, EVP_sha1(), nullptr);
  auto bare = "c=biws,r=" + nonce;
  auto message = "n=" + user_ + ",r=" + nonce_ + ',' + std::string{server_first} + ',' + bare;
  auto signature = hmac({reinterpret_cast<char*>(stored), sizeof stored}, message);
  for (std::size_t i = 0; i < 20; ++i)
    client_key[i] = static_cast<char>(client_key[i] ^ signature[i]);
  return bare + ",p=" + base64(client_key);
}

void wire::send(std::string_view xml) {
  if (out_.empty())
    loop_.dirty.push_back(this);
  out_.append(xml);
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
    out_.erase(0, static_cast<std::size_t>(n));
  }
}

loop::loop(target t) : target_(std::move(t)), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (target_.is_tls) {
    tls_ = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(tls_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(tls_, SSL_SESS_CACHE_OFF);
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
