// Counted references: one word each, the count inside the object, released on any thread.
#pragma once
#include <atomic>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>

namespace base {

/// A shared, usually immutable object. `ref<const stanza>` is one pointer.
template <class T>
using ref = boost::intrusive_ptr<T>;

/// Gives `T` its count. A type with trailing bytes supplies `static void destroy(T*)`.
template <class T>
class counted {
public:
  counted() = default;
  counted(const counted&) = delete;
  counted& operator=(const counted&) = delete;
  [[nodiscard]] bool is_unique() const { return refs_.load(std::memory_order_acquire) == 1; }

  friend void intrusive_ptr_add_ref(const T* p) {
    static_cast<const counted*>(p)->refs_.fetch_add(1, std::memory_order_relaxed);
  }
  friend void intrusive_ptr_release(const T* p) {
    if (static_cast<const counted*>(p)->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1)
      dispose(const_cast<T*>(p));
  }

protected:
  ~counted() = default;
  mutable std::atomic<std::uint32_t> refs_{0};

private:
  static void dispose(T* p) {
    if constexpr (requires { T::destroy(p); })
      T::destroy(p);
    else
      delete p;
  }
};

} // namespace base
