// zlib stays here.
#include "net/deflate.hpp"
#include <new>
#include <zlib.h>

namespace net {

namespace {
constexpr std::uint64_t always_allowed = 64 * 1'024, window = 1 << 20;
constexpr int window_bits = 13, memory_level = 6;

class category final : public boost::system::error_category {
public:
  [[nodiscard]] const char* name() const noexcept override { return "deflate"; }
  [[nodiscard]] std::string message(int e) const override {
    return e == static_cast<int>(deflate_errc::too_dense) ? "compressed data that swells too much" : "broken compressed data";
  }
};

Bytef* bytes(const char* p) { return reinterpret_cast<Bytef*>(const_cast<char*>(p)); }

void must(int result) {
  if (result != Z_OK)
    throw std::bad_alloc{}; // the only way in which a set-up with good parameters fails
}
} // namespace

boost::system::error_code make_error_code(deflate_errc e) {
  static const category all;
  return {static_cast<int>(e), all};
}

bool is_deflate_error(const boost::system::error_code& e) { return e.category() == make_error_code(deflate_errc::broken).category(); }

inflater::inflater(std::uint32_t ratio) : z_(std::make_unique<z_stream>()), ratio_(ratio) { must(inflateInit(z_.get())); }
inflater::~inflater() { inflateEnd(z_.get()); }

std::size_t inflater::run(std::string_view& in, char* to, std::size_t size, boost::system::error_code& ec) {
  ec = {};
  z_->next_in = bytes(in.data());
  z_->avail_in = static_cast<uInt>(in.size());
  z_->next_out = bytes(to);
  z_->avail_out = static_cast<uInt>(size);
  int result = inflate(z_.get(), Z_SYNC_FLUSH);
  auto made = size - z_->avail_out;
  in_ += in.size() - z_->avail_in;
  out_ += made;
  in.remove_prefix(in.size() - z_->avail_in);
  has_more_ = z_->avail_out == 0;
  if (result != Z_OK && result != Z_BUF_ERROR) { // the end of the zlib stream (Z_STREAM_END) is none of XMPP's
    ec = make_error_code(deflate_errc::broken);
    return 0;
  }
  if (out_ > always_allowed && out_ > in_ * ratio_) {
    ec = make_error_code(deflate_errc::too_dense);
    return 0;
  }
  if (out_ > window) { // what was long ago earns nothing
    in_ /= 2;
    out_ /= 2;
  }
  return made;
}

deflater::deflater() : z_(std::make_unique<z_stream>()) {
  must(deflateInit2(z_.get(), Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, memory_level, Z_DEFAULT_STRATEGY));
}
deflater::~deflater() { deflateEnd(z_.get()); }

void deflater::run(std::string_view in, std::string& out) {
  z_->next_in = bytes(in.data());
  z_->avail_in = static_cast<uInt>(in.size());
  do { // until the flush has room to end
    auto at = out.size();
    out.resize(at + in.size() / 2 + 64);
    z_->next_out = bytes(out.data() + at);
    z_->avail_out = static_cast<uInt>(out.size() - at);
    deflate(z_.get(), Z_SYNC_FLUSH);
    out.resize(out.size() - z_->avail_out);
  } while (z_->avail_out == 0);
}

} // namespace net
