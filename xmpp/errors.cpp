// Names, default types and XML of every error of RFC 6120.
#include "xmpp/errors.hpp"
#include "xmpp/element.hpp"
#include <array>

namespace xmpp {

namespace {
constexpr std::string_view ns_streams = "urn:ietf:params:xml:ns:xmpp-streams";
constexpr std::string_view ns_stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas";
constexpr std::string_view ns_sasl = "urn:ietf:params:xml:ns:xmpp-sasl";

constexpr std::array<std::string_view, 25> stream_names{
    "bad-format", "bad-namespace-prefix", "conflict", "connection-timeout", "host-gone", "host-unknown",
    "improper-addressing", "internal-server-error", "invalid-from", "invalid-namespace", "invalid-xml",
    "not-authorized", "not-well-formed", "policy-violation", "remote-connection-failed", "reset",
    "resource-constraint", "restricted-xml", "see-other-host", "system-shutdown", "undefined-condition",
    "unsupported-encoding", "unsupported-feature", "unsupported-stanza-type", "unsupported-version"};

struct stanza_condition { std::string_view name; error_type type; };
using enum error_type;
constexpr std::array<stanza_condition, 22> stanza_names{{
    {"bad-request", modify}, {"conflict", cancel}, {"feature-not-implemented", cancel}, {"forbidden", auth},
    {"gone", cancel}, {"internal-server-error", cancel}, {"item-not-found", cancel}, {"jid-malformed", modify},
    {"not-acceptable", modify}, {"not-allowed", cancel}, {"not-authorized", auth}, {"policy-violation", modify},
    {"recipient-unavailable", wait}, {"redirect", modify}, {"registration-required", auth},
    {"remote-server-not-found", cancel}, {"remote-server-timeout", wait}, {"resource-constraint", wait},
    {"service-unavailable", cancel}, {"subscription-required", auth}, {"undefined-condition", cancel},
    {"unexpected-request", wait}}};

constexpr std::array<std::string_view, 11> sasl_names{
    "aborted", "account-disabled", "credentials-expired", "encryption-required", "incorrect-encoding",
    "invalid-authzid", "invalid-mechanism", "malformed-request", "mechanism-too-weak", "not-authorized",
    "temporary-auth-failure"};

template <class E>
std::size_t index(E e) { return static_cast<std::size_t>(e); }

/// An answer to `s`, as far as the start tag goes. The addresses are those that the stanza really had.
stanza_ref answer(const stanza& s, std::string_view type, std::string_view payload) {
  static constexpr std::array<std::string_view, 4> kinds{"", "message", "presence", "iq"};
  std::string xml;
  xml.reserve(128 + payload.size());
  xml += '<';
  xml += kinds[index(s.kind())];
  if (s.tag().id) { // still escaped as it came
    bool single = s.bytes()[s.tag().id.at - 1u] == '\'';
    xml += single ? " id='" : " id=\"";
    xml += s.id();
    xml += single ? '\'' : '"';
  }
  xml += " type='";
  xml += type;
  xml += '\'';
  if (payload.empty()) {
    xml += "/>";
  } else {
    xml += '>';
    xml += payload;
    xml += "</";
    xml += kinds[index(s.kind())];
    xml += '>';
  }
  auto reply = stanza::from_xml(xml);
  reply->from = s.to;
  reply->to = s.from;
  return reply;
}
} // namespace

std::string_view name_of(stream_errc e) { return stream_names[index(e)]; }
std::string_view name_of(stanza_errc e) { return stanza_names[index(e)].name; }
std::string_view name_of(sasl_errc e) { return sasl_names[index(e)]; }
std::string_view name_of(error_type t) {
  constexpr std::array<std::string_view, 5> names{"auth", "cancel", "modify", "wait", "continue"};
  return names[index(t)];
}

stream_errc stream_error_of(framer_errc e) {
  switch (e) {
    case framer_errc::bad_namespace_prefix: return stream_errc::bad_namespace_prefix;
    case framer_errc::restricted_xml: return stream_errc::restricted_xml;
    case framer_errc::bad_encoding: return stream_errc::unsupported_encoding;
    case framer_errc::bad_header: return stream_errc::invalid_namespace;
    case framer_errc::too_big: return stream_errc::policy_violation;
    case framer_errc::none:
    case framer_errc::not_well_formed: break;
  }
  return stream_errc::not_well_formed;
}

stanza_error::stanza_error(stanza_errc c) : condition(c), type(stanza_names[index(c)].type) {}
stanza_error::stanza_error(stanza_errc c, error_type t, std::string s) : condition(c), type(t), text(std::move(s)) {}

std::string to_xml(stream_errc e, std::string_view text) {
  writer w;
  w.open("stream:error").open(name_of(e), ns_streams).close();
  if (!text.empty())
    w.open("text", ns_streams).attr("xml:lang", "en").text(text).close();
  return w.close().take();
}

std::string to_xml(const stanza_error& e) {
  writer w;
  w.open("error").attr("type", name_of(e.type)).open(name_of(e.condition), ns_stanzas).close();
  if (!e.text.empty())
    w.open("text", ns_stanzas).attr("xml:lang", "en").text(e.text).close();
  return w.raw(e.application).close().take();
}

std::string to_xml(sasl_errc e, std::string_view text) {
  writer w;
  w.open("failure", ns_sasl).open(name_of(e)).close();
  if (!text.empty())
    w.open("text").attr("xml:lang", "en").text(text).close();
  return w.close().take();
}

stanza_ref make_error(const stanza& s, const stanza_error& e) {
  if (s.kind() == stanza_kind::other || s.type() == stanza_type::error || s.type() == stanza_type::result)
    return nullptr;
  return answer(s, "error", to_xml(e));
}

stanza_ref make_result(const stanza& s, std::string_view payload) {
  return answer(s, "result", payload);
}

} // namespace xmpp
