// The doctor's parts, each with something wrong.
#include "server/doctor/examine.hpp"
#include "server/doctor/parts.hpp"
#include "tests/server/programs.hpp"
#include "tests/server/taken_port.hpp"
#include <algorithm>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace server::doctor;
using namespace server_tests;

namespace {
std::set<std::string> codes(const findings& all) {
  std::set<std::string> found;
  for (auto& f : all)
    found.insert(f.code);
  return found;
}
const finding& the(const findings& all, const std::string& code) {
  auto i = std::find_if(all.begin(), all.end(), [&](auto& f) { return f.code == code; });
  REQUIRE(i != all.end());
  return *i;
}

/// A DNS server with these SRV and A records; silent for every other type where it is told so.
class fake_dns {
public:
  struct srv { std::string name, target; std::uint16_t port; };
  fake_dns(std::vector<srv> services, std::vector<std::string> with_address, bool is_silent = false)
    : services_(std::move(services)), with_address_(std::move(with_address)), is_silent_(is_silent) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof a;
    REQUIRE(bind(fd_, reinterpret_cast<sockaddr*>(&a), size) == 0);
    REQUIRE(getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) == 0);
    address = "127.0.0.1:" + std::to_string(ntohs(a.sin_port));
    timeval limit{0, 50'000};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    thread_ = std::thread{[this] { serve(); }};
  }
  ~fake_dns() {
    stops_ = true;
    thread_.join();
    close(fd_);
  }
  std::string address;

private:
  static std::string wire(const std::string& name) {
    std::string out;
    for (std::size_t from = 0; from < name.size();) {
      auto dot = std::min(name.find('.', from), name.size());
      out += static_cast<char>(dot - from);
      out += name.substr(from, dot - from);
      from = dot + 1;
    }
    return out + '\0';
  }
  static std::string u16(std::size_t n) { return {static_cast<char>(n >> 8), static_cast<char>(n)}; }

  void serve() {
    char buffer[512];
    sockaddr_in from{};
    while (!stops_) {
      socklen_t size = sizeof from;
      auto n = recvfrom(fd_, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (n < 17 || is_silent_)
        continue;
      std::string question{buffer + 12, static_cast<std::size_t>(n - 12)}, name;
      std::size_t at = 0;
      for (; question[at] != 0; at += static_cast<std::size_t>(question[at]) + 1)
        name += (name.empty() ? "" : ".") + question.substr(at + 1, static_cast<std::size_t>(question[at]));
      question.resize(at + 5);
      int type = question[at + 2];
      std::vector<std::string> answers;
      for (auto& s : services_)
        if (type == 33 && s.name == name)
          answers.push_back(u16(5) + u16(0) + u16(s.port) + wire(s.target));
      if (type == 1 && std::find(with_address_.begin(), with_address_.end(), name) != with_address_.end())
        answers.push_back({"\x7f\x00\x00\x01", 4});
      auto reply = std::string{buffer, 2} + "\x81\x80" + u16(1) + u16(answers.size()) + u16(0) + u16(0) + question;
      for (auto& a : answers)
        reply += "\xc0\x0c" + u16(static_cast<std::size_t>(type)) + u16(1) + u16(0) + u16(60) + u16(a.size()) + a;
      sendto(fd_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
  }
  std::vector<srv> services_;
  std::vector<std::string> with_address_;
  bool is_silent_;
  int fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  std::atomic<bool> stops_{false};
  std::thread thread_;
};

findings ask_dns(const fake_dns& at, std::uint16_t c2s = 5222) {
  server::config c;
  c.c2s = {{"0.0.0.0", c2s}};
  c.c2s_direct = {{"0.0.0.0", 5223}};
  c.hosts.push_back({});
  c.hosts.back().domain = "chat.covey.im";
  auto dns = resolver::open(at.address);
  REQUIRE(dns);
  findings out;
  check_dns(c, *dns, out);
  return out;
}
} // namespace

TEST_CASE("doctor: records of DNS") {
  const std::string host = "chat.covey.im", plain = "_xmpp-client._tcp." + host, direct = "_xmpps-client._tcp." + host;
  CHECK(codes(ask_dns({{{plain, "a.covey.im", 5222}, {direct, "a.covey.im", 5223}}, {"a.covey.im"}})) == std::set<std::string>{"dns.srv"});
  CHECK(codes(ask_dns({{{plain, "a.covey.im", 5555}, {direct, ".", 0}}, {"a.covey.im"}})) == std::set<std::string>{"dns.wrong_port", "dns.srv"});
  CHECK(codes(ask_dns({{{plain, "b.covey.im", 5222}}, {}})) == std::set<std::string>{"dns.no_address", "dns.no_direct"});
  CHECK(codes(ask_dns({{}, {host}})) == std::set<std::string>{"dns.address", "dns.no_direct"});
  CHECK(codes(ask_dns({{}, {host}}, 7000)) == std::set<std::string>{"dns.no_srv", "dns.no_direct"});
  CHECK(codes(ask_dns({{}, {}})) == std::set<std::string>{"dns.nothing", "dns.no_direct"});
  auto from = std::chrono::steady_clock::now();
  CHECK(codes(ask_dns({{}, {}, true})) == std::set<std::string>{"dns.silent"});
  CHECK(std::chrono::steady_clock::now() - from < std::chrono::seconds{15});
  CHECK_FALSE(resolver::open("dns.example"));
  CHECK_FALSE(resolver::open("127.0.0.1:port"));
}

TEST_CASE("doctor: who holds a port") {
  taken_port taken_one;
  auto port = taken_one.port;
  for (auto* address : {"127.0.0.1", "0.0.0.0"}) {
    auto who = holder_of({address, port});
    REQUIRE(who);
    CHECK(who->pid == getpid());
    CHECK(who->program == "test_server");
  }
  CHECK_FALSE(holder_of({"127.0.0.2", port}));
  CHECK_FALSE(holder_of({"::1", port}));
  server::config c;
  c.c2s = {{"127.0.0.1", port}};
  c.c2s_direct = c.http = {};
  findings taken, own, closed;
  check_ports(c, {}, taken);
  CHECK(the(taken, "port.taken").text.find("test_server (pid " + std::to_string(getpid())) != std::string::npos);
  check_ports(c, {getpid(), false}, own);
  CHECK(codes(own) == std::set<std::string>{"port.served"});
  taken_one.give_up();
  check_ports(c, {getpid(), false}, closed);
  CHECK(codes(closed) == std::set<std::string>{"port.closed"});
}

TEST_CASE("doctor: clock and disk") {
  folder f;
  std::filesystem::create_directories(f.at("store"));
  f.write("store/CURRENT", "");
  findings now, later, disk, absent, forbidden;
  check_clock(f.path(), now);
  CHECK_FALSE(codes(now).contains("clock.behind"));
  std::filesystem::last_write_time(f.at("store/CURRENT"), std::filesystem::file_time_type::clock::now() + std::chrono::hours{1});
  check_clock(f.path(), later);
  CHECK(codes(later).contains("clock.behind"));
  auto times = measure_sync(f.path());
  REQUIRE(times);
  CHECK(times->median.count() >= 0);
  CHECK(times->worst >= times->median);
  CHECK(std::distance(std::filesystem::directory_iterator{f.path()}, {}) == 1); // nothing is left behind
  check_storage(f.path(), disk);
  CHECK((codes(disk).contains("storage.fast") || codes(disk).contains("storage.slow")));
  check_storage(f.at("nowhere"), absent);
  CHECK(codes(absent) == std::set<std::string>{"storage.absent"});
  check_storage("/proc", forbidden);
  CHECK(codes(forbidden).contains("storage.not_writable"));
}

TEST_CASE("doctor: what clients miss is what modules do not register") {
  server::config c;
  c.hosts.push_back({});
  c.hosts.back().domain = "localhost";
  for (auto& m : modules::all())
    for (auto& k : m->keys()) {
      server::setting_value v;
      v.number = 1;
      c.hosts.back().modules[std::string{m->name()}][k.name] = v;
    }
  findings with, without;
  check_clients(c, with);
  CHECK(the(with, "client.misses").how == severity::note);
  c.hosts.back().modules_on["ping"] = false;
  check_clients(c, without);
  auto& worse = the(without, "client.misses_switched_off");
  CHECK(worse.how == severity::warning);
  CHECK(worse.text.find("XEP-0199") != std::string::npos);
}

TEST_CASE("doctor: the whole visit; the exit status is 0 only if all passed") {
  node n;
  auto visit = [&] {
    auto o = n.covey({"doctor", "--json", "--nameserver", "127.0.0.1:9"});
    auto j = nlohmann::json::parse(o.out);
    bool is_good = true;
    std::set<std::string> found;
    for (auto& f : j["findings"]) {
      is_good &= f["severity"] == "ok" || f["severity"] == "note";
      found.insert(f["code"]);
      CHECK_FALSE(f["text"].get<std::string>().empty());
      if (f["severity"] == "warning" || f["severity"] == "error")
        CHECK_FALSE(f["remedy"].get<std::string>().empty());
    }
    CHECK(j["ok"] == (o.code == 0));
    CHECK((o.code == 0) == is_good);
    return found;
  };
  auto down = visit();
  CHECK(down.contains("server.down"));
  CHECK(down.contains("port.free"));
  REQUIRE(n.start());
  auto up = visit();
  for (auto* code : {"config.good", "server.up", "port.served", "stream.answered", "certificate.good", "dns.not_asked"}) {
    CAPTURE(code);
    CHECK(up.contains(code));
  }
  CHECK_FALSE(up.contains("port.closed"));
  n.where.write("data/certificates/localhost.pem", "damaged");
  CHECK(visit().contains("certificate.broken"));
  std::ofstream{n.config, std::ios::app} << "nonsense = 1\n";
  CHECK(n.covey({"doctor"}).code == 78);
  CHECK(n.covey({"doctor", "--nameserver", "nonsense"}).code == 2);
}
