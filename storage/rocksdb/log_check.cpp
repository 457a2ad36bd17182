// The format: blocks of 32 KiB; in them records of CRC-32C (4 bytes, masked), length (2), type (1) and
// payload, little endian; a record never crosses a block, what is longer is cut into first, middle, last.
// The CRC is of type and payload, not of the length: hence the care below.
#include "storage/rocksdb/log_check.hpp"
#include <algorithm>
#include <boost/crc.hpp>
#include <fstream>
#include <optional>
#include <sstream>

namespace storage {

namespace {
constexpr std::size_t block_size = 32'768, header_size = 7, head_bytes = 12;
enum : std::uint8_t { zero, full, first, middle, last };

struct header {
  std::uint32_t crc;
  std::size_t length;
  std::uint8_t type;
};

header read_header(std::string_view b) {
  auto at = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<std::uint8_t>(b[i])); };
  return {at(0) | at(1) << 8 | at(2) << 16 | at(3) << 24, at(4) | at(5) << 8, static_cast<std::uint8_t>(at(6))};
}

/// Of type and payload, masked as it is stored.
std::uint32_t crc_of(std::string_view type_and_payload) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(type_and_payload.data(), type_and_payload.size());
  auto v = static_cast<std::uint32_t>(crc.checksum());
  return (v >> 15 | v << 17) + 0xa282ead8u;
}

bool is_zero(std::string_view s) { return s.find_first_not_of('\0') == s.npos; }

/// A whole record at the beginning of `b`, which is the rest of a block.
bool is_record(std::string_view b) {
  if (b.size() < header_size)
    return false;
  auto h = read_header(b);
  return h.type >= full && h.type <= last && header_size + h.length <= b.size() && crc_of(b.substr(6, 1 + h.length)) == h.crc;
}

/// `b`: from an incomplete record to the end of the file. Whether it is really the end: nothing whole
/// comes after it, and it is not whole itself with another length.
bool is_torn_end(std::string_view b) {
  if (b.size() >= header_size && crc_of(b.substr(6)) == read_header(b).crc)
    return false;
  for (std::size_t i = 1; i + header_size <= b.size(); ++i)
    if (is_record(b.substr(i)))
      return false;
  return true;
}

base::result<void, std::string> damaged(std::size_t offset, const char* what) {
  return base::fail(std::string{what} + " at offset " + std::to_string(offset));
}
} // namespace

base::result<void, std::string> check_log(std::string_view bytes, const on_log_record& each) {
  std::string head; // of the record that is being read
  bool is_open = false; // between a first and its last
  for (std::size_t at = 0; at < bytes.size();) {
    auto block_end = std::min(bytes.size(), at / block_size * block_size + block_size);
    auto rest = bytes.substr(at, block_end - at);
    bool is_last_block = block_end == bytes.size();
    if (rest.size() < header_size) { // too short for a header: filled with zeros, or torn
      if (!is_zero(rest) && !is_last_block)
        return damaged(at, "bytes between two blocks");
      at = block_end;
      continue;
    }
    auto h = read_header(rest);
    if (h.type == zero && h.length == 0) {
      if (!is_zero(bytes.substr(at)))
        return damaged(at, "a record without type");
      return {}; // made long and never written
    }
    if (header_size + h.length > rest.size()) {
      if (!is_last_block || !is_torn_end(rest))
        return damaged(at, "a record with a wrong length");
      return {};
    }
    if (h.type > last || h.type == zero)
      return damaged(at, "a record of an unknown type");
    if (crc_of(rest.substr(6, 1 + h.length)) != h.crc)
      return damaged(at, "a record with a wrong checksum");
    bool goes_on = h.type == middle || h.type == last;
    if (goes_on != is_open)
      return damaged(at, "a record in pieces of which one is missing");
    is_open = h.type == first || h.type == middle;
    if (each) {
      if (!goes_on)
        head.clear();
      head.append(rest.substr(header_size, std::min(h.length, head_bytes - head.size())));
      if (!is_open)
        each(head);
    }
    at += header_size + h.length;
  }
  return {};
}

base::result<void, std::string> check_log_file(const std::string& path, const on_log_record& each) {
  std::ifstream in{path, std::ios::binary};
  std::ostringstream all;
  if (in.peek() != std::ifstream::traits_type::eof())
    all << in.rdbuf();
  if (!in && !in.eof())
    return base::fail(path + ": cannot be read");
  if (auto ok = check_log(all.view(), each); !ok)
    return base::fail(path + ": " + ok.error());
  return {};
}

} // namespace storage
