// What a load balancer says of the client in front of a connection: the PROXY protocol, versions 1 and 2.
#pragma once
#include "base/result.hpp"
#include "net/endpoint.hpp"
#include <cstddef>

namespace net {

struct proxy_header {
  std::size_t size = 0; // so many bytes are the header's; what follows is the client's
  /// Nothing where the balancer speaks for itself (LOCAL, a health check), does not know (UNKNOWN,
  /// UNSPEC) or has a client without an IP address (a unix socket): then its own address counts.
  std::optional<endpoint> source;
};

enum class proxy_errc {
  incomplete,   // good so far: all of it belongs to the header
  missing,      // this is something else
  malformed,
  too_long,     // more than `longest_proxy_header`; 107 bytes in version 1
  bad_checksum, // PP2_TYPE_CRC32C is there and wrong
};
[[nodiscard]] std::string_view name_of(proxy_errc e);

/// Room for what balancers add (TLVs): names, a client certificate.
inline constexpr std::size_t longest_proxy_header = 4'096;

/// `in`: all that came so far. A header is taken or refused as a whole, whatever pieces it comes in.
/// Version 2: STREAM only; TLVs are walked, and of no meaning here but for the checksum.
[[nodiscard]] base::result<proxy_header, proxy_errc> parse_proxy_header(std::string_view in);

} // namespace net
