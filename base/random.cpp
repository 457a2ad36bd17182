// The operating system's randomness, and a seeded one.
#include "base/random.hpp"
#include "base/bytes.hpp"
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/random.h>

namespace base {

std::string random::hex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  fill({reinterpret_cast<std::uint8_t*>(raw.data()), raw.size()});
  return to_hex(raw);
}

std::uint64_t random::number() {
  std::uint64_t v;
  fill({reinterpret_cast<std::uint8_t*>(&v), sizeof v});
  return v;
}

void secure_random::fill(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    auto n = getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      throw std::runtime_error{"getrandom failed"}; // a kernel without randomness: nothing is safe
    out = out.subspan(static_cast<std::size_t>(n));
  }
}

void seeded_random::fill(std::span<std::uint8_t> out) {
  for (auto& b : out)
    b = static_cast<std::uint8_t>(engine_() >> 24);
}

} // namespace base
