// What the framer checks beside its states: UTF-8, names, references, attributes, namespaces.
#include "xmpp/framer_tables.hpp"
#include <cstring>

namespace xmpp {

using namespace framing;

/// 0: an ASCII byte follows, 1: more input is needed, 2: not UTF-8.
int framer::high(const char* b, std::size_t& i, std::size_t n) {
  for (; i < n; ++i) {
    u8 c = byte(b, i);
    if (need_ == 0) {
      if (c < 0x80)
        return 0;
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

bool framer::good_name(const char* b, u32 at, std::size_t end) {
  if (end == at || !(classes[byte(b, at)] & c_start))
    return false;
  if (colon_ && (colon_ + 1 == end || !(classes[byte(b, colon_ + 1)] & c_start)))
    return false;
  for (std::size_t k = at; k < end; ++k)
    if (byte(b, k) >= 0x80) {
      if (high(b, k, end) == 2 || need_)
        return false;
      if (k == end)
        break;
    }
  return true;
}

framer_errc framer::check_entity(std::string_view e) const {
  if (e == "lt" || e == "gt" || e == "amp" || e == "quot" || e == "apos")
    return framer_errc::none;
  if (e.empty() || e[0] != '#')
    return e.empty() ? framer_errc::not_well_formed : framer_errc::restricted_xml;
  bool hex = e.size() > 1 && e[1] == 'x';
  e.remove_prefix(hex ? 2 : 1);
  u32 v = 0;
  if (e.empty())
    return framer_errc::not_well_formed;
  for (char c : e) {
    u32 lower = static_cast<u32>(c) | 32;
    u32 d = c >= '0' && c <= '9' ? static_cast<u32>(c - '0') : hex && lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
    if (d == 99 || (v = v * (hex ? 16 : 10) + d) > 0x10ffff)
      return framer_errc::not_well_formed;
  }
  bool legal = v == 9 || v == 10 || v == 13 || (v >= 0x20 && v < 0xd800) || (v >= 0xe000 && v < 0xfffe) || v >= 0x10000;
  return legal ? framer_errc::none : framer_errc::not_well_formed;
}

/// `xml version='1.0' encoding='UTF-8'?` (RFC 6120 sections 11.5 and 11.6).
framer_errc framer::check_declaration(std::string_view d) const {
  if (d.size() < 5 || !d.starts_with("xml") || !(classes[byte(d.data(), 3)] & c_space) || d.back() != '?')
    return framer_errc::restricted_xml; // another processing instruction
  d = d.substr(4, d.size() - 5);
  auto value_of = [&](std::string_view name) -> std::string_view {
    auto at = d.find(name);
    if (at == d.npos)
      return {};
    at = d.find_first_of("'\"", at);
    auto end = at == d.npos ? d.npos : d.find(d[at], at + 1);
    return end == d.npos ? std::string_view{} : d.substr(at + 1, end - at - 1);
  };
  if (value_of("version") != "1.0")
    return framer_errc::not_well_formed;
  if (auto e = value_of("encoding"); d.find("encoding") != d.npos) {
    if (e.size() != 5 || (e[0] | 32) != 'u' || (e[1] | 32) != 't' || (e[2] | 32) != 'f' || e.substr(3) != "-8")
      return framer_errc::bad_encoding;
  }
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
      if (v.empty() || local == "xmlns" || v == ns_xmlns || (local == "xml") != (v == ns_xml))
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
    if (v == ns_xml || v == ns_xmlns)
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
  } else if (depth_ == 2 && name.size == 2 && s[0] == 'i' && s[1] == 'd' && element_.size == 9
             && of(b, element_) == "origin-id") {
    head_.origin_id = value;
  }
  return framer_errc::none;
}

/// False: nothing binds it. `outer`: the stream header does.
bool framer::resolve(const char* b, std::string_view prefix, std::string_view& uri, bool& outer) const {
  outer = false;
  for (u32 k = bindings_; k-- > 0;)
    if (of(b, ns_[k].prefix) == prefix) {
      uri = of(b, ns_[k].uri);
      return true;
    }
  if (prefix == "xml") {
    uri = ns_xml;
    return true;
  }
  if (depth_ == 0 || mode_ == mode::frame)
    return false;
  outer = true;
  if (outer_) {
    for (auto& [p, u] : outer_->prefixes)
      if (p == prefix) {
        uri = u;
        return true;
      }
    auto colon = outer_->root.find(':');
    if (colon != std::string::npos && std::string_view{outer_->root}.substr(0, colon) == prefix) {
      uri = ns_streams;
      return true;
    }
    return false;
  }
  if (prefix != "stream")
    return false;
  uri = ns_streams;
  return true;
}

framer_errc framer::check_namespaces(const char* b) {
  std::string_view uri, other;
  bool outer = false, ignored = false;
  if (element_colon_) {
    if (!resolve(b, {b + element_.at, element_colon_ - element_.at}, uri, outer))
      return framer_errc::bad_namespace_prefix;
    head_.uses_header_prefix |= outer;
  }
  if (!prefixed_)
    return framer_errc::none;
  auto local = [&](u32 k) { return std::string_view{b + colons_[k] + 1, names_[k].at + names_[k].size - colons_[k] - 1u}; };
  auto prefix = [&](u32 k) { return std::string_view{b + names_[k].at, colons_[k] - names_[k].at}; };
  for (u32 k = 0; k < attributes_; ++k) {
    if (!colons_[k] || prefix(k) == "xmlns" || prefix(k) == "xml")
      continue;
    if (!resolve(b, prefix(k), uri, outer))
      return framer_errc::bad_namespace_prefix;
    head_.uses_header_prefix |= outer;
    for (u32 m = 0; m < k; ++m) // the same expanded name under two prefixes
      if (colons_[m] && local(m) == local(k) && prefix(m) != "xmlns" && resolve(b, prefix(m), other, ignored) && other == uri)
        return framer_errc::not_well_formed;
  }
  return framer_errc::none;
}

framer_event framer::opened_root(const char* b, std::size_t i, bool empty) {
  auto name = of(b, element_);
  auto local = element_colon_ ? name.substr(element_colon_ - element_.at + 1) : name;
  std::string_view uri;
  bool outer = false;
  if (element_colon_) {
    if (!resolve(b, name.substr(0, element_colon_ - element_.at), uri, outer))
      return stop(framer_errc::bad_namespace_prefix);
  } else {
    for (u32 k = 0; k < attributes_; ++k)
      if (of(b, names_[k]) == "xmlns")
        uri = of(b, values_[k]);
  }
  if (local != "stream" || uri != ns_streams || empty)
    return stop(framer_errc::bad_header);
  depth_ = 1;
  head_.size = static_cast<u32>(i);
  state_ = state::gap;
  return framer_event::header;
}

framer_event framer::opened(const char* b, std::size_t i, bool empty) {
  if (i > limits_.max_size)
    return stop(framer_errc::too_big);
  if (element_colon_ | prefixed_)
    if (auto e = check_namespaces(b); e != framer_errc::none)
      return stop(e);
  auto name = of(b, element_);
  if (depth_ == 0)
    return opened_root(b, i, empty);
  if (depth_ == 1) {
    head_.name_size = static_cast<u8>(element_.size);
    head_.tag_end = static_cast<u32>(i);
    head_.is_empty = empty;
    bool is_content = head_.ns ? is_content_ns(of(b, head_.ns)) : default_is_content_;
    if (is_content)
      head_.kind = name == "message" ? stanza_kind::message : name == "presence" ? stanza_kind::presence
                   : name == "iq" ? stanza_kind::iq : stanza_kind::other;
    if (mode_ == mode::frame && head_.ns && of(b, head_.ns) == ns_framing && (name == "open" || name == "close")) {
      if (!empty)
        return stop(framer_errc::bad_header);
      head_.size = static_cast<u32>(i);
      state_ = state::gap;
      return name == "open" ? framer_event::header : framer_event::end;
    }
  } else if (depth_ == 2) {
    if (head_.children < 255)
      ++head_.children;
    if (element_.size >= 9 && name.ends_with("stanza-id"))
      head_.has_stanza_id = true;
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
  return framer_event::element;
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
    else if (name.starts_with("xmlns:") && open.root.substr(0, open.root.find(':')) != name.substr(6))
      open.prefixes.emplace_back(name.substr(6), value);
  }
  return open;
}

std::string decode_entities(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '&') {
      out.push_back(text[i++]);
      continue;
    }
    auto end = text.find(';', i);
    auto e = text.substr(i + 1, end - i - 1);
    i = end + 1;
    if (e == "lt") out.push_back('<');
    else if (e == "gt") out.push_back('>');
    else if (e == "amp") out.push_back('&');
    else if (e == "quot") out.push_back('"');
    else if (e == "apos") out.push_back('\'');
    else {
      u32 v = 0;
      bool hex = e[1] == 'x';
      for (char c : e.substr(hex ? 2 : 1))
        v = v * (hex ? 16 : 10) + (c <= '9' ? static_cast<u32>(c - '0') : (static_cast<u32>(c) | 32) - 'a' + 10);
      if (v < 0x80) {
        out.push_back(static_cast<char>(v));
      } else if (v < 0x800) {
        out.push_back(static_cast<char>(0xc0 | v >> 6));
        out.push_back(static_cast<char>(0x80 | (v & 63)));
      } else if (v < 0x10000) {
        out.push_back(static_cast<char>(0xe0 | v >> 12));
        out.push_back(static_cast<char>(0x80 | (v >> 6 & 63)));
        out.push_back(static_cast<char>(0x80 | (v & 63)));
      } else {
        out.push_back(static_cast<char>(0xf0 | v >> 18));
        out.push_back(static_cast<char>(0x80 | (v >> 12 & 63)));
        out.push_back(static_cast<char>(0x80 | (v >> 6 & 63)));
        out.push_back(static_cast<char>(0x80 | (v & 63)));
      }
    }
  }
  return out;
}

} // namespace xmpp
