// One switch over the state; tables for names, values and text; SSE2 for long text. Offsets count from
// the first byte of the element, which stays contiguous, so nothing is copied.
#include "xmpp/framer_tables.hpp"
#include <algorithm>
#include <cstring>
#include <emmintrin.h>

namespace xmpp {

using namespace framing;

void framer::next() {
  head_ = head{};
  state_ = state::gap;
  i_ = 0;
  elements_ = bindings_ = 0;
  ends_as_ = framer_event::element;
}

void framer::set_limits(const framer_limits& limits) {
  limits_ = limits;
  limits_.max_depth = std::min<std::uint16_t>(limits.max_depth, most_depth);
  limits_.max_attributes = std::min<std::uint16_t>(limits.max_attributes, most_attributes);
  limits_.max_namespaces = std::min<std::uint16_t>(limits.max_namespaces, most_namespaces);
}

void framer::restart() {
  next();
  depth_ = mode_ == mode::frame ? 1 : 0;
  need_ = 0;
  outer_ = nullptr;
  default_is_content_ = mode_ == mode::stream;
  speaks_server_ = false;
}

void framer::enter_stream(const stream_open* open) {
  next();
  depth_ = 1;
  need_ = 0;
  outer_ = open;
  speaks_server_ = open && open->content_ns == "jabber:server";
  default_is_content_ = mode_ == mode::stream
                        && (!open || open->content_ns.empty() || open->content_ns == "jabber:client" || speaks_server_);
}

bool framer::is_content_ns(std::string_view uri) const {
  return is_ns(uri, speaks_server_ ? "jabber:server" : "jabber:client");
}

framer_event framer::run(std::string_view bytes) {
  const char* b = bytes.data();
  const std::size_t n = bytes.size();
  const auto& cls = classes;
  std::size_t i = i_;
  auto more = [&](std::size_t at) {
    i_ = at;
    return at > limits_.max_size ? stop(framer_errc::too_big) : framer_event::more;
  };
  if (need_ && i < n && byte(b, i) < 0x80)
    return stop(framer_errc::bad_encoding);
  for (;;)
    switch (state_) {
      case state::gap:
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i++] != '<')
          return stop(framer_errc::not_well_formed);
        state_ = state::lt;
        break;
      case state::text:
        for (;;) {
          const __m128i low = _mm_set1_epi8(0x20), lt = _mm_set1_epi8('<'), amp = _mm_set1_epi8('&'),
                        gt = _mm_set1_epi8('>');
          for (; i + 16 <= n; i += 16) { // control characters, non-ASCII (signed compare), '<', '&', '>'
            auto x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i));
            auto m = _mm_or_si128(_mm_or_si128(_mm_cmplt_epi8(x, low), _mm_cmpeq_epi8(x, lt)),
                                  _mm_or_si128(_mm_cmpeq_epi8(x, amp), _mm_cmpeq_epi8(x, gt)));
            if (int mask = _mm_movemask_epi8(m)) {
              i += static_cast<std::size_t>(__builtin_ctz(static_cast<u32>(mask)));
              break;
            }
          }
          while (i < n && (cls[byte(b, i)] & c_text))
            ++i;
          if (i > limits_.max_size)
            return stop(framer_errc::too_big);
          if (i == n)
            return i_ = i, framer_event::more;
          u8 c = byte(b, i);
          if (c == '<') {
            ++i;
            state_ = state::lt;
            break;
          }
          if (c == '&') {
            entity_at_ = static_cast<u32>(i++);
            back_ = state::text;
            state_ = state::entity;
            break;
          }
          if (c == '>') { // "]]>" by looking back, never before this text run
            if (i >= text_at_ + 2u && b[i - 1] == ']' && b[i - 2] == ']')
              return stop(framer_errc::not_well_formed);
            ++i;
            continue;
          }
          if (c < 0x80)
            return stop(framer_errc::not_well_formed);
          if (int r = high(b, i, n))
            return r == 1 ? more(i) : stop(i > limits_.max_size ? framer_errc::too_big : framer_errc::bad_encoding);
        }
        break;
      case state::lt:
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i] == '/') {
          name_at_ = static_cast<u32>(++i);
          if (depth_ == 0 || (depth_ == 1 && mode_ == mode::frame))
            return stop(framer_errc::not_well_formed);
          state_ = state::end_tag;
          break;
        }
        if (b[i] == '!') {
          ++i;
          matched_ = 0;
          state_ = state::bang;
          break;
        }
        if (b[i] == '?') {
          if (depth_ != 0 || i != 1)
            return stop(framer_errc::restricted_xml);
          name_at_ = static_cast<u32>(++i);
          state_ = state::declaration;
          break;
        }
        if (depth_ >= limits_.max_depth || ++elements_ > limits_.max_elements)
          return stop(framer_errc::too_big);
        name_at_ = static_cast<u32>(i);
        colon_ = 0;
        wide_name_ = false;
        attributes_ = prefixed_ = 0;
        state_ = state::name;
        [[fallthrough]];
      case state::name:
        for (;; ++i) {
          while (i < n && (cls[byte(b, i)] & c_name))
            ++i;
          if (i - name_at_ > longest_name)
            return stop(framer_errc::too_big);
          if (i == n)
            return i_ = i, framer_event::more;
          if (byte(b, i) >= 0x80) {
            wide_name_ = true;
            continue;
          }
          if (b[i] != ':' || colon_)
            break;
          colon_ = static_cast<u32>(i);
        }
        if (!good_name(b, name_at_, i))
          return stop(framer_errc::not_well_formed);
        element_ = {name_at_, static_cast<std::uint16_t>(i - name_at_)};
        element_colon_ = colon_;
        space_ = false;
        state_ = state::tag;
        [[fallthrough]];
      case state::tag: {
        while (i < n && (cls[byte(b, i)] & c_space)) {
          if (!space_)
            cut_ = static_cast<u32>(i);
          space_ = true;
          ++i;
        }
        if (i > limits_.max_size)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        char c = b[i];
        if (c == '>') {
          ++i;
          if (auto e = opened(b, i, false); e != framer_event::more)
            return i_ = i, e;
          break;
        }
        if (c == '/') {
          ++i;
          state_ = state::empty;
          break;
        }
        if (!space_)
          return stop(framer_errc::not_well_formed);
        name_at_ = static_cast<u32>(i);
        colon_ = 0;
        wide_name_ = false;
        state_ = state::attr_name;
        [[fallthrough]];
      }
      case state::attr_name:
        for (;; ++i) {
          while (i < n && (cls[byte(b, i)] & c_name))
            ++i;
          if (i - name_at_ > longest_name)
            return stop(framer_errc::too_big);
          if (i == n)
            return i_ = i, framer_event::more;
          if (byte(b, i) >= 0x80) {
            wide_name_ = true;
            continue;
          }
          if (b[i] != ':' || colon_)
            break;
          colon_ = static_cast<u32>(i);
        }
        if (!good_name(b, name_at_, i))
          return stop(framer_errc::not_well_formed);
        attr_name_size_ = static_cast<std::uint16_t>(i - name_at_);
        state_ = state::equals;
        [[fallthrough]];
      case state::equals:
        while (i < n && (cls[byte(b, i)] & c_space))
          ++i;
        if (i > limits_.max_size)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i++] != '=')
          return stop(framer_errc::not_well_formed);
        state_ = state::quote;
        [[fallthrough]];
      case state::quote:
        while (i < n && (cls[byte(b, i)] & c_space))
          ++i;
        if (i > limits_.max_size)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        quote_ = b[i++];
        if (quote_ != '\'' && quote_ != '"')
          return stop(framer_errc::not_well_formed);
        value_at_ = static_cast<u32>(i);
        state_ = state::value;
        [[fallthrough]];
      case state::value:
        for (;;) {
          const __m128i low = _mm_set1_epi8(0x20), lt = _mm_set1_epi8('<'), amp = _mm_set1_epi8('&'),
                        quote = _mm_set1_epi8(quote_);
          for (; i + 16 <= n; i += 16) {
            auto x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i));
            auto m = _mm_or_si128(_mm_or_si128(_mm_cmplt_epi8(x, low), _mm_cmpeq_epi8(x, lt)),
                                  _mm_or_si128(_mm_cmpeq_epi8(x, amp), _mm_cmpeq_epi8(x, quote)));
            if (int mask = _mm_movemask_epi8(m)) {
              i += static_cast<std::size_t>(__builtin_ctz(static_cast<u32>(mask)));
              break;
            }
          }
          while (i < n && (cls[byte(b, i)] & c_value))
            ++i;
          if (i > limits_.max_size)
            return stop(framer_errc::too_big);
          if (i == n)
            return i_ = i, framer_event::more;
          char c = b[i];
          if (c == quote_) {
            if (auto e = attribute(b, i); e != framer_errc::none)
              return stop(e);
            ++i;
            space_ = false;
            state_ = state::tag;
            break;
          }
          if (c == '\'' || c == '"') {
            ++i;
            continue;
          }
          if (c == '&') {
            entity_at_ = static_cast<u32>(i++);
            back_ = state::value;
            state_ = state::entity;
            break;
          }
          if (static_cast<u8>(c) < 0x80)
            return stop(framer_errc::not_well_formed);
          if (int r = high(b, i, n))
            return r == 1 ? more(i) : stop(i > limits_.max_size ? framer_errc::too_big : framer_errc::bad_encoding);
        }
        break;
      case state::entity: {
        while (i < n && b[i] != ';' && i - entity_at_ < longest_entity)
          ++i;
        if (i - entity_at_ >= longest_entity)
          return stop(b[entity_at_ + 1] == '#' ? framer_errc::not_well_formed : framer_errc::restricted_xml);
        if (i == n)
          return i_ = i, framer_event::more;
        if (auto e = check_entity({b + entity_at_ + 1, i - entity_at_ - 1}); e != framer_errc::none)
          return stop(e);
        ++i;
        state_ = back_;
        text_at_ = static_cast<u32>(i);
        break;
      }
      case state::empty:
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i++] != '>')
          return stop(framer_errc::not_well_formed);
        if (auto e = opened(b, i, true); e != framer_event::more)
          return i_ = i, e;
        break;
      case state::end_tag: {
        std::string_view open = depth_ > 1 ? of(b, stack_[depth_ - 1])
                                : outer_ ? std::string_view{outer_->root} : std::string_view{"stream:stream"};
        if (i == name_at_ && n - i > open.size() && std::memcmp(b + i, open.data(), open.size()) == 0)
          i += open.size(); // what follows decides whether the name ends here
        while (i < n && ((cls[byte(b, i)] & (c_name | c_start)) || b[i] == ':'))
          ++i;
        if (i - name_at_ > longest_name)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        if (std::string_view{b + name_at_, i - name_at_} != open)
          return stop(framer_errc::not_well_formed);
        state_ = state::end_tag_space;
        [[fallthrough]];
      }
      case state::end_tag_space:
        while (i < n && (cls[byte(b, i)] & c_space))
          ++i;
        if (i > limits_.max_size)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i++] != '>')
          return stop(framer_errc::not_well_formed);
        if (depth_ == 1)
          return i_ = i, framer_event::end;
        head_.close_at = name_at_ - 2;
        if (auto e = closed(i); e != framer_event::more)
          return i_ = i, e;
        break;
      case state::bang: // only <![CDATA[, and only inside an element
        if (depth_ < 2)
          return stop(framer_errc::restricted_xml);
        while (i < n && matched_ < cdata_open.size()) {
          if (b[i] != cdata_open[matched_])
            return stop(framer_errc::restricted_xml);
          ++i;
          ++matched_;
        }
        if (matched_ < cdata_open.size())
          return i_ = i, framer_event::more;
        text_at_ = static_cast<u32>(i);
        state_ = state::cdata;
        [[fallthrough]];
      case state::cdata:
        for (;;) {
          while (i < n && b[i] != '>' && byte(b, i) < 0x80 && (cls[byte(b, i)] & c_text || b[i] == '<' || b[i] == '&'))
            ++i;
          if (i > limits_.max_size)
            return stop(framer_errc::too_big);
          if (i == n)
            return i_ = i, framer_event::more;
          if (b[i] == '>') {
            ++i;
            if (i >= text_at_ + 3u && b[i - 2] == ']' && b[i - 3] == ']') {
              text_at_ = static_cast<u32>(i);
              state_ = state::text;
              break;
            }
            continue;
          }
          if (byte(b, i) < 0x80)
            return stop(framer_errc::not_well_formed);
          if (int r = high(b, i, n))
            return r == 1 ? more(i) : stop(i > limits_.max_size ? framer_errc::too_big : framer_errc::bad_encoding);
        }
        break;
      case state::declaration: {
        while (i < n && b[i] != '>' && i < longest_declaration)
          ++i;
        if (i >= longest_declaration)
          return stop(framer_errc::restricted_xml);
        if (i == n)
          return i_ = i, framer_event::more;
        if (auto e = check_declaration({b + name_at_, i - name_at_}); e != framer_errc::none)
          return stop(e);
        ++i;
        state_ = state::after_declaration;
        [[fallthrough]];
      }
      case state::after_declaration:
        while (i < n && (cls[byte(b, i)] & c_space))
          ++i;
        if (i > limits_.max_size)
          return stop(framer_errc::too_big);
        if (i == n)
          return i_ = i, framer_event::more;
        if (b[i++] != '<')
          return stop(framer_errc::not_well_formed);
        state_ = state::lt;
        break;
    }
}

} // namespace xmpp
