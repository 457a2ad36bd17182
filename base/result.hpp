// Expected outcomes are results, broken invariants are asserts (docs/architecture.md).
#pragma once
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace base {

/// A value or the layer's own error. Errors are small enums or structs, never exceptions.
template <class T, class E>
using result = tl::expected<T, E>;

template <class E>
[[nodiscard]] auto fail(E&& error) {
  return tl::make_unexpected(std::forward<E>(error));
}

} // namespace base
