// RapidXML behind `element`, and the writer. The framer has checked the bytes and bounded their depth.
#include "xmpp/element.hpp"
#include "xmpp/framer_tables.hpp"
#include <algorithm>
#include <cassert>
#include <cstring>
#include <vector>

#define RAPIDXML_STATIC_POOL_SIZE (8 * 1024)
#define RAPIDXML_DYNAMIC_POOL_SIZE (16 * 1024)
#include <rapidxml/rapidxml.hpp>

namespace xmpp {

namespace {
using node_type = rapidxml::xml_node<>;
const node_type* of(const void* n) { return static_cast<const node_type*>(n); }

std::string_view name_of(const node_type* n) { return {n->name(), n->name_size()}; }

/// The namespace that `prefix` names where `n` stands; an empty prefix: the default.
std::string_view resolve(const node_type* n, std::string_view prefix) {
  if (prefix == "xml")
    return "http://www.w3.org/XML/1998/namespace";
  for (; n && n->type() == rapidxml::node_element; n = n->parent())
    for (auto* a = n->first_attribute(); a; a = a->next_attribute()) {
      std::string_view name{a->name(), a->name_size()};
      if (prefix.empty() ? name == "xmlns" : name.size() == prefix.size() + 6 && name.starts_with("xmlns:") && name.ends_with(prefix))
        return {a->value(), a->value_size()};
    }
  return {};
}

const node_type* next_element(const node_type* n) {
  while (n && n->type() != rapidxml::node_element)
    n = n->next_sibling();
  return n;
}
} // namespace

struct document::impl {
  rapidxml::xml_document<> doc;
  std::vector<char> bytes;
  std::string default_ns;
};

document::document() : impl_(std::make_unique<impl>()) {}
document::~document() = default;

element document::parse(std::string_view xml, std::string_view default_ns) {
  auto& d = *impl_;
  d.doc.clear();
  d.bytes.assign(xml.begin(), xml.end());
  d.bytes.push_back('\0');
  try {
    d.doc.parse<rapidxml::parse_validate_closing_tags>(d.bytes.data());
  } catch (const rapidxml::parse_error&) {
    return {};
  }
  auto* root = d.doc.first_node();
  if (root && !root->first_attribute("xmlns", 5) && !default_ns.empty()) { // what the stream header would say
    auto* value = d.doc.allocate_string(default_ns.data(), default_ns.size());
    root->append_attribute(d.doc.allocate_attribute("xmlns", value, 5, default_ns.size()));
  }
  return element{root};
}

std::string_view element::name() const {
  auto n = name_of(of(node_));
  auto colon = n.find(':');
  return colon == n.npos ? n : n.substr(colon + 1);
}

std::string_view element::ns() const {
  auto n = name_of(of(node_));
  auto colon = n.find(':');
  return resolve(of(node_), colon == n.npos ? std::string_view{} : n.substr(0, colon));
}

bool element::is(std::string_view local_name, std::string_view ns_uri) const {
  return node_ && name() == local_name && ns() == ns_uri;
}

std::optional<std::string_view> element::attr(std::string_view attr_name) const {
  if (!node_)
    return std::nullopt;
  for (auto* a = of(node_)->first_attribute(); a; a = a->next_attribute())
    if (std::string_view{a->name(), a->name_size()} == attr_name)
      return std::string_view{a->value(), a->value_size()};
  return std::nullopt;
}

std::string_view element::attr_or(std::string_view attr_name, std::string_view otherwise) const {
  return attr(attr_name).value_or(otherwise);
}

std::optional<std::string_view> element::lang() const { return attr("xml:lang"); }

std::string element::text() const {
  std::string out;
  if (node_)
    for (auto* n = of(node_)->first_node(); n; n = n->next_sibling())
      if (n->type() == rapidxml::node_data || n->type() == rapidxml::node_cdata)
        out.append(n->value(), n->value_size());
  return out;
}

element element::first_child() const {
  return element{node_ ? next_element(of(node_)->first_node()) : nullptr};
}

element element::next_sibling() const {
  return element{node_ ? next_element(of(node_)->next_sibling()) : nullptr};
}

bool element::is_empty() const { return !node_ || !of(node_)->first_node(); }

namespace {
/// White space alone counts only as CDATA or references: written plainly nobody would read it.
void write_text(writer& w, std::string_view text) {
  if (text.empty())
    return;
  bool is_blank = text.find_first_not_of(" \t\r\n") == text.npos;
  if (!is_blank)
    return void(w.text(text));
  std::string references;
  for (auto c : text)
    references += "&#" + std::to_string(int{c}) + ';';
  w.raw(references);
}

/// `outer`: the default namespace where it will stand. Depth is bounded by the framer's limit.
void write(writer& w, const node_type* n, std::string_view outer) {
  auto split = [](std::string_view name) {
    auto colon = name.find(':');
    return colon == name.npos ? std::pair{std::string_view{}, name} : std::pair{name.substr(0, colon), name.substr(colon + 1)};
  };
  auto [prefix, local] = split(name_of(n));
  auto is_xml = prefix == "xml"; // its namespace is declared nowhere, and is nobody's default
  auto ns = is_xml ? outer : resolve(n, prefix);
  w.open(is_xml ? std::string_view{name_of(n)} : local);
  if (ns != outer)
    w.attr("xmlns", ns);
  std::vector<std::string_view> bound{"xml", "xmlns"};
  for (auto* a = n->first_attribute(); a; a = a->next_attribute()) {
    std::string_view name{a->name(), a->name_size()}, value{a->value(), a->value_size()};
    auto p = split(name).first;
    if (name == "xmlns" || p == "xmlns")
      continue;
    if (!p.empty() && std::find(bound.begin(), bound.end(), p) == bound.end()) {
      bound.push_back(p);
      w.attr("xmlns:" + std::string{p}, resolve(n, p));
    }
    w.attr(name, value);
  }
  std::string text; // of neighbours, which will be one
  for (auto* c = n->first_node(); c; c = c->next_sibling()) {
    if (c->type() == rapidxml::node_data || c->type() == rapidxml::node_cdata)
      text.append(c->value(), c->value_size());
    if (c->type() != rapidxml::node_element)
      continue;
    write_text(w, std::exchange(text, {}));
    write(w, c, ns);
  }
  write_text(w, text);
  w.close();
}
} // namespace

std::string element::to_xml(std::string_view outer) const {
  writer w;
  if (node_)
    write(w, of(node_), outer);
  return w.take();
}

element element::child(std::string_view local_name, std::string_view ns_uri) const {
  for (auto c = first_child(); c; c = c.next_sibling())
    if (c.is(local_name, ns_uri))
      return c;
  return {};
}

namespace {
constexpr std::string_view replacement = "\xef\xbf\xbd";

void escape(std::string& out, std::string_view text, bool is_attribute) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&apos;"; break;
      case '"': out += "&quot;"; break;
      case '\r': out += "&#13;"; break; // a parser would make a line feed of it
      case '\n': out += is_attribute ? "&#10;" : "\n"; break;
      case '\t': out += is_attribute ? "&#9;" : "\t"; break;
      default:
        if (auto u = static_cast<unsigned char>(c); u < 0x20) {
          out += replacement;
        } else if (u < 0x80) {
          out += c;
        } else {
          auto size = framing::legal_sequence(text.substr(i));
          out += size ? text.substr(i, size) : replacement;
          i += size ? size - 1 : 0;
        }
    }
  }
}
} // namespace

void append_escaped(std::string& out, std::string_view text) { escape(out, text, false); }
void append_attribute_escaped(std::string& out, std::string_view value) { escape(out, value, true); }

writer& writer::open(std::string_view name, std::string_view ns) {
  if (in_tag_)
    out_ += '>';
  out_ += '<';
  out_ += name;
  open_ += name;
  open_ += '\0';
  in_tag_ = true;
  if (!ns.empty())
    attr("xmlns", ns);
  return *this;
}

writer& writer::attr(std::string_view name, std::string_view value) {
  assert(in_tag_);
  out_ += ' ';
  out_ += name;
  out_ += "='";
  append_attribute_escaped(out_, value);
  out_ += '\'';
  return *this;
}

writer& writer::text(std::string_view text) {
  if (text.empty())
    return *this;
  if (in_tag_)
    out_ += '>';
  in_tag_ = false;
  append_escaped(out_, text);
  return *this;
}

writer& writer::raw(std::string_view xml) {
  if (xml.empty())
    return *this;
  if (in_tag_)
    out_ += '>';
  in_tag_ = false;
  out_ += xml;
  return *this;
}

writer& writer::close() {
  assert(!open_.empty());
  open_.pop_back();
  auto start = open_.rfind('\0');
  start = start == std::string::npos ? 0 : start + 1;
  if (in_tag_) {
    out_ += "/>";
  } else {
    out_ += "</";
    out_ += std::string_view{open_}.substr(start);
    out_ += '>';
  }
  in_tag_ = false;
  open_.resize(start);
  return *this;
}

std::string writer::take() {
  assert(open_.empty());
  return std::move(out_);
}

} // namespace xmpp
