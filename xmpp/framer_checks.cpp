// What the framer checks beside its states: UTF-8, names, attributes, namespaces.
#include "xmpp/element.hpp"
#include "xmpp/framer_tables.hpp"
#include <algorithm>
#include <cstring>
#include <optional>

namespace xmpp {

using namespace framing;

/// 0: an ASCII byte follows, 1: more input is needed, 2: not UTF-8.
int framer::high(const char* b, std::size_t& i, std::size_t n) {
  for (; i < n; ++i) {
    u8 c = byte(b, i);
    if (need_ == 0) {
      if (c < 0x80)
        return 0;
      if (c >= 0xc2 && c < 0xe0 && i + 1 < n && (byte(b, i + 1) & 0xc0) == 0x80) {
        ++i; // most letters of most alphabets
        continue;
      }
      low_ = 0x80;
      high_ = 0xbf;
      if (c < 0xc2)
        return 2;
      if (c < 0xe0) {
        need_ = 1;
      } else if (c < 0xf0) {
        need_ = 2;
        if (c == 0xe0)
          low_ = 0xa0;
        if (c == 0xed) // surrogates
          high_ = 0x9f;
      } else if (c < 0xf5) {
        need_ = 3;
        if (c == 0xf0)
          low_ = 0x90;
        if (c == 0xf4)
          high_ = 0x8f;
      } else {
        return 2;
      }
    } else {
      if (c < low_ || c > high_)
        return 2;
      // U+FFFE and U+FFFF are not XML characters
      if (--need_ == 0 && c >= 0xbe && byte(b, i - 1) == 0xbf && byte(b, i - 2) == 0xef)
        return 2;
      low_ = 0x80;
      high_ = 0xbf;
    }
  }
  return 1;
}

bool framer::good_name(const char* b, u32 at, std::size_t end) const {
  if (end == at || !(classes[byte(b, at)] & c_start))
    return false;
  if (colon_ && (colon_ + 1 == end || !(classes[byte(b, colon_ + 1)] & c_start)))
    return false;
  if (!wide_name_) [[likely]]
    return true;
  std::size_t size = 1;
  for (std::size_t k = at; k < end; k += size) { // a name is short, and all of it is here
    size = 1;
    if (byte(b, k) < 0x80)
      continue;
    if (!legal_sequence({b + k, end - k}) || !is_name_char(code_point(b, k, size), k == at || k == colon_ + 1))
      return false;
  }
  return true;
}

/// `xml version='1.0' encoding='UTF-8'?` (RFC 6120 sections 11.5 and 11.6; XML 1.0 section 2.8).
framer_errc framer::check_declaration(std::string_view d) const {
  if (d.size() < 5 || !d.starts_with("xml") || !(classes[byte(d.data(), 3)] & c_space) || d.back() != '?')
    return framer_errc::restricted_xml; // another processing instruction
  d = d.substr(3, d.size() - 4);
  auto skip = [&d] {
    auto n = leading_space(d);
    d.remove_prefix(n);
    return n != 0;
  };
  // takes ` name = 'value'`; nothing where it is not next
  auto take = [&](std::string_view name) -> std::optional<std::string_view> {
    if (auto before = d; !skip() || !d.starts_with(name)) {
      d = before;
      return std::nullopt;
    }
    d.remove_prefix(name.size());
    skip();
    if (!d.starts_with('='))
      return std::string_view{};
    d.remove_prefix(1);
    skip();
    auto end = d.empty() || (d[0] != '\'' && d[0] != '"') ? d.npos : d.find(d[0], 1);
    if (end == d.npos)
      return std::string_view{};
    auto value = d.substr(1, end - 1);
    d.remove_prefix(end + 1);
    return value;
  };
  if (take("version") != "1.0")
    return framer_errc::not_well_formed;
  auto encoding = take("encoding");
  auto standalone = take("standalone");
  skip();
  if (!d.empty() || (standalone && *standalone != "yes" && *standalone != "no") || (encoding && encoding->empty()))
    return framer_errc::not_well_formed;
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 32) : c; };
  if (encoding && !std::equal(encoding->begin(), encoding->end(), utf8_name.begin(), utf8_name.end(),
                              [&](char a, char b) { return lower(a) == b; }))
    return framer_errc::bad_encoding;
  return framer_errc::none;
}

framer_errc framer::attribute(const char* b, std::size_t i) {
  span name{name_at_, attr_name_size_}, value{value_at_, static_cast<std::uint16_t>(i - value_at_)};
  if (attributes_ >= limits_.max_attributes || attributes_ == most_attributes || i - value_at_ > 0xffff)
    return framer_errc::too_big;
  const char* s = b + name.at;
  for (u32 k = 0; k < attributes_; ++k)
    if (names_[k].size == name.size && b[names_[k].at] == *s && !std::memcmp(b + names_[k].at, s, name.size))
      return framer_errc::not_well_formed;
  colons_[attributes_] = colon_;
  values_[attributes_] = value;
  names_[attributes_++] = name;
  auto v = of(b, value);
  if (colon_) {
    std::string_view prefix{s, colon_ - name_at_}, local{b + colon_ + 1, name_at_ + name.size - colon_ - 1u};
    if (prefix == "xmlns") {
      if (bindings_ == limits_.max_namespaces || bindings_ == most_namespaces)
        return framer_errc::too_big;
      // namespaces in XML 1.0: what may be bound to what
      if (v.empty() || local == "xmlns" || is_ns(v, ns_xmlns) || (local == "xml") != is_ns(v, ns_xml))
        return framer_errc::not_well_formed;
      ns_[bindings_++] = {{colon_ + 1, static_cast<std::uint16_t>(local.size())}, value, static_cast<u8>(depth_)};
      return framer_errc::none;
    }
    if (depth_ == 1 && of(b, name) == "xml:lang")
      head_.lang = value;
    if (prefix != "xml")
      ++prefixed_;
    return framer_errc::none;
  }
  if (name.size == 5 && !std::memcmp(s, "xmlns", 5)) {
    if (is_ns(v, ns_xml) || is_ns(v, ns_xmlns))
      return framer_errc::not_well_formed;
    if (depth_ == 1)
      head_.ns = value;
    return framer_errc::none;
  }
  if (depth_ == 1) {
    if (name.size == 2) {
      if (s[0] == 't' && s[1] == 'o') {
        head_.to = value;
        head_.to_cut = cut_;
      } else if (s[0] == 'i' && s[1] == 'd') {
        head_.id = value;
      }
    } else if (name.size == 4) {
      if (!std::memcmp(s, "from", 4)) {
        head_.from = value;
        head_.from_cut = cut_;
      } else if (!std::memcmp(s, "type", 4)) {
        head_.type = value;
      }
    }
  }
  return framer_errc::none;
}

framer::bound framer::resolve(const char* b, std::string_view prefix) const {
  for (u32 k = bindings_; k-- > 0;)
    if (of(b, ns_[k].prefix) == prefix)
      return {true, 0, of(b, ns_[k].uri)};
  if (prefix == "xml")
    return {true, 0, ns_xml};
  if (depth_ == 0 || mode_ == mode::frame)
    return {};
  std::string_view root = outer_ ? std::string_view{outer_->root} : std::string_view{"stream:stream"};
  if (auto colon = root.find(':'); colon != root.npos && root.substr(0, colon) == prefix)
    return {true, 1u << 31, ns_streams};
  if (outer_)
    for (u32 k = 0; k < outer_->prefixes.size() && k < 31; ++k)
      if (outer_->prefixes[k].first == prefix)
        return {true, 1u << k, outer_->prefixes[k].second};
  return {};
}

/// Of the element whose start tag was just read, as written; its parents' default is not looked up.
std::string_view framer::own_namespace(const char* b) const {
  if (element_colon_)
    return resolve(b, {b + element_.at, element_colon_ - element_.at}).uri;
  for (u32 k = 0; k < attributes_; ++k)
    if (of(b, names_[k]) == "xmlns")
      return of(b, values_[k]);
  return {};
}

framer_errc framer::check_namespaces(const char* b) {
  auto use = [this](const bound& found) {
    head_.header_prefixes |= found.header;
    head_.uses_header_prefix |= found.header != 0;
  };
  if (element_colon_) {
    auto found = resolve(b, {b + element_.at, element_colon_ - element_.at});
    if (!found.found)
      return framer_errc::bad_namespace_prefix;
    use(found);
  }
  if (!prefixed_)
    return framer_errc::none;
  struct { std::string_view local, uri; } seen[most_attributes];
  u32 count = 0;
  for (u32 k = 0; k < attributes_; ++k) {
    std::string_view prefix{b + names_[k].at, colons_[k] ? colons_[k] - names_[k].at : 0};
    if (!colons_[k] || prefix == "xmlns" || prefix == "xml")
      continue;
    auto found = resolve(b, prefix);
    if (!found.found)
      return framer_errc::bad_namespace_prefix;
    use(found);
    std::string_view local{b + colons_[k] + 1, names_[k].at + names_[k].size - colons_[k] - 1u};
    for (u32 m = 0; m < count; ++m) // the same expanded name under two prefixes
      if (seen[m].local == local && means(seen[m].uri, found.uri))
        return framer_errc::not_well_formed;
    seen[count++] = {local, found.uri};
  }
  return framer_errc::none;
}

framer_event framer::opened_root(const char* b, std::size_t i, bool empty) {
  auto name = of(b, element_);
  auto local = element_colon_ ? name.substr(element_colon_ - element_.at + 1) : name;
  if (local != "stream" || !is_ns(own_namespace(b), ns_streams) || empty)
    return stop(framer_errc::bad_header);
  std::size_t inherited = 0;
  for (u32 k = 0; k < bindings_; ++k)
    inherited += ns_[k].prefix.size + ns_[k].uri.size;
  for (u32 k = 0; k < attributes_; ++k)
    if (of(b, names_[k]) == "xml:lang" && values_[k].size > longest_lang)
      return stop(framer_errc::too_big);
  if (inherited > longest_header_prefixes || bindings_ > 31)
    return stop(framer_errc::too_big);
  depth_ = 1;
  head_.size = static_cast<u32>(i);
  state_ = state::gap;
  return framer_event::header;
}

framer_event framer::opened_top(const char* b, std::size_t i, bool empty) {
  auto name = of(b, element_);
  head_.name_size = static_cast<u8>(element_.size);
  head_.tag_end = static_cast<u32>(i);
  head_.is_empty = empty;
  bool is_content = head_.ns ? is_content_ns(of(b, head_.ns)) : default_is_content_;
  if (element_colon_) [[unlikely]] {
    is_content = is_content_ns(own_namespace(b));
    name.remove_prefix(element_colon_ - element_.at + 1);
  }
  if (is_content)
    head_.kind = is(name, "message") ? stanza_kind::message : is(name, "presence") ? stanza_kind::presence
                 : is(name, "iq") ? stanza_kind::iq : stanza_kind::other;
  if (mode_ == mode::frame && (name == "open" || name == "close") && is_ns(own_namespace(b), ns_framing)) {
    ends_as_ = name == "open" ? framer_event::header : framer_event::end;
    if (head_.lang.size > longest_lang)
      return stop(framer_errc::too_big);
  }
  return framer_event::more;
}

void framer::opened_child(const char* b) {
  if (head_.children < 255)
    ++head_.children;
  auto name = of(b, element_);
  if (element_colon_)
    name.remove_prefix(element_colon_ - element_.at + 1);
  if (name.size() < 9 || !name.ends_with("-id")) [[likely]]
    return;
  if (name == "stanza-id")
    head_.has_stanza_id = true;
  if (name == "origin-id" && is_ns(own_namespace(b), ns_stanza_ids))
    for (u32 k = 0; k < attributes_; ++k)
      if (of(b, names_[k]) == "id")
        head_.origin_id = values_[k];
}

framer_event framer::opened(const char* b, std::size_t i, bool empty) {
  if (i > limits_.max_size)
    return stop(framer_errc::too_big);
  if (element_colon_ | prefixed_)
    if (auto e = check_namespaces(b); e != framer_errc::none)
      return stop(e);
  if (depth_ == 0)
    return opened_root(b, i, empty);
  if (depth_ == 1) {
    if (auto e = opened_top(b, i, empty); e != framer_event::more)
      return e;
  } else if (depth_ == 2) {
    opened_child(b);
    if (ends_as_ != framer_event::element) // <open/> and <close/> have no content (RFC 7395 section 3.3.1)
      return stop(framer_errc::bad_header);
  }
  stack_[depth_++] = element_;
  text_at_ = static_cast<u32>(i);
  state_ = state::text;
  if (empty) {
    head_.close_at = static_cast<u32>(i);
    return closed(i);
  }
  return framer_event::more;
}

framer_event framer::closed(std::size_t i) {
  --depth_;
  while (bindings_ && ns_[bindings_ - 1].depth >= depth_)
    --bindings_;
  text_at_ = static_cast<u32>(i);
  state_ = state::text;
  if (i > limits_.max_size)
    return stop(framer_errc::too_big);
  if (depth_ > 1)
    return framer_event::more;
  head_.size = static_cast<u32>(i);
  state_ = state::gap;
  return ends_as_;
}

stream_open framer::header(std::string_view bytes) const {
  const char* b = bytes.data();
  stream_open open;
  open.root = of(b, element_);
  for (u32 k = 0; k < attributes_; ++k) {
    auto name = of(b, names_[k]);
    auto value = decode_entities(of(b, values_[k]));
    if (name == "to") open.to = value;
    else if (name == "from") open.from = value;
    else if (name == "id") open.id = value;
    else if (name == "version") open.version = value;
    else if (name == "xml:lang") open.lang = value;
    else if (name == "xmlns") open.content_ns = value;
    else if (name.starts_with("xmlns:") && name != "xmlns:xml" && open.root.substr(0, open.root.find(':')) != name.substr(6))
      append_attribute_escaped(open.prefixes.emplace_back(name.substr(6), std::string{}).second, value);
  }
  return open;
}

} // namespace xmpp
