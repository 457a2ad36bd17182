// Errors of RFC 6120: every name, the default types, and whom an answer goes to.
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <doctest/doctest.h>
#include <set>

using namespace xmpp;

namespace {
stanza_ref made(std::string_view xml, const stream_open* open = nullptr) {
  framer f;
  f.enter_stream(open);
  REQUIRE(f.run(xml) == framer_event::element);
  return stanza::make(f.result(), xml, open);
}
jid_ref j(std::string_view text) { return *parse_jid(text); }
/// As a receiver's parser sees it: it must be one well-formed element again.
std::string out(const stanza_ref& s, jid_ref to = {}) {
  auto text = to_string(delivery{s, std::move(to)});
  framer f;
  f.enter_stream(nullptr);
  CHECK(f.run(text) == framer_event::element);
  CHECK(f.position() == text.size());
  CHECK(text.size() <= render_bound(delivery{s, {}}) + 6 * 3'071);
  return text;
}
} // namespace

TEST_CASE("errors: answers go back where the stanza came from, and are never answered") {
  auto s = made("<iq type='get' id=\"it's\" to='b@c'><q xmlns='x'/></iq>");
  s->from = j("a@b/r");
  s->to = j("b@c");
  auto e = make_error(*s, stanza_errc::service_unavailable);
  REQUIRE(e);
  CHECK(out(e) == "<iq from='b@c' to='a@b/r' id=\"it's\" type='error'><error type='cancel'>"
                  "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
  CHECK(e->to == s->from);
  CHECK_FALSE(make_error(*e, stanza_errc::bad_request));
  CHECK_FALSE(make_error(*made("<iq type='result' id='1'/>"), stanza_errc::bad_request));
  auto r = make_result(*s, "<q xmlns='x'>&amp;</q>");
  CHECK(out(r) == "<iq from='b@c' to='a@b/r' id=\"it's\" type='result'><q xmlns='x'>&amp;</q></iq>");
  CHECK(to_xml(stream_errc::host_unknown, "x<y") == "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                                                    "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>x&lt;y</text></stream:error>");
  CHECK(stanza_error{stanza_errc::jid_malformed}.type == error_type::modify);
  CHECK(stanza_error{stanza_errc::resource_constraint}.type == error_type::wait);
  CHECK(name_of(stanza_errc::unexpected_request) == "unexpected-request");
  CHECK(name_of(stream_errc::unsupported_version) == "unsupported-version");
  CHECK(stream_error_of(framer_errc::restricted_xml) == stream_errc::restricted_xml);
}

TEST_CASE("errors: every condition has a name and the type of RFC 6120 section 8.3.3") {
  using enum stanza_errc;
  struct row { stanza_errc condition; std::string_view name, types; };
  constexpr row rows[] = {
      {bad_request, "bad-request", "modify"}, {conflict, "conflict", "cancel"}, {feature_not_implemented, "feature-not-implemented", "cancel modify"},
      {forbidden, "forbidden", "auth"}, {gone, "gone", "cancel"}, {internal_server_error, "internal-server-error", "cancel"},
      {item_not_found, "item-not-found", "cancel"}, {jid_malformed, "jid-malformed", "modify"}, {not_acceptable, "not-acceptable", "modify"},
      {not_allowed, "not-allowed", "cancel"}, {not_authorized, "not-authorized", "auth"}, {policy_violation, "policy-violation", "modify wait"},
      {recipient_unavailable, "recipient-unavailable", "wait"}, {redirect, "redirect", "modify"}, {registration_required, "registration-required", "auth"},
      {remote_server_not_found, "remote-server-not-found", "cancel"}, {remote_server_timeout, "remote-server-timeout", "wait"},
      {resource_constraint, "resource-constraint", "wait"}, {service_unavailable, "service-unavailable", "cancel"},
      {subscription_required, "subscription-required", "auth"}, {undefined_condition, "undefined-condition", "auth cancel modify wait"},
      {unexpected_request, "unexpected-request", "wait modify"}};
  for (auto& r : rows) {
    CAPTURE(r.name);
    CHECK(name_of(r.condition) == r.name);
    CHECK(r.types.find(name_of(stanza_error{r.condition}.type)) != std::string_view::npos);
    auto xml = to_xml(stanza_error{r.condition});
    CHECK(xml.find("<" + std::string{r.name} + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>") != std::string::npos);
  }
}

TEST_CASE("errors: stream and SASL conditions have different names, all well-formed") {
  std::set<std::string_view> names;
  for (int k = 0; k <= static_cast<int>(stream_errc::unsupported_version); ++k) {
    auto e = static_cast<stream_errc>(k);
    CHECK(names.insert(name_of(e)).second);
    framer f;
    f.enter_stream(nullptr);
    CHECK(f.run(to_xml(e, "a <b> & \x01")) == framer_event::element);
  }
  names.clear();
  for (int k = 0; k <= static_cast<int>(sasl_errc::temporary_auth_failure); ++k) {
    auto e = static_cast<sasl_errc>(k);
    CHECK(names.insert(name_of(e)).second);
    CHECK(to_xml(e) == "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><" + std::string{name_of(e)} + "/></failure>");
  }
  CHECK(stream_error_of(framer_errc::bad_encoding) == stream_errc::unsupported_encoding);
  CHECK(stream_error_of(framer_errc::bad_namespace_prefix) == stream_errc::bad_namespace_prefix);
  CHECK(stream_error_of(framer_errc::too_big) == stream_errc::policy_violation);
  CHECK(stream_error_of(framer_errc::bad_header) == stream_errc::invalid_namespace);
  CHECK(stream_error_of(framer_errc::not_well_formed) == stream_errc::not_well_formed);
}

TEST_CASE("errors: an answer keeps kind and id, however they came") {
  auto s = made("<c:message xmlns:c='jabber:client' id='a&amp;&quot;b' from='x@y' to='b@c'><c:body/></c:message>");
  s->from = j("a@b/it's");
  auto e = make_error(*s, {stanza_errc::gone, error_type::modify, "moved & gone"});
  REQUIRE(e);
  CHECK(e->kind() == stanza_kind::message);
  CHECK(e->type() == stanza_type::error);
  CHECK(e->id() == "a&amp;&quot;b");
  CHECK_FALSE(e->from); // the stanza had no prepared `to`
  CHECK(out(e).find("to='a@b/it&apos;s'") != std::string::npos);
  CHECK(out(e).find("type='modify'") != std::string::npos);
  CHECK_FALSE(make_error(*made("<other/>"), stanza_errc::gone));
  CHECK_FALSE(make_error(*made("<presence type='error'/>"), stanza_errc::gone));
  CHECK(make_error(*made("<presence/>"), stanza_errc::gone)->kind() == stanza_kind::presence);
}
