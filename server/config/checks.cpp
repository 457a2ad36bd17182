// Certificates, folders and ports.
#include "server/config/checks.hpp"
#include "net/tls_identity.hpp"
#include <arpa/inet.h>
#include <cstring>
#include <filesystem>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace server {

bool is_address(const std::string& text) {
  in6_addr a6{};
  in_addr a4{};
  return inet_pton(AF_INET, text.c_str(), &a4) == 1 || inet_pton(AF_INET6, text.c_str(), &a6) == 1;
}

namespace {
/// 0, or errno of a bind to it.
int try_bind(const listen_at& at) {
  bool is_v6 = at.address.find(':') != at.address.npos;
  int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  if (fd < 0)
    return errno;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  int result = 0;
  if (is_v6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    sockaddr_in6 a{};
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(at.port);
    inet_pton(AF_INET6, at.address.c_str(), &a.sin6_addr);
    result = bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a);
  } else {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(at.port);
    inet_pton(AF_INET, at.address.c_str(), &a.sin_addr);
    result = bind(fd, reinterpret_cast<sockaddr*>(&a), sizeof a);
  }
  if (result == 0)
    result = listen(fd, 1); // a listener with SO_REUSEADDR is only noticed here
  int why = result == 0 ? 0 : errno;
  close(fd);
  return why;
}

/// The folder itself, or the nearest one above it, can be written to.
bool is_writable(const std::string& folder) {
  std::error_code ec;
  auto p = std::filesystem::absolute(folder, ec);
  while (!p.empty() && !std::filesystem::exists(p, ec) && p.has_parent_path() && p != p.parent_path())
    p = p.parent_path();
  return std::filesystem::is_directory(p, ec) && access(p.c_str(), W_OK | X_OK) == 0;
}
} // namespace

void check_machine(loaded& l, bool with_ports, const place_finder& place) {
  auto complain = [&](const std::string& key, const std::string& host, std::string found, std::string allowed, std::string remedy) {
    auto p = place(key, host);
    p.found = std::move(found);
    p.allowed = std::move(allowed);
    p.remedy = std::move(remedy);
    l.problems.push_back(std::move(p));
  };
  auto& c = l.config;
  for (auto& h : c.hosts) {
    if (h.certificate.empty() || h.key.empty())
      continue;
    auto ok = net::check_certificate(h.certificate, h.key, h.domain);
    if (ok)
      continue;
    bool is_key = ok.error().file == h.key && h.key != h.certificate;
    complain(is_key ? "tls.key" : "tls.certificate", h.domain, ok.error().file + ": " + ok.error().text,
             "a certificate for " + h.domain + " that is valid now, and its key",
             is_key ? "tls.key = \"/path/to/the/key.pem\"" : "tls.certificate = \"/path/to/the/chain.pem\"");
  }
  for (auto& [key, folder] : {std::pair{"data", c.data_folder}, std::pair{"run", c.run_folder}})
    if (!is_writable(folder))
      complain(key, "", folder + " cannot be written to", "a folder that the server's user may write to", "mkdir -p " + folder + " and give it to that user");
  if (!c.log_file.empty() && !is_writable(std::filesystem::path{c.log_file}.parent_path().empty() ? "." : std::filesystem::path{c.log_file}.parent_path().string()))
    complain("log.file", "", c.log_file + " cannot be written to", "a file in a folder that the server's user may write to", "log.file = \"/var/log/covey/covey.log\"");
  if (!with_ports)
    return;
  auto ports = [&](const char* key, const std::vector<listen_at>& all) {
    for (auto& at : all)
      if (int e = try_bind(at))
        complain(key, "", at.address + " port " + std::to_string(at.port) + ": " + std::strerror(e),
                 "an address of this machine and a port that is free and that this user may use",
                 e == EADDRINUSE ? "stop what listens there (ss -ltnp), or take another port" : "take another address or port");
  };
  ports("listen.c2s", c.c2s);
  ports("listen.c2s_direct", c.c2s_direct);
  ports("listen.http", c.http);
}

} // namespace server
