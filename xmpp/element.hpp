// A read-only view of checked XML as a tree, for payloads (RapidXML behind it). And a writer.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace xmpp {

/// A node of a document. Cheap to copy, valid as long as its document. Names are pairs of
/// namespace and local name; entities are decoded.
class element {
public:
  element() = default;
  explicit operator bool() const { return node_ != nullptr; }
  [[nodiscard]] std::string_view name() const; // local name
  [[nodiscard]] std::string_view ns() const;
  [[nodiscard]] bool is(std::string_view local_name, std::string_view ns_uri) const;
  /// An attribute without a namespace.
  [[nodiscard]] std::optional<std::string_view> attr(std::string_view attr_name) const;
  [[nodiscard]] std::string_view attr_or(std::string_view attr_name, std::string_view otherwise) const;
  [[nodiscard]] std::optional<std::string_view> lang() const; // xml:lang of this element alone
  /// All character data directly inside. White space alone between tags is not kept.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] element first_child() const;
  [[nodiscard]] element next_sibling() const;
  [[nodiscard]] element child(std::string_view local_name, std::string_view ns_uri) const;

  /// Has it nothing inside?
  [[nodiscard]] bool is_empty() const;
  /// XML of it: the same names and text, with the namespaces written anew where they change. `outer`: the default
  /// namespace where it will stand; none: it stands alone.
  [[nodiscard]] std::string to_xml(std::string_view outer = {}) const;

private:
  friend class document;
  explicit element(const void* node) : node_(node) {}
  const void* node_ = nullptr;
};

/// Owns what element points at. Keep one per thread and parse again: no allocation for small
/// payloads. Only for bytes that the framer has checked.
class document {
public:
  document();
  ~document();
  document(const document&) = delete;
  document& operator=(const document&) = delete;
  /// `default_ns`: the namespace of unprefixed names where nothing declares one ("jabber:client").
  /// Copies the bytes. Returns the root; null if RapidXML refuses, which checked bytes never cause.
  element parse(std::string_view xml, std::string_view default_ns = "jabber:client");

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// Escapes for text and for attribute values in quotes of either kind. What XML cannot carry (control
/// characters, bytes that are not UTF-8) becomes U+FFFD, so that the result is always well-formed.
void append_escaped(std::string& out, std::string_view text);
/// The same, with white space other than ' ' as references: it survives an attribute's normalisation.
void append_attribute_escaped(std::string& out, std::string_view value);

/// Writes XML that is well-formed by construction.
/// `writer w; w.open("iq").attr("type", "result"); w.open("query", ns).close(); w.close();`
class writer {
public:
  writer& open(std::string_view name, std::string_view ns = {});
  writer& attr(std::string_view name, std::string_view value); // right after open()
  writer& text(std::string_view text);
  writer& raw(std::string_view xml); // already well-formed
  writer& close();
  writer& leaf(std::string_view name, std::string_view text_inside) { return open(name).text(text_inside).close(); }
  /// All elements must be closed.
  [[nodiscard]] std::string take();

private:
  std::string out_;
  std::string open_; // names, each ended by NUL
  bool in_tag_ = false;
};

} // namespace xmpp
