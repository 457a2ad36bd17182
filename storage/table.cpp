// Key columns as bytes, and back.
#include "storage/table.hpp"

namespace storage {

key_builder& key_builder::text(std::string_view s) {
  count(column_type::text);
  for (auto nul = s.find('\0'); nul != s.npos; nul = s.find('\0')) {
    key_.append(s.substr(0, nul + 1));
    key_.push_back('\xff');
    s.remove_prefix(nul + 1);
  }
  key_.append(s);
  key_.append(2, '\0');
  return *this;
}

key_range key_builder::range() {
  auto until = key_;
  for (;;) { // the smallest key above the prefix; ends at the table's id, which is never ff
    auto& last = until.back();
    if (static_cast<unsigned char>(last) != 0xff) {
      ++last;
      break;
    }
    until.pop_back();
  }
  return {std::move(key_), std::move(until)};
}

base::result<std::string, errc> key_reader::text() {
  std::string out;
  while (is_good_) {
    auto nul = rest_.find('\0');
    is_good_ = nul != rest_.npos && nul + 1 < rest_.size();
    if (!is_good_)
      break;
    out.append(rest_.substr(0, nul));
    auto mark = rest_[nul + 1];
    rest_.remove_prefix(nul + 2);
    if (mark == '\0')
      return out;
    is_good_ = mark == '\xff';
    out.push_back('\0');
  }
  return base::fail(errc::corrupt);
}

base::result<std::uint64_t, errc> key_reader::number() {
  is_good_ = is_good_ && rest_.size() >= 8;
  if (!is_good_)
    return base::fail(errc::corrupt);
  auto v = base::get_be64(rest_);
  rest_.remove_prefix(8);
  return v;
}

base::result<base::u128, errc> key_reader::id() {
  is_good_ = is_good_ && rest_.size() >= 16;
  if (!is_good_)
    return base::fail(errc::corrupt);
  base::u128 v{base::get_be64(rest_), base::get_be64(rest_.substr(8))};
  rest_.remove_prefix(16);
  return v;
}

} // namespace storage
