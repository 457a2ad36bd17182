// "covey rows 1\n", then for each row the sizes of key and value (4 bytes each, big endian), version (8), key, value; at the
// end sizes of all ones and the number of rows.
#include "storage/rows_file.hpp"
#include "base/bytes.hpp"

namespace storage {

namespace {
constexpr std::string_view head = "covey rows 1\n";
constexpr std::uint64_t end_mark = ~std::uint64_t{0}; // both sizes
constexpr std::size_t most_batch = 512u << 10, most_part = 64u << 20;

bool take(std::istream& in, std::string& to, std::size_t size) {
  to.resize(size);
  return static_cast<bool>(in.read(to.data(), static_cast<std::streamsize>(size)));
}
} // namespace

rows_writer::rows_writer(const std::string& path) : out_(path, std::ios::binary | std::ios::trunc) { out_ << head; }

void rows_writer::add(const row& r) {
  std::string h;
  base::put_be64(h, std::uint64_t{r.key.size()} << 32 | r.value.size());
  base::put_be64(h, r.version);
  out_ << h << r.key << r.value;
  ++rows_;
}

bool rows_writer::finish() {
  std::string h;
  base::put_be64(h, end_mark);
  base::put_be64(h, rows_);
  out_ << h;
  out_.close();
  return !out_.fail();
}

base::result<std::uint64_t, std::string> load_rows(const std::string& path, engine& to) {
  std::ifstream in{path, std::ios::binary};
  auto fail = [&](const char* why) { return base::fail(path + ": " + why); };
  std::string text;
  if (!in || !take(in, text, head.size()) || text != head)
    return fail("not a file of rows");
  batch b;
  std::size_t bytes = 0;
  auto write = [&] {
    auto o = b.changes.empty() ? outcome::done : to.commit({&b, 1}).front();
    b = {};
    bytes = 0;
    return o == outcome::done;
  };
  for (std::uint64_t n = 0;; ++n) {
    if (!take(in, text, 16))
      return fail("it ends too early");
    auto sizes = base::get_be64(text), second = base::get_be64(std::string_view{text}.substr(8));
    if (sizes == end_mark) {
      if (second != n)
        return fail("it has another number of rows than it says");
      if (!write())
        return fail("the database did not take its rows");
      return n;
    }
    put p;
    if (sizes >> 32 > most_part || (sizes & 0xffff'ffff) > most_part)
      return fail("it is damaged");
    if (!take(in, p.key, sizes >> 32) || !take(in, p.value, sizes & 0xffff'ffff))
      return fail("it ends too early");
    bytes += p.key.size() + p.value.size();
    b.changes.emplace_back(std::move(p));
    if (bytes > most_batch && !write())
      return fail("the database did not take its rows");
  }
}

} // namespace storage
