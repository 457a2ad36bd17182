// Presence of one resource (presence.hpp).
#include "xmpp/im/presence.hpp"
#include "base/bytes.hpp"
#include <array>
#include <utility>

namespace xmpp::im {
namespace {

constexpr std::array<std::string_view, 5> shows{"chat", "", "away", "xa", "dnd"};

/// XML white space at both ends counts for nothing in xs:byte and in tokens.
std::string_view trimmed(std::string_view s) {
  constexpr std::string_view space = " \t\r\n";
  auto from = s.find_first_not_of(space);
  if (from == std::string_view::npos)
    return {};
  return s.substr(from, s.find_last_not_of(space) - from + 1);
}

} // namespace

std::string_view name_of(show s) { return shows[static_cast<std::size_t>(s)]; }

std::optional<show> parse_show(std::string_view text) {
  text = trimmed(text);
  for (std::size_t i = 0; i < shows.size(); ++i)
    if (!text.empty() && shows[i] == text)
      return static_cast<show>(i);
  return std::nullopt;
}

std::optional<std::int8_t> parse_priority(std::string_view text) {
  text = trimmed(text);
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+'))
    text.remove_prefix(1);
  auto n = base::to_number<std::uint32_t>(text);
  if (!n || *n > (negative ? 128u : 127u))
    return std::nullopt;
  return static_cast<std::int8_t>(negative ? -static_cast<int>(*n) : static_cast<int>(*n));
}

base::result<availability, stanza_error> parse_presence(const stanza& s) {
  availability a;
  if (s.type() == stanza_type::unavailable)
    return a;
  a.is_available = true;
  if (s.tag().children == 0)
    return a;
  auto refuse = [](const char* text) { return base::fail(stanza_error{stanza_errc::bad_request, error_type::modify, text}); };
  thread_local document d;
  bool has_show = false, has_priority = false;
  auto root = d.parse(s.bytes());
  for (auto c = root.first_child(); c; c = c.next_sibling()) {
    if (c.ns() != root.ns())
      continue;
    if (c.name() == "show") {
      if (std::exchange(has_show, true))
        return refuse("more than one show");
      a.show = parse_show(c.text()).value_or(show::online);
    } else if (c.name() == "priority") {
      auto value = parse_priority(c.text());
      if (!value || std::exchange(has_priority, true))
        return refuse("bad priority");
      a.priority = *value;
    }
  }
  return a;
}

bool is_better(const availability& a, const availability& b) {
  if (a.is_available != b.is_available)
    return a.is_available;
  if (a.priority != b.priority)
    return a.priority > b.priority;
  return a.show < b.show;
}

stanza_ref make_unavailable(const jid_ref& from, const jid_ref& to) {
  auto s = stanza::from_xml("<presence type='unavailable'/>");
  s->from = from;
  s->to = to;
  return s;
}

stanza_ref make_presence(stanza_type t, const jid_ref& from, const jid_ref& to) {
  std::string_view xml = t == stanza_type::subscribe      ? "<presence type='subscribe'/>"
                         : t == stanza_type::subscribed   ? "<presence type='subscribed'/>"
                         : t == stanza_type::unsubscribe  ? "<presence type='unsubscribe'/>"
                         : t == stanza_type::unsubscribed ? "<presence type='unsubscribed'/>"
                         : t == stanza_type::probe        ? "<presence type='probe'/>"
                         : t == stanza_type::unavailable  ? "<presence type='unavailable'/>"
                                                          : "<presence/>";
  auto s = stanza::from_xml(xml);
  s->from = bare_of(from);
  s->to = bare_of(to);
  return s;
}

} // namespace xmpp::im
