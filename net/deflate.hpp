// zlib streams (RFC 1950) for XEP-0138, bounded in memory, in what one step yields and in ratio.
#pragma once
#include <boost/system/error_code.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct z_stream_s;

namespace net {

enum class deflate_errc {
  broken = 1, // not what zlib writes, or a stream that ends
  too_dense,  // it swells by more than the allowed ratio
};
[[nodiscard]] boost::system::error_code make_error_code(deflate_errc e);
[[nodiscard]] bool is_deflate_error(const boost::system::error_code& e);

/// One peer's bytes, inflated piece by piece. About 40 kB.
class inflater {
public:
  /// `ratio`: bytes out for one byte in, above the first 64 kB, over the last megabyte or so.
  explicit inflater(std::uint32_t ratio); // throws std::bad_alloc
  ~inflater();
  inflater(const inflater&) = delete;

  /// Writes at most `size` bytes and returns how many; takes what it used off `in`. 0 without an
  /// error: more input is needed.
  std::size_t run(std::string_view& in, char* to, std::size_t size, boost::system::error_code& ec);
  /// The last run() filled its room: there may be more without any input.
  [[nodiscard]] bool has_more() const { return has_more_; }

private:
  std::unique_ptr<z_stream_s> z_;
  std::uint64_t in_ = 0, out_ = 0;
  std::uint32_t ratio_;
  bool has_more_ = false;
};

/// Our bytes, deflated; everything that was given can be inflated by the peer (a sync flush ends each
/// piece). About 64 kB: a window of 8 kB finds what repeats between stanzas.
class deflater {
public:
  deflater(); // throws std::bad_alloc
  ~deflater();
  deflater(const deflater&) = delete;
  /// Appends to `out`.
  void run(std::string_view in, std::string& out);

private:
  std::unique_ptr<z_stream_s> z_;
};

} // namespace net
