// PROXY headers from any bytes: what is taken as a whole is good so far in each of its pieces, whatever
// follows it; what is refused stays refused; addresses keep their text.
#include "net/proxy_header.hpp"
#include <cstdlib>

namespace {
void require(bool holds) {
  if (!holds)
    std::abort();
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string in{reinterpret_cast<const char*>(data), size};
  auto h = net::parse_proxy_header(in);
  auto longer = net::parse_proxy_header(in + 'x');
  if (!h) {
    if (h.error() == net::proxy_errc::incomplete)
      require(size < net::longest_proxy_header);
    else if (h.error() == net::proxy_errc::missing)
      require(!longer && longer.error() == h.error());
    else
      require(!longer); // a line that goes on may be too long besides
    return 0;
  }
  require(h->size <= size && h->size <= net::longest_proxy_header);
  require(longer && longer->size == h->size && longer->source == h->source);
  for (std::size_t n = 0; n < h->size; ++n) {
    auto part = net::parse_proxy_header(std::string_view{in}.substr(0, n));
    require(!part && part.error() == net::proxy_errc::incomplete);
  }
  if (h->source)
    require(net::parse_address(net::address_text(*h->source), h->source->port) == *h->source);
  return 0;
}
