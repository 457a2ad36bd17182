// The operating system's randomness, and a seeded one.
#include "base/random.hpp"
#include "base/bytes.hpp"
#include <array>
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

namespace {
void from_kernel(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    auto n = getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      throw std::runtime_error{"getrandom failed"}; // a kernel without randomness: nothing is safe
    out = out.subspan(static_cast<std::size_t>(n));
  }
}

/// Bytes that the kernel has given to this thread ahead of time: a system call for each stanza-id was
/// half of what a message costs. What was handed out is wiped at once.
struct stock {
  std::array<std::uint8_t, 4'096> bytes;
  std::size_t used = sizeof bytes;
};
} // namespace

void secure_random::fill(std::span<std::uint8_t> out) {
  constexpr std::size_t most_from_stock = 64;
  if (out.size() > most_from_stock)
    return from_kernel(out);
  thread_local stock s;
  if (out.size() > s.bytes.size() - s.used) {
    from_kernel(s.bytes);
    s.used = 0;
  }
  auto* from = s.bytes.data() + s.used;
  std::memcpy(out.data(), from, out.size());
  std::memset(from, 0, out.size());
  s.used += out.size();
}

void seeded_random::fill(std::span<std::uint8_t> out) {
  for (auto& b : out)
    b = static_cast<std::uint8_t>(engine_() >> 24);
}

} // namespace base
