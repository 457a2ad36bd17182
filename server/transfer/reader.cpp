// Four kinds of containers are opened and closed here; everything else goes through the framer as one element.
#include "server/transfer/reader.hpp"
#include <algorithm>

namespace server::transfer {

namespace {
constexpr const char* containers[]{"server-data", "host", "user", "offline-messages"};
constexpr std::size_t longest_tag = 65'536, longest_comment = 1u << 20;
constexpr std::uint32_t largest_element = 16u << 20, most_elements = 1'000'000;

const char* text_of(xmpp::framer_errc e) {
  using enum xmpp::framer_errc;
  switch (e) {
    case bad_namespace_prefix: return "a prefix that nothing inside this element declares";
    case restricted_xml: return "a comment, a processing instruction or an entity of its own inside an element";
    case bad_encoding: return "bytes that are not UTF-8";
    case too_big: return "an element of more than 16 MB, or nested too deeply";
    default: return "XML that is not well-formed";
  }
}
std::size_t end_of_name(std::string_view s) { return std::min(s.find_first_of(" \t\r\n/>"), s.size()); }
} // namespace

reader::reader(target& t) : target_(t), framer_(xmpp::framer::mode::stream, {largest_element, xmpp::framer::most_depth, xmpp::framer::most_attributes,
                                                                             xmpp::framer::most_namespaces, most_elements}) {
  framer_.enter_stream(nullptr);
}

base::result<void, mistake> reader::feed(std::string_view bytes) {
  buffer_ += bytes;
  for (;;) {
    auto s = run();
    if (!s)
      return base::fail(s.error());
    if (*s == step::needs_more)
      break;
  }
  buffer_.erase(0, std::exchange(at_, 0));
  return {};
}

base::result<void, mistake> reader::end() {
  if (!is_over_ || !rest().empty())
    return base::fail(at_line(is_begun_ ? "the file ends too early: it is not whole" : "the file is empty"));
  return {};
}

void reader::consume(std::size_t n) {
  line_ += static_cast<std::uint64_t>(std::count(buffer_.begin() + static_cast<std::ptrdiff_t>(at_), buffer_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
  at_ += n;
}

bool reader::is_container(std::string_view name) const {
  return open_.size() < std::size(containers) && name == containers[open_.size()];
}

reader::outcome reader::run() {
  if (in_leaf_)
    return leaf();
  if (!is_begun_ && rest().starts_with("\xef\xbb\xbf")) // a byte order mark
    at_ += 3;
  consume(xmpp::leading_space(rest()));
  auto s = rest();
  if (s.empty() || std::string_view{"<!--"}.starts_with(s))
    return step::needs_more;
  if (s.starts_with("<!--"))
    return skip("<!--", "-->");
  if (s.starts_with("<?") && !is_begun_)
    return skip("<?", "?>");
  if (s[0] != '<' || s[1] == '!' || s[1] == '?')
    return base::fail(at_line(s[0] == '<' ? "a DTD or a processing instruction" : "text where an element should stand"));
  if (is_over_)
    return base::fail(at_line("something behind the end of <server-data/>"));
  is_begun_ = true;
  return s[1] == '/' ? close_tag() : start_tag();
}

reader::outcome reader::skip(std::string_view from, std::string_view to) {
  auto end = rest().find(to, from.size());
  if (end == std::string_view::npos && rest().size() > longest_comment)
    return base::fail(at_line("a comment without an end"));
  if (end == std::string_view::npos)
    return step::needs_more;
  consume(end + to.size());
  return step::done;
}

reader::outcome reader::close_tag() {
  auto s = rest();
  auto end = s.find('>');
  if (end == s.npos && s.size() < longest_tag)
    return step::needs_more;
  auto name = s.substr(2, end == s.npos ? 0 : end_of_name(s.substr(2)));
  if (open_.empty() || name != open_.back())
    return base::fail(at_line("a closing tag that fits nothing: " + std::string{s.substr(0, std::min<std::size_t>(end, 80))}));
  if (open_.size() == 3)
    target_.on_user_end();
  open_.pop_back();
  is_over_ = open_.empty();
  consume(end + 1);
  return step::done;
}

reader::outcome reader::start_tag() {
  auto s = rest();
  auto name_end = s.find_first_of(" \t\r\n/>");
  if (name_end == s.npos && s.size() < longest_tag)
    return step::needs_more;
  if (!is_container(s.substr(1, name_end - 1))) {
    if (open_.empty())
      return base::fail(at_line("this is no file of XEP-0227: it begins with <server-data xmlns='" + std::string{pie_ns} + "'>"));
    in_leaf_ = true;
    return leaf();
  }
  char quote = 0;
  for (std::size_t i = name_end; i < s.size(); ++i) {
    if (quote)
      quote = s[i] == quote ? 0 : quote;
    else if (s[i] == '"' || s[i] == '\'')
      quote = s[i];
    else if (s[i] == '>')
      return open_container(i + 1);
  }
  if (s.size() > longest_tag)
    return base::fail(at_line("a start tag without an end"));
  return step::needs_more;
}

/// The start tag alone is checked and parsed as an empty element.
reader::outcome reader::open_container(std::size_t tag_end) {
  std::string tag{rest().substr(0, tag_end)};
  bool is_empty = tag.ends_with("/>");
  if (!is_empty)
    tag.insert(tag.size() - 1, "/");
  xmpp::framer f;
  f.enter_stream(nullptr);
  if (f.run(tag) != xmpp::framer_event::element)
    return base::fail(at_line(text_of(f.error())));
  auto start = document_.parse(tag, open_.empty() ? std::string_view{} : pie_ns);
  auto* name = containers[open_.size()];
  if (!start || !start.is(name, pie_ns))
    return base::fail(at_line("<" + std::string{name} + "> of another namespace than " + std::string{pie_ns}));
  auto line = line_;
  open_.emplace_back(name);
  consume(tag_end);
  if (open_.size() == 2)
    target_.on_host(start, line);
  else if (open_.size() == 3)
    target_.on_user(start, line);
  if (is_empty) {
    if (open_.size() == 3)
      target_.on_user_end();
    open_.pop_back();
    is_over_ = open_.empty();
  }
  return step::done;
}

reader::outcome reader::leaf() {
  auto event = framer_.run(rest());
  if (event == xmpp::framer_event::more)
    return step::needs_more;
  if (event != xmpp::framer_event::element) {
    consume(std::min(framer_.position(), rest().size())); // for the line
    return base::fail(at_line(text_of(framer_.error())));
  }
  auto xml = rest().substr(0, framer_.position());
  auto child = document_.parse(xml, pie_ns);
  if (open_.size() >= 3)
    target_.on_child(child, xml, line_);
  else
    target_.on_unknown(child, line_);
  consume(xml.size());
  framer_.next();
  in_leaf_ = false;
  return step::done;
}

} // namespace server::transfer
