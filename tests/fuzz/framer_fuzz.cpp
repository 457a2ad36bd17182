// The framer on any bytes: the same verdict whole and in pieces, and nothing accepted that pieces refuse.
// Input: a byte of options, a byte that seeds the cuts, the bytes of a connection.
#include "xmpp/framer.hpp"
#include <cstdio>
#include <cstdlib>
#include <cstring>

using namespace xmpp;

namespace {
/// Everything that one run over a connection's bytes says, in order.
struct history {
  std::string log;
  bool operator==(const history&) const = default;
};

void note(history& h, framer_event e, const framer& f) {
  auto put = [&h](std::uint64_t v) {
    h.log += std::to_string(v);
    h.log += ' ';
  };
  put(static_cast<std::uint64_t>(e));
  if (e == framer_event::error)
    return put(static_cast<std::uint64_t>(f.error()));
  put(f.position());
  auto& r = f.result();
  for (auto s : {r.to, r.from, r.id, r.type, r.lang, r.origin_id, r.ns}) {
    put(s.at);
    put(s.size);
  }
  for (std::uint64_t v : {std::uint64_t{r.size}, std::uint64_t{r.tag_end}, std::uint64_t{r.close_at}, std::uint64_t{r.children},
                          std::uint64_t{r.header_prefixes}, static_cast<std::uint64_t>(r.kind), std::uint64_t{r.has_stanza_id}})
    put(v);
}

/// As a connection does it; `piece` says how many more bytes come next.
template <class Piece>
history follow(std::string_view in, std::uint8_t options, Piece piece) {
  framer f{options & 1 ? framer::mode::frame : framer::mode::stream,
           options & 2 ? framer_limits::before_login() : framer_limits{2'000, 8, 6, 6, 40}};
  stream_open open;
  open.prefixes = {{"p", "urn:p"}, {"q", "jabber:client"}};
  open.content_ns = options & 8 ? "jabber:server" : "jabber:client";
  if (options & 4)
    f.enter_stream(options & 16 ? &open : nullptr);
  history h;
  std::size_t start = 0, have = 0;
  for (;;) {
    if (f.is_idle())
      start += leading_space(in.substr(start, have > start ? have - start : 0));
    auto e = f.run(in.substr(start, have > start ? have - start : 0));
    if (e == framer_event::more) {
      if (have == in.size())
        return h;
      have = std::min(in.size(), have + piece());
      continue;
    }
    note(h, e, f);
    if (e == framer_event::error || e == framer_event::end)
      return h;
    if (e == framer_event::header) {
      open = f.header(in.substr(start, f.position()));
      start += f.position();
      f.enter_stream(&open);
    } else {
      start += f.position();
      f.next();
    }
  }
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  std::string_view in{reinterpret_cast<const char*>(data) + 2, size - 2};
  std::uint32_t random = data[1] * 2'654'435'761u + 1;
  auto whole = follow(in, data[0], [&] { return in.size(); });
  auto cut = follow(in, data[0], [&] { return 1 + ((random = random * 1'664'525 + 1'013'904'223) >> 27); });
  auto bytes = follow(in, data[0], [] { return std::size_t{1}; });
  if (whole != cut || whole != bytes) {
    std::fprintf(stderr, "whole %s\ncut   %s\nbytes %s\n", whole.log.c_str(), cut.log.c_str(), bytes.log.c_str());
    std::abort();
  }
  return 0;
}
