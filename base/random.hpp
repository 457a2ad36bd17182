// Randomness by injection: the operating system's in a server, a seeded one in tests.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace base {

class random {
public:
  virtual ~random() = default;
  virtual void fill(std::span<std::uint8_t> out) = 0;
  /// `bytes` random bytes as lower-case hexadecimal digits (twice as many characters).
  [[nodiscard]] std::string hex(std::size_t bytes);
  [[nodiscard]] std::uint64_t number();
};

/// Fit for keys, nonces and ids that nobody may guess. Any thread. Not for a process that forks and goes
/// on in both: up to 64 bytes come from a stock of the thread's own, which a fork would share.
class secure_random final : public random {
public:
  void fill(std::span<std::uint8_t> out) override;
};

/// The same every run: for tests and simulations only.
class seeded_random final : public random {
public:
  explicit seeded_random(std::uint64_t seed) : engine_(seed) {}
  void fill(std::span<std::uint8_t> out) override;

private:
  std::mt19937_64 engine_;
};

} // namespace base
