// The inside of the negotiation machine, for its own files: negotiation.cpp (headers, TLS, what may come when, ends),
// features.cpp, login.cpp (SASL and the profile of RFC 6120), login2.cpp (that of XEP-0388), bind.cpp.
#pragma once
#include "xmpp/stream/sasl2_request.hpp"
#include <deque>

namespace xmpp::stream {

inline constexpr std::string_view ns_tls = "urn:ietf:params:xml:ns:xmpp-tls";
inline constexpr std::string_view ns_sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
inline constexpr std::string_view ns_bind = "urn:ietf:params:xml:ns:xmpp-bind";
inline constexpr std::string_view ns_session = "urn:ietf:params:xml:ns:xmpp-session";
inline constexpr std::string_view ns_stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas";
inline constexpr std::string_view ns_streams = "urn:ietf:params:xml:ns:xmpp-streams";
inline constexpr std::string_view ns_compress = "http://jabber.org/protocol/compress"; // XEP-0138
inline constexpr int max_bind_attempts = 5;
inline constexpr std::size_t id_bytes = 12, resource_bytes = 9;

/// One per thread: parsing needs no allocation then. The element lives until the next call.
[[nodiscard]] element parse(const xmpp::stanza& s);

struct negotiation::impl {
  enum class stage : std::uint8_t {
    header,   // a stream header is due: the first, or after TLS or login
    login,    // features are out, nobody is logged in; `mechanism` set: in the middle of an exchange
    tls,      // <proceed/> is out
    credentials, // an answer of the credentials is due
    task,     // the login is good, but for a task of XEP-0388 that its client is at
    bindable,
    binding,  // the session's answer is due
    resuming, // the earlier session's answer is due
    bound,
    over,
  };
  /// Which answer of the credentials is due.
  enum class awaited : std::uint8_t { nothing, keys, account, tokens, keys_added, tokens_changed };

  /// A login by XEP-0388 from <authenticate/> to <success/>.
  struct login2 {
    authenticate wanted;
    sasl::outcome::success verified; // once the mechanism is content
    std::optional<sasl::issued_token> issued;
    std::string salt;                // of the keys that are being made; empty: <next/> is due
    std::string failed_resume;       // XML
  };

  explicit impl(settings s) : cfg(std::move(s)), tls(std::move(cfg.tls)) {}

  settings cfg;
  std::optional<tls_facts> tls;
  stage at = stage::header;
  awaited due = awaited::nothing;
  const host_settings* host = nullptr;
  jid_ref account;
  std::unique_ptr<sasl::mechanism> mechanism;
  sasl::mechanism_kind mechanism_kind = sasl::mechanism_kind::plain; // of the last attempt
  std::unique_ptr<login2> login; // null: the profile of RFC 6120
  std::string peer;           // the `from` of the current header
  std::string config_version; // of the features that are out
  std::string bind_id, previd;
  bool header_sent = false, is_compressed = false;
  int failures = 0, requests = 0, binds = 0;
  std::deque<stanza_ref> waiting;
  commands out;

  void send(std::string xml) { out.emplace_back(todo::send{std::move(xml)}); }

  // --- negotiation.cpp
  void close(std::optional<stream_errc> why, std::string text = {});
  void fail_with(stream_errc why, std::string_view error_xml, std::string_view text);
  void fail(stream_errc why, std::string_view text = {}) { fail_with(why, to_xml(why, text), text); }
  void restart();
  void handle(on::opened& e);
  void handle(on::ended&);
  void handle(on::unreadable& e) { fail(stream_error_of(e.why)); }
  void handle(on::refused& e) { fail(e.why, e.text); }
  void handle(on::injected_bytes&);
  void handle(on::tls_established& e);
  void handle(on::element& e);
  [[nodiscard]] bool awaits_answer() const {
    return at == stage::credentials || at == stage::binding || at == stage::resuming;
  }
  void go_on();
  void on_element(stanza_ref s);
  void before_login(stanza_ref s);
  void stanza_before_login(stanza_ref s);
  void when_bound(stanza_ref s);
  void on_starttls();
  void refuse_starttls();

  // --- features.cpp: what this stream may use, and its XML
  [[nodiscard]] bool may_login() const { return tls || !host->require_tls; }
  [[nodiscard]] bool may_use(sasl::mechanism_kind k) const;
  [[nodiscard]] bool offers_plus() const;
  /// XEP-0388 section 4, XEP-0484 section 6: over TLS only, but for benchmarks and tests.
  [[nodiscard]] bool offers_sasl2() const { return tls || host->plain_without_tls; }
  [[nodiscard]] std::string downgrade_text() const;
  [[nodiscard]] std::string features_before_login();
  /// What is left to do once `done` is.
  [[nodiscard]] std::string features_after_login(bool is_bound = false, bool is_managed = false) const;

  // --- login.cpp
  void login_failed(const sasl::outcome::failure& f);
  /// In the profile of the login that is under way. `extra` stands inside <failure/>.
  void send_failure(sasl_errc why, std::string_view extra = {});
  void on_auth(const element& e);
  void on_response(const element& e);
  /// Is it on offer to this client? If not, that is answered.
  bool check_offer(std::optional<sasl::mechanism_kind> kind, bool may_be_token);
  void begin(sasl::mechanism_kind kind);
  void ask_for_message();
  void on_message(const std::string& text);
  void carry_out(sasl::outcomes o);
  void carry(sasl::outcome::challenge& c);
  void carry(sasl::outcome::need_keys& n);
  void carry(sasl::outcome::need_password_check& n);
  void carry(sasl::outcome::need_account& n);
  void carry(sasl::outcome::need_tokens& n);
  void carry(sasl::outcome::failure& f) { login_failed(f); }
  void carry(sasl::outcome::success& s);
  void wait_for(awaited what) {
    at = stage::credentials;
    due = what;
  }
  /// Is it the answer that is due? Then it no longer is.
  bool take(awaited what);
  void handle(on::keys& e);
  void handle(on::password_checked& e);
  void handle(on::tokens& e);

  // --- login2.cpp
  void on_sasl2(const element& e);
  void on_authenticate(const element& e);
  void verified(sasl::outcome::success s);
  void next_upgrade();
  void on_task(const element& e);
  void on_salted(const element& e);
  void handle(on::keys_added& e);
  void change_tokens();
  void handle(on::tokens_changed& e);
  void admit();
  void bind_inline();
  void succeed(const jid& who, std::string_view inner, std::string_view features);

  // --- bind.cpp
  void before_bind(const xmpp::stanza& s);
  void handle(on::bound& e);
  void handle(on::bind_refused& e);
  void on_compress(const element& e);
  void on_management(const element& e);
  /// <failed/> of XEP-0198 and, for want of another, of XEP-0386.
  [[nodiscard]] static std::string failed_xml(std::string_view ns, stanza_errc why, std::optional<std::uint32_t> h = {});
  void handle(on::resumed& e);
  void handle(on::resume_refused& e);
};

} // namespace xmpp::stream
