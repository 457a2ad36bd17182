// Certificates, folders and ports.
#include "server/config/checks.hpp"
#include "net/tls_identity.hpp"
#include "server/certificates.hpp"
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/// The folder itself, or the nearest one above it, can be written to. Nothing: it can; else why not.
std::string why_not_writable(const std::string& folder) {
  std::error_code ec;
  auto p = std::filesystem::absolute(folder, ec);
  for (;;) {
    struct stat st{};
    if (stat(p.c_str(), &st) == 0) {
      if (!S_ISDIR(st.st_mode))
        return p.string() + " is no folder";
      return access(p.c_str(), W_OK | X_OK) == 0 ? "" : p.string() + ": " + std::strerror(errno);
    }
    if (errno != ENOENT)
      return p.string() + ": " + std::strerror(errno);
    if (!p.has_parent_path() || p == p.parent_path())
      return folder + " does not exist";
    p = p.parent_path();
  }
}

std::string why_no_log(const std::string& file, const std::string& data_folder) {
  struct stat st{};
  if (stat(file.c_str(), &st) == 0) {
    if (S_ISDIR(st.st_mode))
      return file + " is a folder";
    return access(file.c_str(), W_OK) == 0 ? "" : file + ": " + std::strerror(errno);
  }
  // of folders, only that of the data is made before the log is opened
  auto folder = std::filesystem::path{file}.parent_path();
  auto where = folder.empty() ? std::string{"."} : folder.string();
  if (std::error_code ec; where != data_folder && !std::filesystem::exists(where, ec))
    return where + " does not exist";
  return why_not_writable(where);
}

void check_certificates(const host_config& h, value_table& values, std::vector<problem>& problems) {
  if (!h.client_ca.empty())
    if (auto ok = net::check_authorities(h.client_ca); !ok) {
      auto p = values.place_of("tls.client_ca", h.domain);
      p.found = ok.error().file + ": " + ok.error().text;
      p.allowed = "certificates of authorities in PEM form";
      p.remedy = values.line_for("tls.client_ca", h.domain, "\"/etc/covey/clients.pem\"");
      problems.push_back(std::move(p));
    }
  if (h.certificate.empty() || h.key.empty())
    return;
  auto ok = net::check_certificate(h.certificate, h.key, ascii_name(h.domain));
  if (ok)
    return;
  using enum net::certificate_errc;
  auto what = ok.error().what;
  bool is_key = what == key_missing || what == key_unreadable || what == key_not_pem || what == key_does_not_match;
  auto* key = is_key ? "tls.key" : "tls.certificate";
  auto p = values.place_of(key, h.domain);
  p.found = ok.error().file + ": " + ok.error().text;
  p.allowed = is_key ? "the unencrypted private key of " + h.certificate : "a certificate for " + h.domain + " that is valid now";
  p.remedy = what == key_does_not_match || is_key ? values.line_for(key, h.domain, "\"/etc/covey/" + ascii_name(h.domain) + ".key\"")
                                                  : values.line_for(key, h.domain, "\"/etc/covey/" + ascii_name(h.domain) + ".pem\"");
  problems.push_back(std::move(p));
}
} // namespace

bool has_ipv6() {
  static const bool has = try_bind({"::", 0}) == 0;
  return has;
}

void check_machine(loaded& l, bool with_ports, value_table& values) {
  auto complain = [&](const std::string& key, std::string found, std::string allowed, std::string remedy) {
    if (values.is_refused(key))
      return; // the value in force is not the one that was meant
    auto p = values.place_of(key, "");
    p.found = std::move(found);
    p.allowed = std::move(allowed);
    p.remedy = std::move(remedy);
    l.problems.push_back(std::move(p));
  };
  auto& c = l.config;
  for (auto& h : c.hosts)
    check_certificates(h, values, l.problems);
  for (auto& [key, folder] : {std::pair{"data", c.data_folder}, std::pair{"run", c.run_folder}})
    if (auto why = why_not_writable(folder); !why.empty())
      complain(key, why, "a folder that the server's user may write to", "install -d -m 700 -o covey " + folder + "   # as root; or another folder here");
  if (!c.log_file.empty())
    if (auto why = why_no_log(c.log_file, c.data_folder); !why.empty())
      complain("log.file", why, "a file in a folder that exists and that the server's user may write to",
               values.line_for("log.file", "", "\"/var/log/covey/covey.log\""));
  if (!with_ports)
    return;
  auto ports = [&](const char* key, const std::vector<listen_at>& all) {
    for (auto& at : all)
      if (int e = try_bind(at))
        complain(key, at.address + " port " + std::to_string(at.port) + ": " + std::strerror(e),
                 "an address of this machine and a port that is free and that this user may use",
                 e == EADDRINUSE ? "stop what listens there (ss -ltnp), or take another port" : "take another address or port");
  };
  ports("listen.c2s", c.c2s);
  ports("listen.c2s_direct", c.c2s_direct);
  ports("listen.http", c.http);
}

} // namespace server
