// Every stream, stanza and SASL error of RFC 6120 as values, and as XML.
#pragma once
#include "xmpp/stanza.hpp"
#include <memory>
#include <string>
#include <string_view>

namespace xmpp {

/// RFC 6120 section 4.9.3.
enum class stream_errc : std::uint8_t {
  bad_format, bad_namespace_prefix, conflict, connection_timeout, host_gone, host_unknown,
  improper_addressing, internal_server_error, invalid_from, invalid_namespace, invalid_xml,
  not_authorized, not_well_formed, policy_violation, remote_connection_failed, reset,
  resource_constraint, restricted_xml, see_other_host, system_shutdown, undefined_condition,
  unsupported_encoding, unsupported_feature, unsupported_stanza_type, unsupported_version,
};
/// RFC 6120 section 8.3.3.
enum class stanza_errc : std::uint8_t {
  bad_request, conflict, feature_not_implemented, forbidden, gone, internal_server_error,
  item_not_found, jid_malformed, not_acceptable, not_allowed, not_authorized, policy_violation,
  recipient_unavailable, redirect, registration_required, remote_server_not_found,
  remote_server_timeout, resource_constraint, service_unavailable, subscription_required,
  undefined_condition, unexpected_request,
};
/// RFC 6120 section 8.3.2.
enum class error_type : std::uint8_t { auth, cancel, modify, wait, continue_ };
/// RFC 6120 section 6.5.
enum class sasl_errc : std::uint8_t {
  aborted, account_disabled, credentials_expired, encryption_required, incorrect_encoding,
  invalid_authzid, invalid_mechanism, malformed_request, mechanism_too_weak, not_authorized,
  temporary_auth_failure,
};

[[nodiscard]] std::string_view name_of(stream_errc e); // "bad-format"
[[nodiscard]] std::string_view name_of(stanza_errc e);
[[nodiscard]] std::string_view name_of(error_type t);
[[nodiscard]] std::string_view name_of(sasl_errc e);
[[nodiscard]] stream_errc stream_error_of(framer_errc e);

/// A stanza error as it is sent. The type defaults to the one RFC 6120 gives the condition.
struct stanza_error {
  stanza_errc condition = stanza_errc::undefined_condition;
  error_type type = error_type::cancel;
  std::string text = {};
  std::string application = {}; // XML of the application-specific condition (RFC 6120 section 8.3.4), or nothing
  stanza_error(stanza_errc c);                    // NOLINT: a condition is an error
  stanza_error(stanza_errc c, error_type t, std::string text = {});
  friend bool operator==(const stanza_error&, const stanza_error&) = default;
};
/// Null: none.
using error_ref = std::shared_ptr<const stanza_error>;

/// `<stream:error>…</stream:error>`, without the closing stream tag.
[[nodiscard]] std::string to_xml(stream_errc e, std::string_view text = {});
[[nodiscard]] std::string to_xml(const stanza_error& e);
/// `<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>…`
[[nodiscard]] std::string to_xml(sasl_errc e, std::string_view text = {});

/// The error answer to `s`: kind and id kept, from and to exchanged, type error. Null for what must
/// not be answered (an error, a result; RFC 6120 section 8.3.1).
[[nodiscard]] stanza_ref make_error(const stanza& s, const stanza_error& e);
/// The result answer to the request `s`; `payload` is XML or empty.
[[nodiscard]] stanza_ref make_result(const stanza& s, std::string_view payload = {});

} // namespace xmpp
