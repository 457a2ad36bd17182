// One allocation per stanza; the start tag is rewritten while it is written out, the payload copied.
#include "xmpp/stanza.hpp"
#include "xmpp/stamp.hpp"
#include "xmpp/element.hpp"
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

namespace xmpp {

namespace {

stanza_type parse_type(stanza_kind kind, std::string_view t) {
  switch (kind) {
    case stanza_kind::message:
      if (t == "chat") return stanza_type::chat;
      if (t == "groupchat") return stanza_type::groupchat;
      if (t == "headline") return stanza_type::headline;
      if (t == "error") return stanza_type::error;
      return stanza_type::normal;
    case stanza_kind::presence:
      if (t.empty()) return stanza_type::available;
      if (t == "unavailable") return stanza_type::unavailable;
      if (t == "subscribe") return stanza_type::subscribe;
      if (t == "subscribed") return stanza_type::subscribed;
      if (t == "unsubscribe") return stanza_type::unsubscribe;
      if (t == "unsubscribed") return stanza_type::unsubscribed;
      if (t == "probe") return stanza_type::probe;
      if (t == "error") return stanza_type::error;
      return stanza_type::invalid;
    case stanza_kind::iq:
      if (t == "get") return stanza_type::get;
      if (t == "set") return stanza_type::set;
      if (t == "result") return stanza_type::result;
      if (t == "error") return stanza_type::error;
      return stanza_type::invalid;
    case stanza_kind::other:
      break;
  }
  return stanza_type::none;
}

/// What the start tag needs of the stream header: language, prefixes, and the default namespace where
/// that is not a content namespace (RFC 6120 sections 4.7.4 and 4.8).
std::string inherited(const head& h, const stream_open* stream) {
  std::string extra;
  auto add = [&](std::string_view name, std::string_view value) {
    extra += ' ';
    extra += name;
    extra += "='";
    append_attribute_escaped(extra, value);
    extra += '\'';
  };
  if (stream && !h.lang && !stream->lang.empty() && h.kind != stanza_kind::other)
    add("xml:lang", stream->lang);
  if (!h.uses_header_prefix && (!stream || stream->content_ns.empty())) [[likely]]
    return extra;
  if (stream && !h.ns && !stream->content_ns.empty() && stream->content_ns != "jabber:client"
      && stream->content_ns != "jabber:server")
    add("xmlns", stream->content_ns);
  // what the element declares itself was never looked up in the header, so nothing comes twice
  for (std::uint32_t k = 0; stream && k < stream->prefixes.size() && k < 31; ++k)
    if (h.header_prefixes >> k & 1)
      extra += " xmlns:" + stream->prefixes[k].first + "='" + stream->prefixes[k].second + '\'';
  if (h.header_prefixes >> 31) {
    std::string_view root = stream ? std::string_view{stream->root} : std::string_view{"stream:stream"};
    add("xmlns:" + std::string{root.substr(0, root.find(':'))}, "http://etherx.jabber.org/streams");
  }
  return extra;
}

char* put(char* o, std::string_view s) {
  std::memcpy(o, s.data(), s.size());
  return o + s.size();
}
char* put_jid(char* o, const jid& j, std::string_view part) {
  if (!j.needs_escape())
    return put(o, part);
  for (char c : part)
    switch (c) {
      case '&': o = put(o, "&amp;"); break;
      case '<': o = put(o, "&lt;"); break;
      case '\'': o = put(o, "&apos;"); break;
      default: *o++ = c;
    }
  return o;
}
char* put_hex(char* o, std::uint64_t v) {
  for (int shift = 60; shift >= 0; shift -= 4)
    *o++ = "0123456789abcdef"[v >> shift & 15];
  return o;
}

/// Where the child element that starts at `at` ends. Checked XML only.
std::size_t end_of_child(std::string_view s, std::size_t at) {
  int depth = 0;
  for (auto i = at; i < s.size();) {
    if (s[i] != '<') {
      i = s.find('<', i);
      continue;
    }
    if (s.compare(i, 9, "<![CDATA[") == 0) {
      i = s.find("]]>", i) + 3;
      continue;
    }
    bool closes = s[i + 1] == '/', empty = false;
    char quote = 0;
    for (++i; s[i] != '>' || quote; ++i)
      if (quote ? s[i] == quote : s[i] == '\'' || s[i] == '"')
        quote = quote ? 0 : s[i];
    empty = s[i - 1] == '/';
    ++i;
    depth += closes ? -1 : empty ? 0 : 1;
    if (depth == 0)
      return i;
  }
  return s.size();
}

/// The payload without stanza-ids that claim to be ours (XEP-0359 section 3).
char* put_unforged(char* o, const stanza& s) {
  auto all = s.bytes();
  auto payload = all.substr(0, s.tag().close_at);
  thread_local document parser;
  for (std::size_t i = s.tag().tag_end; i < payload.size();) {
    auto at = payload.find('<', i);
    if (at == payload.npos)
      return put(o, payload.substr(i));
    o = put(o, payload.substr(i, at - i));
    auto end = payload.compare(at, 9, "<![CDATA[") == 0 ? payload.find("]]>", at) + 3 : end_of_child(payload, at);
    auto child = payload.substr(at, end - at);
    bool forged = false;
    auto name = child.substr(1, child.find_first_of(" \t\r\n/>") - 1);
    if (name == "stanza-id" || name.ends_with(":stanza-id")) { // in whatever namespace
      auto by = parser.parse(child).attr("by");
      auto named = by ? parse_jid(*by) : base::result<jid_ref, jid_errc>{nullptr};
      forged = named && *named && same_bare(**named, *s.stanza_id_by);
    }
    if (!forged)
      o = put(o, child);
    i = end;
  }
  return o;
}

} // namespace

stanza_ref stanza::make(const head& h, std::string_view bytes, const stream_open* stream) {
  auto extra = stream || h.uses_header_prefix ? inherited(h, stream) : std::string{};
  auto* memory = std::malloc(sizeof(stanza) + h.size + extra.size());
  if (!memory)
    throw std::bad_alloc{};
  auto* s = new (memory) stanza;
  s->head_ = h;
  if (extra.empty()) [[likely]] {
    std::memcpy(s->bytes_, bytes.data(), h.size);
  } else {
    auto at = 1u + h.name_size; // behind the name
    std::memcpy(s->bytes_, bytes.data(), at);
    std::memcpy(s->bytes_ + at, extra.data(), extra.size());
    std::memcpy(s->bytes_ + at + extra.size(), bytes.data() + at, h.size - at);
    auto by = static_cast<std::uint32_t>(extra.size());
    auto& x = s->head_;
    for (auto* m : {&x.to, &x.from, &x.id, &x.type, &x.lang, &x.origin_id, &x.ns})
      if (*m)
        m->at += by;
    x.to_cut += x.to ? by : 0;
    x.from_cut += x.from ? by : 0;
    x.tag_end += by;
    x.close_at += by;
    x.size += by;
  }
  s->bytes_[s->head_.size] = '\0';
  auto type = s->at_or_empty(s->head_.type);
  s->type_ = type.find('&') == type.npos ? parse_type(h.kind, type) : parse_type(h.kind, decode_entities(type));
  return stanza_ref{s};
}

stanza_ref stanza::from_xml(std::string_view xml) {
  constexpr auto most = std::numeric_limits<std::uint32_t>::max(); // a roster may be longer than any input
  auto fresh = [] { return framer{framer::mode::stream, {most, framer::most_depth, framer::most_attributes, framer::most_namespaces, most}}; };
  thread_local framer f = fresh(); // to make one costs a third of what a short stanza does
  f.enter_stream(nullptr);
  if (f.run(xml) != framer_event::element || f.position() != xml.size()) {
    f = fresh();
    throw std::logic_error{"stanza::from_xml: not one well-formed element"};
  }
  return make(f.result(), xml);
}

std::uint32_t stanza::cost() const {
  return static_cast<std::uint32_t>(sizeof(stanza)) + head_.size;
}

void stanza::destroy(stanza* s) {
  s->~stanza();
  std::free(s);
}

/// Who says that it is late: the receiver's server.
static std::string_view domain_of(const delivery& d) {
  const auto* to = d.to ? d.to.get() : d.what->to.get();
  return to ? to->domain() : std::string_view{};
}

static std::size_t delay_bound(const delivery& d) { return 6 * domain_of(d).size() + 128; }

std::size_t render_bound(const delivery& d) {
  const auto& s = *d.what;
  auto jids = (s.from ? s.from->full().size() : 0) + (d.to ? d.to->full().size() : s.to ? s.to->full().size() : 0)
              + (s.stanza_id_by ? s.stanza_id_by->full().size() : 0);
  return s.tag().size + s.tag().name_size + 6 * jids + 192 + (d.delayed_us ? delay_bound(d) : 0);
}

char* render(char* o, const delivery& d) {
  const auto& s = *d.what;
  const auto& h = s.tag();
  const char* b = s.bytes().data();
  struct { std::uint32_t from, to; } cuts[2]; // attributes that are written anew
  int n = 0;
  auto cut = [&](std::uint32_t start, span value) { cuts[n++] = {start, value.at + value.size + 1u}; };
  if (s.from && h.from)
    cut(h.from_cut, h.from);
  const jid* to = d.to ? d.to.get() : h.to ? nullptr : s.to.get();
  if (to && h.to) {
    cut(h.to_cut, h.to);
    if (n == 2 && cuts[0].from > cuts[1].from)
      std::swap(cuts[0], cuts[1]);
  }
  std::uint32_t at = 1u + h.name_size;
  o = put(o, {b, at});
  if (s.from)
    o = put(put_jid(put(o, " from='"), *s.from, s.from->full()), "'");
  if (to)
    o = put(put_jid(put(o, " to='"), *to, to->full()), "'");
  for (int k = 0; k < n; ++k) {
    o = put(o, {b + at, cuts[k].from - at});
    at = cuts[k].to;
  }
  bool has_id = s.stanza_id && s.stanza_id_by, opens = h.is_empty && (has_id || d.delayed_us);
  if (opens) { // <message/> gets a content: open it
    o = put(o, {b + at, h.tag_end - at});
    while (o[-1] != '/')
      --o;
    o[-1] = '>';
  } else {
    o = put(o, {b + at, h.tag_end - at});
    if (h.has_stanza_id && s.stanza_id_by) [[unlikely]]
      o = put_unforged(o, s);
    else
      o = put(o, {b + h.tag_end, h.close_at - h.tag_end});
  }
  if (d.delayed_us) [[unlikely]]
    o = put(o, delay(base::wall_time{std::chrono::microseconds{d.delayed_us}}, domain_of(d)));
  if (has_id) {
    o = put_hex(put_hex(put(o, "<stanza-id xmlns='urn:xmpp:sid:0' id='"), s.stanza_id.a), s.stanza_id.b);
    o = put(put_jid(put(o, "' by='"), *s.stanza_id_by, s.stanza_id_by->bare()), "'/>");
  }
  if (opens)
    return put(put(put(o, "</"), {b + 1, h.name_size}), ">");
  return put(o, {b + h.close_at, h.size - h.close_at});
}

std::string to_string(const delivery& d) {
  std::string out(render_bound(d), '\0');
  out.resize(static_cast<std::size_t>(render(out.data(), d) - out.data()));
  return out;
}

} // namespace xmpp
