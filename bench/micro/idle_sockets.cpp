// Memory of idle client sockets: idle_sockets [plain count] [TLS count]; prints heap and resident
// memory of the server's process per connection. The clients are a second process.
#include "net/client_socket.hpp"
#include "net/listener.hpp"
#include <arpa/inet.h>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace {

constexpr std::size_t element = 600; // bytes of the one element that each client has sent and got back

net::tls_context_ref make_context() {
  auto* key = EVP_EC_gen("P-256");
  auto* x = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(x), 0);
  X509_gmtime_adj(X509_getm_notAfter(x), 86'400);
  X509_set_pubkey(x, key);
  X509_sign(x, key, EVP_sha256());
  char folder[] = "/tmp/covey-idle-XXXXXX";
  if (!mkdtemp(folder))
    std::abort();
  auto chain = std::string{folder} + "/chain.pem", key_file = std::string{folder} + "/key.pem";
  auto* out = BIO_new_file(chain.c_str(), "w");
  PEM_write_bio_X509(out, x);
  BIO_free(out);
  out = BIO_new_file(key_file.c_str(), "w");
  PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  BIO_free(out);
  auto made = net::make_server_context(chain, key_file);
  unlink(chain.c_str());
  unlink(key_file.c_str());
  rmdir(folder);
  X509_free(x);
  EVP_PKEY_free(key);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().text.c_str());
    std::exit(1);
  }
  return *made;
}

/// Connects `n` times, each with one element there and back, says so on `done`, then waits to be killed.
[[noreturn]] void be_clients(std::uint16_t port, std::size_t n, bool is_tls, int done) {
  auto* context = SSL_CTX_new(TLS_client_method());
  std::vector<char> buffer(element, 'x');
  for (std::size_t i = 0; i < n; ++i) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0)
      std::_Exit(1);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    std::size_t got = 0;
    if (is_tls) {
      auto* ssl = SSL_new(context);
      SSL_set_fd(ssl, fd);
      if (SSL_connect(ssl) != 1 || SSL_write(ssl, buffer.data(), element) <= 0)
        std::_Exit(1);
      for (int r = 1; got < element && r > 0; got += r > 0 ? static_cast<std::size_t>(r) : 0)
        r = SSL_read(ssl, buffer.data(), static_cast<int>(element - got));
    } else {
      if (send(fd, buffer.data(), element, 0) != static_cast<ssize_t>(element))
        std::_Exit(1);
      for (ssize_t r = 1; got < element && r > 0; got += r > 0 ? static_cast<std::size_t>(r) : 0)
        r = recv(fd, buffer.data(), element - got, 0);
    }
    if (got != element)
      std::_Exit(1);
  }
  char ok = 1;
  if (write(done, &ok, 1) != 1)
    std::_Exit(1);
  for (;;)
    pause();
}

std::size_t resident() {
  std::ifstream in{"/proc/self/status"};
  for (std::string word; in >> word;)
    if (word == "RssAnon:") {
      std::size_t kb = 0;
      in >> kb;
      return kb * 1'024;
    }
  return 0;
}

struct connection {
  explicit connection(net::tcp_socket s) : socket(std::move(s)) {}
  void read(std::vector<char>& shared) {
    socket.wait_readable([this, &shared](const net::error_code& failed) {
      net::error_code ec;
      auto n = failed ? 0 : socket.read_some(shared.data(), shared.size(), ec);
      if (failed || (ec && ec != net::asio::error::would_block))
        return;
      if (n)
        socket.write_some(shared.data(), n, ec);
      read(shared);
    });
  }
  net::client_socket socket;
};

/// Prints one line. Exits where something failed.
void measure(std::size_t n, net::tls_context_ref context) {
  net::loop loop;
  net::tls_identity_source ids;
  if (context)
    ids.put("localhost", context);
  std::vector<char> shared(65'536, '\1');
  std::vector<connection*> all;
  all.reserve(n);
  auto listener = net::listener::open(loop, "127.0.0.1", 0, [&](int fd, bool is_v6) {
    auto* c = new connection{net::adopt(loop, fd, is_v6)};
    all.push_back(c);
    if (context)
      c->socket.start_tls(ids, [c, &shared](const net::error_code& ec) {
        if (!ec)
          c->read(shared);
      });
    else
      c->read(shared);
  });
  int done[2];
  if (!listener || pipe(done) != 0)
    std::exit(1);
  malloc_trim(0);
  auto heap = mallinfo2().uordblks, memory = resident();
  auto clients = fork();
  if (clients == 0)
    be_clients((*listener)->port(), n, context != nullptr, done[1]);
  close(done[1]);
  net::asio::posix::basic_stream_descriptor<net::asio::io_context::executor_type> end{loop.io().get_executor(), done[0]};
  bool is_well = false;
  char byte = 0;
  end.async_read_some(net::asio::buffer(&byte, 1), [&](const net::error_code& ec, std::size_t) {
    is_well = !ec;
    loop.stop();
  });
  loop.run();
  auto heap_each = static_cast<double>(mallinfo2().uordblks - heap) / static_cast<double>(n);
  auto memory_each = static_cast<double>(resident() - memory) / static_cast<double>(n);
  kill(clients, SIGKILL);
  waitpid(clients, nullptr, 0);
  if (!is_well || all.size() != n) {
    std::fprintf(stderr, "the clients failed\n");
    std::exit(1);
  }
  std::printf("%-5s %6zu connections: heap %6.0f, RssAnon %6.0f bytes each (the object itself: %zu)\n",
              context ? "TLS" : "plain", n, heap_each, memory_each, sizeof(connection));
  for (auto* c : all)
    delete c;
}

} // namespace

int main(int argc, char** argv) {
  rlimit l{};
  getrlimit(RLIMIT_NOFILE, &l);
  l.rlim_cur = l.rlim_max;
  setrlimit(RLIMIT_NOFILE, &l);
  auto count = [&](int i, std::size_t otherwise) {
    return argc > i ? static_cast<std::size_t>(std::strtoul(argv[i], nullptr, 10)) : otherwise;
  };
  measure(count(1, 10'000), nullptr);
  measure(count(2, 5'000), make_context());
}
