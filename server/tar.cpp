// Fields of a header: octal numbers in fixed places, and a sum of all bytes.
#include "server/tar.hpp"
#include <algorithm>
#include <cstring>

namespace server::tar {

namespace {
struct field { std::size_t at, size; };
constexpr field name_field{0, 100}, mode_field{100, 8}, user_field{108, 8}, group_field{116, 8}, size_field{124, 12}, time_field{136, 12},
    sum_field{148, 8}, magic_field{257, 8};
constexpr std::size_t type_at = 156;

void put_octal(std::string& b, field f, std::uint64_t n) {
  for (auto i = f.size - 1; i-- > 0; n >>= 3)
    b[f.at + i] = static_cast<char>('0' + (n & 7));
}
std::optional<std::uint64_t> octal(std::string_view b, field f) {
  std::uint64_t n = 0;
  for (std::size_t i = 0; i < f.size && b[f.at + i] != '\0' && b[f.at + i] != ' '; ++i) {
    if (b[f.at + i] < '0' || b[f.at + i] > '7')
      return std::nullopt;
    n = n << 3 | static_cast<std::uint64_t>(b[f.at + i] - '0');
  }
  return n;
}
/// With spaces in place of the sum itself.
std::uint64_t sum_of(std::string_view b) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < block; ++i)
    sum += i >= sum_field.at && i < sum_field.at + sum_field.size ? ' ' : static_cast<unsigned char>(b[i]);
  return sum;
}
} // namespace

std::string header(const member& m) {
  std::string b(block, '\0');
  b.replace(name_field.at, m.name.size(), m.name);
  put_octal(b, mode_field, 0600);
  put_octal(b, user_field, 0);
  put_octal(b, group_field, 0);
  put_octal(b, size_field, m.size);
  put_octal(b, time_field, 0);
  b[type_at] = '0';
  b.replace(magic_field.at, magic_field.size, std::string{"ustar\00000", 8});
  auto sum = sum_of(b);
  put_octal(b, {sum_field.at, 7}, sum);
  b[sum_field.at + 7] = ' ';
  return b;
}

std::optional<member> parse_header(std::string_view b) {
  if (b.size() != block || b[type_at] != '0' || b.substr(magic_field.at, 5) != "ustar")
    return std::nullopt;
  auto sum = octal(b, sum_field), size = octal(b, size_field);
  if (!sum || !size || *sum != sum_of(b))
    return std::nullopt;
  auto name = b.substr(name_field.at, name_field.size);
  name = name.substr(0, name.find('\0'));
  if (name.empty() || name.size() > longest_name)
    return std::nullopt;
  return member{std::string{name}, *size};
}

} // namespace server::tar
