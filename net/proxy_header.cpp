// Sections are those of the PROXY protocol's specification (proxy-protocol.txt).
#include "net/proxy_header.hpp"
#include "base/bytes.hpp"
#include <algorithm>
#include <vector>

namespace net {

namespace {
using namespace std::string_view_literals;
using parsed = base::result<proxy_header, proxy_errc>;

constexpr auto signature_1 = "PROXY "sv, signature_2 = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr std::size_t longest_1 = 107, fixed_2 = 16;

std::uint8_t byte_at(std::string_view s, std::size_t i) { return static_cast<std::uint8_t>(s[i]); }
std::uint16_t get_be16(std::string_view s) { return static_cast<std::uint16_t>(byte_at(s, 0) << 8 | byte_at(s, 1)); }

/// Decimal, no leading zeros (section 2.1).
std::optional<std::uint16_t> port_of(std::string_view text) {
  if (text.size() > 1 && text.front() == '0')
    return std::nullopt;
  return base::to_number<std::uint16_t>(text);
}

/// Section 2.1: one line of text, "PROXY TCP4 source destination port port".
parsed parse_1(std::string_view in) {
  auto end = in.substr(0, longest_1).find('\n');
  if (end == in.npos)
    return base::fail(in.size() >= longest_1 ? proxy_errc::too_long : proxy_errc::incomplete);
  if (in[end - 1] != '\r')
    return base::fail(proxy_errc::malformed);
  proxy_header h{end + 1, {}};
  auto line = in.substr(signature_1.size(), end - 1 - signature_1.size());
  std::vector<std::string_view> words;
  for (std::size_t from = 0; from <= line.size();) {
    auto space = std::min(line.find(' ', from), line.size());
    words.push_back(line.substr(from, space - from));
    from = space + 1;
  }
  if (words[0] == "UNKNOWN") // whatever follows
    return h;
  bool is_v4 = words[0] == "TCP4";
  if (words.size() != 5 || (!is_v4 && words[0] != "TCP6"))
    return base::fail(proxy_errc::malformed);
  auto has_family = [&](std::string_view address) { return (address.find(':') == address.npos) == is_v4; };
  auto from_port = port_of(words[3]), to_port = port_of(words[4]);
  if (!has_family(words[1]) || !has_family(words[2]) || !from_port || !to_port || !parse_address(std::string{words[2]}))
    return base::fail(proxy_errc::malformed);
  h.source = parse_address(std::string{words[1]}, *from_port);
  if (!h.source)
    return base::fail(proxy_errc::malformed);
  return h;
}

/// CRC32c (RFC 3720 appendix B.4), bit by bit: a header is short.
std::uint32_t crc32c(std::string_view in) {
  std::uint32_t crc = ~0u;
  for (unsigned char c : in) {
    crc ^= c;
    for (int bit = 0; bit < 8; ++bit)
      crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0u);
  }
  return ~crc;
}

/// Section 2.2.4: types and values to the end of the header.
std::optional<proxy_errc> check_additions(std::string_view header, std::size_t from) {
  constexpr std::uint8_t type_crc32c = 3;
  while (from < header.size()) {
    auto left = header.substr(from);
    if (left.size() < 3)
      return proxy_errc::malformed;
    std::size_t size = get_be16(left.substr(1));
    if (size > left.size() - 3)
      return proxy_errc::malformed;
    if (byte_at(left, 0) == type_crc32c) {
      if (size != 4)
        return proxy_errc::malformed;
      std::uint32_t sent = static_cast<std::uint32_t>(get_be16(left.substr(3))) << 16 | get_be16(left.substr(5));
      std::string blank{header};
      blank.replace(from + 3, 4, 4, '\0');
      if (crc32c(blank) != sent)
        return proxy_errc::bad_checksum;
    }
    from += 3 + size;
  }
  return std::nullopt;
}

/// Section 2.2: sixteen bytes, addresses, additions.
parsed parse_2(std::string_view in) {
  constexpr std::uint8_t version_2 = 0x20, local = 0, proxy = 1;
  constexpr std::uint8_t unspecified = 0x00, tcp_4 = 0x11, tcp_6 = 0x21, unix_stream = 0x31;
  if (in.size() > 12 && (byte_at(in, 12) & 0xf0) != version_2)
    return base::fail(proxy_errc::malformed);
  if (in.size() > 12 && (byte_at(in, 12) & 0x0f) > proxy)
    return base::fail(proxy_errc::malformed);
  if (in.size() < fixed_2)
    return base::fail(proxy_errc::incomplete);
  auto size = fixed_2 + get_be16(in.substr(14));
  if (size > longest_proxy_header)
    return base::fail(proxy_errc::too_long);
  auto command = byte_at(in, 12) & 0x0f, family = int{byte_at(in, 13)};
  bool has_meaning = command != local && family != unspecified;
  auto addresses = family == tcp_4 ? 12u : family == tcp_6 ? 36u : family == unix_stream ? 216u : 0u;
  if (has_meaning && (addresses == 0 || size < fixed_2 + addresses))
    return base::fail(proxy_errc::malformed);
  if (in.size() < size)
    return base::fail(proxy_errc::incomplete);
  proxy_header h{size, {}};
  if (!has_meaning)
    return h;
  if (auto wrong = check_additions(in.substr(0, size), fixed_2 + addresses))
    return base::fail(*wrong);
  auto at = in.substr(fixed_2);
  if (family == tcp_4)
    h.source = v4_endpoint(at, get_be16(at.substr(8)));
  if (family == tcp_6) {
    h.source.emplace();
    std::copy_n(at.begin(), 16, h.source->bytes.begin());
    h.source->port = get_be16(at.substr(32));
  }
  return h;
}
} // namespace

std::string_view name_of(proxy_errc e) {
  switch (e) {
    case proxy_errc::incomplete: return "incomplete";
    case proxy_errc::missing: return "missing";
    case proxy_errc::malformed: return "malformed";
    case proxy_errc::too_long: return "too long";
    case proxy_errc::bad_checksum: return "bad checksum";
  }
  return {};
}

parsed parse_proxy_header(std::string_view in) {
  auto begins = [in](std::string_view signature) {
    auto n = std::min(in.size(), signature.size());
    return in.substr(0, n) == signature.substr(0, n);
  };
  bool is_1 = begins(signature_1), is_2 = begins(signature_2);
  if (!is_1 && !is_2)
    return base::fail(proxy_errc::missing);
  if (in.size() < (is_1 ? signature_1 : signature_2).size())
    return base::fail(proxy_errc::incomplete);
  return is_1 ? parse_1(in) : parse_2(in);
}

} // namespace net
