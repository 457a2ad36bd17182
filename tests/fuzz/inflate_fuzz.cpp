// Compressed bytes from anybody: each step stays within its room, the whole within the ratio, and it ends.
// Input: two bytes of options, then what is inflated.
#include "net/deflate.hpp"
#include <cstdlib>
#include <vector>

namespace {
void require(bool holds) {
  if (!holds)
    std::abort();
}
} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2)
    return 0;
  std::vector<char> room(1 + data[0] * 16u);
  std::size_t piece = 1 + data[1];
  net::inflater z{10};
  std::string_view in{reinterpret_cast<const char*>(data) + 2, size - 2};
  std::string all;
  boost::system::error_code ec;
  while (!in.empty() && !ec) {
    auto now = in.substr(0, piece);
    in.remove_prefix(now.size());
    do {
      auto n = z.run(now, room.data(), room.size(), ec);
      require(n <= room.size() && (!ec || n == 0));
      all.append(room.data(), n);
    } while (!ec && (!now.empty() || z.has_more()));
  }
  require(all.size() <= 65'536 + room.size() || all.size() <= 2 * size * 10 + room.size());
  net::deflater d;
  std::string packed;
  d.run(all.empty() ? "x" : all, packed);
  net::inflater again{100'000};
  std::string_view left{packed};
  std::string same;
  do {
    auto n = again.run(left, room.data(), room.size(), ec);
    require(!ec);
    same.append(room.data(), n);
  } while (!left.empty() || again.has_more());
  require(same == (all.empty() ? "x" : all));
  return 0;
}
