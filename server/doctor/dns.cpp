// The C library's resolver, told to wait 1 s for each server and to ask once.
#include "server/doctor/dns.hpp"
#include "base/bytes.hpp"
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

namespace server::doctor {

namespace {
constexpr int largest_answer = 16'384;
constexpr int most_records = 64;
} // namespace

struct resolver::impl {
  struct __res_state state{};
  ~impl() { res_nclose(&state); }

  /// Calls `each(message, record)`. False: nobody answered.
  template <class Each>
  base::result<void, std::string> ask(const std::string& name, ns_type type, Each each) {
    unsigned char answer[largest_answer];
    int size = res_nquery(&state, name.c_str(), ns_c_in, type, answer, sizeof answer);
    if (size < 0 && (state.res_h_errno == HOST_NOT_FOUND || state.res_h_errno == NO_DATA))
      return {};
    if (size < 0)
      return base::fail(std::string{hstrerror(state.res_h_errno)});
    ns_msg message;
    if (ns_initparse(answer, std::min(size, largest_answer), &message) != 0)
      return base::fail(std::string{"an answer that is none"});
    for (int i = 0; i < ns_msg_count(message, ns_s_an) && i < most_records; ++i) {
      ns_rr record;
      if (ns_parserr(&message, ns_s_an, i, &record) != 0)
        return base::fail(std::string{"an answer that is none"});
      if (ns_rr_type(record) == type) // not the aliases on the way
        each(message, record);
    }
    return {};
  }
};

resolver::resolver() : impl_(std::make_unique<impl>()) {}
resolver::~resolver() = default;

std::unique_ptr<resolver> resolver::open(const std::string& nameserver) {
  std::unique_ptr<resolver> r{new resolver};
  auto& s = r->impl_->state;
  if (res_ninit(&s) != 0)
    return nullptr;
  s.retrans = 1;
  s.retry = 1;
  if (nameserver.empty())
    return r;
  auto colon = nameserver.find(':');
  auto port = colon == nameserver.npos ? std::optional<std::uint16_t>{53} : base::to_number<std::uint16_t>(nameserver.substr(colon + 1));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port.value_or(0));
  if (!port || inet_pton(AF_INET, nameserver.substr(0, colon).c_str(), &at.sin_addr) != 1)
    return nullptr;
  s.nscount = 1;
  s.nsaddr_list[0] = at;
  return r;
}

base::result<std::vector<srv_record>, std::string> resolver::srv(const std::string& name) {
  std::vector<srv_record> all;
  auto ok = impl_->ask(name, ns_t_srv, [&](ns_msg& m, ns_rr& rr) {
    char target[NS_MAXDNAME];
    auto* data = ns_rr_rdata(rr);
    if (ns_rr_rdlen(rr) < 7 || dn_expand(ns_msg_base(m), ns_msg_end(m), data + 6, target, sizeof target) < 0)
      return;
    all.push_back({static_cast<std::uint16_t>(ns_get16(data)), static_cast<std::uint16_t>(ns_get16(data + 2)), static_cast<std::uint16_t>(ns_get16(data + 4)),
                   *target ? target : "."});
  });
  if (!ok)
    return base::fail(ok.error());
  return all;
}

base::result<std::vector<std::string>, std::string> resolver::addresses(const std::string& name) {
  std::vector<std::string> all;
  for (auto [type, family, size] : {std::tuple{ns_t_a, AF_INET, 4}, {ns_t_aaaa, AF_INET6, 16}}) {
    auto ok = impl_->ask(name, type, [&, f = family, n = size](ns_msg&, ns_rr& rr) {
      char text[INET6_ADDRSTRLEN];
      if (ns_rr_rdlen(rr) == n && inet_ntop(f, ns_rr_rdata(rr), text, sizeof text))
        all.emplace_back(text);
    });
    if (!ok)
      return base::fail(ok.error());
  }
  return all;
}

} // namespace server::doctor
