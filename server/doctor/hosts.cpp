// What concerns each host: its certificate, its stream, its records in DNS.
#include "net/tls_identity.hpp"
#include "server/certificates.hpp"
#include "server/doctor/parts.hpp"
#include "xmpp/element.hpp"
#include <algorithm>
#include <arpa/inet.h>
#include <filesystem>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace server::doctor {

namespace {
constexpr std::size_t most_hosts = 50; // that are looked at from outside: a doctor's visit has an end

/// Names that DNS has no records of (RFC 6761, RFC 2606, RFC 6762).
bool is_special(const std::string& domain) {
  for (std::string end : {"localhost", "local", "test", "example", "invalid", "internal", "example.org", "example.net", "example.com"})
    if (domain == end || domain.ends_with('.' + end))
      return true;
  return domain.find('.') == domain.npos;
}

/// A connection to where a client of this machine would go. -1: nobody answers.
int connect_to(const listen_at& at) {
  bool is_v6 = at.address.find(':') != at.address.npos;
  sockaddr_storage to{};
  socklen_t size = 0;
  if (is_v6) {
    auto& a = reinterpret_cast<sockaddr_in6&>(to);
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(at.port);
    inet_pton(AF_INET6, at.address == "::" ? "::1" : at.address.c_str(), &a.sin6_addr);
    size = sizeof a;
  } else {
    auto& a = reinterpret_cast<sockaddr_in&>(to);
    a.sin_family = AF_INET;
    a.sin_port = htons(at.port);
    inet_pton(AF_INET, at.address == "0.0.0.0" ? "127.0.0.1" : at.address.c_str(), &a.sin_addr);
    size = sizeof a;
  }
  int fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  timeval limit{2, 0}; // for connect, too
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&to), size) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

/// What the server says to a stream header, as far as its features or its error.
std::string answer_to_header(int fd, const std::string& domain) {
  std::string header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='";
  xmpp::append_attribute_escaped(header, domain);
  header += "'>";
  std::string got;
  if (send(fd, header.data(), header.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(header.size()))
    return got;
  char buffer[4'096];
  while (got.size() < 65'536 && got.find("</stream:features>") == got.npos && got.find("</stream:error>") == got.npos) {
    auto n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0)
      break;
    got.append(buffer, static_cast<std::size_t>(n));
  }
  return got;
}
} // namespace

void check_certificates(const config& c, findings& out) {
  auto local = c.data_folder + "/certificates/";
  for (auto& h : c.hosts) {
    auto name = ascii_name(h.domain);
    bool is_local = h.certificate.empty();
    auto chain = is_local ? local + name + ".pem" : h.certificate, key = is_local ? local + name + ".key" : h.key;
    std::error_code ec;
    if (is_local && !std::filesystem::exists(chain, ec)) {
      out.push_back({"certificate.absent", severity::note, h.domain + " has no certificate yet: the next start makes one", {}});
      continue;
    }
    auto info = net::check_certificate(chain, key, name);
    if (!info) { // the operator's own was complained of with the configuration
      if (is_local)
        out.push_back({"certificate.broken", severity::error, info.error().file + ": " + info.error().text, "remove " + chain + ", then covey reload: a new one is made"});
      continue;
    }
    auto days = std::chrono::duration_cast<std::chrono::days>(info->not_after - std::chrono::system_clock::now()).count();
    auto text = "the certificate of " + h.domain + " is good for " + std::to_string(days) + " days (" + chain + ')';
    if (days < (is_local ? 25 : 14))
      out.push_back({"certificate.ends_soon", severity::warning, text, is_local ? "covey reload: a new one is made" : "renew it, then covey reload"});
    else
      out.push_back({"certificate.good", severity::ok, text, {}});
    if (is_local && !is_special(name))
      out.push_back({"certificate.local", severity::note, h.domain + " has a certificate of the local authority: clients elsewhere do not trust it",
                     "name one of a public authority with tls.certificate and tls.key, or on their machines: " + how_to_trust(local + "ca.pem")});
  }
}

void check_answers(const config& c, const running& server, findings& out) {
  if (!server.pid || c.c2s.empty())
    return;
  auto& at = c.c2s.front();
  auto where = at.address + " port " + std::to_string(at.port);
  for (auto& h : c.hosts) {
    if (&h - c.hosts.data() >= static_cast<std::ptrdiff_t>(most_hosts))
      return;
    int fd = connect_to(at);
    auto got = fd < 0 ? std::string{} : answer_to_header(fd, h.domain);
    if (fd >= 0)
      close(fd);
    if (got.find("</stream:features>") != got.npos)
      out.push_back({"stream.answered", severity::ok, h.domain + " answers at " + where, {}});
    else if (got.find("<host-unknown") != got.npos)
      out.push_back({"stream.unknown_host", severity::error, h.domain + " stands in the configuration, but the server does not serve it", "covey reload"});
    else
      out.push_back({"stream.silent", severity::error, h.domain + " does not answer at " + where, "look at the log; covey stop, then start it again"});
  }
}

void check_dns(const config& c, resolver& dns, findings& out) {
  auto has_port = [](const std::vector<listen_at>& all, std::uint16_t port) { return std::any_of(all.begin(), all.end(), [&](auto& at) { return at.port == port; }); };
  std::size_t asked = 0;
  for (auto& h : c.hosts) {
    auto name = ascii_name(h.domain);
    if (is_special(name)) {
      out.push_back({"dns.not_asked", severity::note, h.domain + " is a name without records in DNS: clients need the server's address by hand", {}});
      continue;
    }
    if (++asked > most_hosts)
      return;
    auto starttls = dns.srv("_xmpp-client._tcp." + name), direct = dns.srv("_xmpps-client._tcp." + name);
    auto own = dns.addresses(name);
    if (!starttls || !direct || !own) { // nor would it answer for the others
      auto why = !starttls ? starttls.error() : !direct ? direct.error() : own.error();
      out.push_back({"dns.silent", severity::warning, "DNS does not answer (" + why + "): nothing can be said of " + h.domain + "'s records", "look at /etc/resolv.conf and the network"});
      return;
    }
    auto check = [&](const std::vector<srv_record>& records, const char* service, const std::vector<listen_at>& ports) {
      bool is_good = true;
      for (auto& r : records) {
        if (r.target == ".") // said to be not offered (RFC 2782)
          continue;
        auto text = std::string{service} + "._tcp." + name + " names " + r.target + " port " + std::to_string(r.port);
        if (!has_port(ports, r.port)) {
          is_good = false;
          out.push_back({"dns.wrong_port", severity::warning, text + ", where this server does not listen", "mend the SRV record, or listen there"});
        }
        if (auto to = dns.addresses(r.target); to && to->empty()) {
          is_good = false;
          out.push_back({"dns.no_address", severity::error, text + ", which has no address", "add an A or AAAA record for " + r.target});
        }
      }
      if (is_good && !records.empty())
        out.push_back({"dns.srv", severity::ok, std::string{service} + "._tcp." + name + " leads here", {}});
    };
    check(*starttls, "_xmpp-client", c.c2s);
    check(*direct, "_xmpps-client", c.c2s_direct);
    if (starttls->empty() && own->empty())
      out.push_back({"dns.nothing", severity::error, "DNS has neither SRV records nor an address for " + name + ": clients do not find it",
                     "_xmpp-client._tcp." + name + ". 3600 IN SRV 5 0 5222 " + name + ". and an A or AAAA record for " + name});
    else if (starttls->empty() && !has_port(c.c2s, 5222))
      out.push_back({"dns.no_srv", severity::error, "without SRV records clients try port 5222 of " + name + ", where this server does not listen",
                     "_xmpp-client._tcp." + name + ". 3600 IN SRV 5 0 " + std::to_string(c.c2s.empty() ? 5222 : c.c2s.front().port) + ' ' + name + '.'});
    else if (starttls->empty())
      out.push_back({"dns.address", severity::ok, name + " has an address; clients try port 5222 there", {}});
    if (direct->empty() && !c.c2s_direct.empty())
      out.push_back({"dns.no_direct", severity::note, "no SRV record says that " + name + " takes TLS from the first byte (XEP-0368): some networks let nothing else through",
                     "_xmpps-client._tcp." + name + ". 3600 IN SRV 5 0 " + std::to_string(c.c2s_direct.front().port) + ' ' + name + '.'});
  }
}

} // namespace server::doctor
