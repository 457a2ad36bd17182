// The rules of a client's stream until it is bound (negotiation.hpp). Section numbers are RFC 6120's.
#include "xmpp/stream/negotiation.hpp"
#include "base/bytes.hpp"
#include "xmpp/element.hpp"
#include <algorithm>
#include <deque>

namespace xmpp::stream {
namespace {

constexpr std::string_view ns_tls = "urn:ietf:params:xml:ns:xmpp-tls";
constexpr std::string_view ns_sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
constexpr std::string_view ns_bind = "urn:ietf:params:xml:ns:xmpp-bind";
constexpr std::string_view ns_session = "urn:ietf:params:xml:ns:xmpp-session";
constexpr std::string_view ns_stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas";
constexpr std::string_view ns_streams = "urn:ietf:params:xml:ns:xmpp-streams";
constexpr std::string_view ns_binding_types = "urn:xmpp:sasl-cb:0"; // XEP-0440
constexpr std::string_view ns_management = "urn:xmpp:sm:3";         // XEP-0198
constexpr std::string_view ns_compress = "http://jabber.org/protocol/compress";         // XEP-0138
constexpr std::string_view ns_compress_feature = "http://jabber.org/features/compress";
constexpr std::size_t max_waiting = 32; // elements kept while an answer is awaited
constexpr int max_bind_attempts = 5;
constexpr std::size_t nonce_bytes = 18, id_bytes = 12, resource_bytes = 9;

/// Section 4.7.5: two decimal numbers with a dot; leading zeros count for nothing. True from 1.0 on:
/// to a later version we answer with our own, which is the lower one.
bool is_good_version(std::string_view v) {
  auto dot = v.find('.');
  if (dot == std::string_view::npos)
    return false;
  auto major = base::to_number<std::uint32_t>(v.substr(0, dot)), minor = base::to_number<std::uint32_t>(v.substr(dot + 1));
  return major && minor && *major >= 1;
}

/// One per thread: parsing needs no allocation then.
element parse(const xmpp::stanza& s) {
  thread_local document d;
  return d.parse(s.bytes());
}

std::string iq_answer(std::string_view id, std::string_view type, std::string_view payload) {
  writer w;
  w.open("iq").attr("type", type).attr("id", id).raw(payload).close();
  return w.take();
}

} // namespace

std::string header_xml(std::string_view from, std::string_view to, std::string_view id) {
  std::string out = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
                    "xmlns:stream='http://etherx.jabber.org/streams'";
  auto attr = [&](std::string_view name, std::string_view value) {
    if (value.empty())
      return;
    out += ' ';
    out += name;
    out += "='";
    append_escaped(out, value);
    out += '\'';
  };
  attr("from", from);
  attr("to", to);
  attr("id", id);
  attr("version", "1.0");
  attr("xml:lang", "en");
  return out += '>';
}

stanza_ref answer_when_bound(const xmpp::stanza& s) {
  if (s.kind() != stanza_kind::iq || s.type() != stanza_type::set
      || s.bytes().find("urn:ietf:params:xml:ns:xmpp-") == std::string_view::npos)
    return nullptr;
  if (s.to && !(s.from && (same_bare(*s.to, *s.from) || (s.to->is_domain() && s.to->full() == s.from->domain()))))
    return nullptr;
  auto payload = parse(s).first_child();
  if (payload.is("session", ns_session))
    return make_result(s);
  if (payload.is("bind", ns_bind)) // section 7.1: one resource a stream
    return make_error(s, {stanza_errc::not_allowed, error_type::cancel, "this stream is bound already"});
  return nullptr;
}

struct negotiation::impl {
  enum class stage : std::uint8_t {
    header,   // a stream header is due: the first, or after TLS or login
    login,    // features are out, nobody is logged in; `mechanism` set: in the middle of an exchange
    tls,      // <proceed/> is out
    keys, password, // an answer of the credentials is due
    bindable,
    binding,  // the session's answer is due
    resuming, // the earlier session's answer is due
    bound,
    over,
  };

  explicit impl(settings s) : cfg(std::move(s)), tls(std::move(cfg.tls)) {}

  settings cfg;
  std::optional<tls_facts> tls;
  stage at = stage::header;
  const host_settings* host = nullptr;
  jid_ref account;
  std::unique_ptr<sasl::mechanism> mechanism;
  std::string_view mechanism_name;
  std::string peer; // the `from` of the current header
  std::string bind_id, previd;
  bool header_sent = false, is_compressed = false;
  int failures = 0, requests = 0, binds = 0;
  std::deque<stanza_ref> waiting;
  commands out;

  void send(std::string xml) { out.emplace_back(todo::send{std::move(xml)}); }

  // --- ends

  void close(std::optional<stream_errc> why, std::string text = {}) {
    at = stage::over;
    mechanism.reset();
    waiting.clear();
    out.emplace_back(todo::close{why, std::move(text)});
  }

  /// Section 4.9.1.2: an error before our header gets the header first.
  void fail_with(stream_errc why, std::string_view error_xml, std::string_view text) {
    std::string xml;
    if (!header_sent)
      xml = header_xml(host ? host->domain : cfg.default_domain, peer, cfg.random->hex(id_bytes));
    xml += error_xml;
    xml += closing_tag;
    header_sent = true;
    send(std::move(xml));
    close(why, std::string{text});
  }
  void fail(stream_errc why, std::string_view text = {}) { fail_with(why, to_xml(why, text), text); }

  // --- headers and features

  void restart() {
    at = stage::header;
    header_sent = false;
    out.emplace_back(todo::restart_framer{});
  }

  void handle(on::opened& e) {
    if (at != stage::header)
      return fail(stream_errc::bad_format, "a stream header inside a stream");
    auto& h = e.header;
    header_sent = false;
    peer.clear();
    auto from = h.from.empty() ? base::result<jid_ref, jid_errc>{jid_ref{}} : parse_jid(h.from);
    if (from && *from)
      peer = (*from)->full();
    auto to = parse_jid(h.to);
    bool is_other = false;
    if (to && (*to)->is_domain() && (*to)->is_bare()) {
      if (!host)
        host = cfg.find_host((*to)->domain());
      else
        is_other = (*to)->domain() != host->domain; // frozen: a login is for the host it was opened with
    } else {
      is_other = true;
    }
    if (h.content_ns != "jabber:client")
      return fail(stream_errc::invalid_namespace, "clients speak jabber:client");
    if (!is_good_version(h.version)) // section 4.7.5, rule 5: none means 0.9, which we do not speak
      return fail(stream_errc::unsupported_version, "this server speaks XMPP 1.0");
    if (h.to.empty())
      return fail(stream_errc::improper_addressing, "the stream header has no 'to'");
    if (!host || is_other)
      return fail(stream_errc::host_unknown);
    if (!from)
      return fail(stream_errc::invalid_from, "'from' is not a JID");
    if (account && *from && !same_bare(**from, *account))
      return fail(stream_errc::invalid_from, "'from' is not who logged in");

    auto head = header_xml(host->domain, peer, cfg.random->hex(id_bytes));
    header_sent = true;
    if (!host->see_other_host.empty() && may_login()) {
      send(std::move(head));
      writer w;
      w.open("stream:error").open("see-other-host", ns_streams).text(host->see_other_host).close().close();
      return fail_with(stream_errc::see_other_host, w.take(), host->see_other_host);
    }
    at = account ? stage::bindable : stage::login;
    send(std::move(head) + features());
  }

  [[nodiscard]] bool may_login() const { return tls || !host->require_tls; }
  [[nodiscard]] bool may_use(sasl::mechanism_kind k) const {
    if (std::find(host->mechanisms.begin(), host->mechanisms.end(), k) == host->mechanisms.end())
      return false;
    if (sasl::is_plus(k))
      return tls && tls->bindings.any();
    return tls || k != sasl::mechanism_kind::plain || host->plain_without_tls;
  }
  [[nodiscard]] bool offers_plus() const {
    return may_use(sasl::mechanism_kind::scram_sha256_plus) || may_use(sasl::mechanism_kind::scram_sha1_plus);
  }

  [[nodiscard]] std::string features() const {
    writer w;
    w.open("stream:features");
    if (account) {
      w.open("bind", ns_bind).close();
      w.open("session", ns_session).open("optional").close().close();
      if (host->stream_management)
        w.open("sm", ns_management).close();
      if (host->compression && !is_compressed)
        w.open("compression", ns_compress_feature).leaf("method", "zlib").close();
      w.raw(host->features_after_login);
      return w.close().take();
    }
    if (!tls && host->has_tls) {
      w.open("starttls", ns_tls);
      if (host->require_tls)
        w.open("required").close();
      w.close();
    }
    if (may_login()) {
      w.open("mechanisms", ns_sasl);
      for (auto k : {sasl::mechanism_kind::scram_sha256_plus, sasl::mechanism_kind::scram_sha1_plus,
                     sasl::mechanism_kind::scram_sha256, sasl::mechanism_kind::scram_sha1, sasl::mechanism_kind::plain})
        if (may_use(k))
          w.leaf("mechanism", sasl::name_of(k));
      w.close();
      if (offers_plus()) {
        w.open("sasl-channel-binding", ns_binding_types);
        if (!tls->bindings.tls_exporter.empty())
          w.open("channel-binding").attr("type", "tls-exporter").close();
        if (!tls->bindings.tls_server_end_point.empty())
          w.open("channel-binding").attr("type", "tls-server-end-point").close();
        w.close();
      }
      w.raw(host->features_before_login);
    }
    return w.close().take();
  }

  void handle(on::ended&) {
    send((header_sent ? std::string{} : header_xml(host ? host->domain : cfg.default_domain, peer, cfg.random->hex(id_bytes)))
         + std::string{closing_tag});
    close(std::nullopt);
  }
  void handle(on::unreadable& e) { fail(stream_error_of(e.why)); }
  void handle(on::refused& e) { fail(e.why, e.text); }
  /// Section 5.4.3.3, CVE-2011-0411. The client waits for TLS: nothing in clear makes sense to it.
  void handle(on::injected_bytes&) { close(stream_errc::policy_violation, "bytes behind <starttls/>"); }

  void handle(on::tls_established& e) {
    if (tls || account || (at != stage::tls && (at != stage::header || host)))
      return fail(stream_errc::internal_server_error);
    tls = std::move(e.facts);
    at = stage::header;
  }

  // --- elements

  [[nodiscard]] bool awaits_answer() const {
    return at == stage::keys || at == stage::password || at == stage::binding || at == stage::resuming;
  }

  void handle(on::element& e) {
    if (awaits_answer()) {
      if (waiting.size() >= max_waiting)
        return fail(stream_errc::policy_violation, "too much before an answer");
      waiting.push_back(std::move(e.what));
      return;
    }
    on_element(std::move(e.what));
  }

  void go_on() {
    while (!waiting.empty() && !awaits_answer()) {
      auto next = std::move(waiting.front());
      waiting.pop_front();
      on_element(std::move(next));
    }
  }

  void on_element(stanza_ref s) {
    switch (at) {
    case stage::login: return before_login(std::move(s));
    case stage::bindable: return before_bind(*s);
    case stage::bound: return when_bound(std::move(s));
    case stage::header: return fail(stream_errc::policy_violation, "an element before the stream was opened again");
    case stage::tls: return close(stream_errc::policy_violation, "bytes behind <starttls/>");
    case stage::keys: case stage::password: case stage::binding: case stage::resuming: case stage::over: return;
    }
  }

  void before_login(stanza_ref s) {
    if (s->kind() != stanza_kind::other)
      return stanza_before_login(std::move(s));
    auto e = parse(*s);
    if (e.ns() == ns_sasl) {
      if (e.name() == "auth")
        return on_auth(e);
      if (e.name() == "response")
        return on_response(e);
      if (e.name() == "abort")
        return login_failed({sasl_errc::aborted, "the client gave up"});
    }
    if (e.is("starttls", ns_tls))
      return on_starttls();
    fail(stream_errc::unsupported_stanza_type);
  }

  void stanza_before_login(stanza_ref s) {
    if (s->kind() == stanza_kind::iq && s->is_request() && may_login() && !mechanism) {
      auto payload = parse(*s).first_child();
      std::string ns{payload ? payload.ns() : std::string_view{}};
      auto& open_to_all = host->namespaces_before_login;
      if (std::find(open_to_all.begin(), open_to_all.end(), ns) != open_to_all.end()) {
        if (++requests > host->max_requests_before_login)
          return fail(stream_errc::policy_violation, "too many requests before login");
        out.emplace_back(todo::request_before_login{std::move(s), std::move(ns)});
        return;
      }
    }
    fail(stream_errc::not_authorized); // section 4.9.3.12
  }

  /// Section 5.4.2: <proceed/>, or <failure/> and the end.
  void on_starttls() {
    if (tls || !host->has_tls || mechanism)
      return refuse_starttls();
    writer w;
    w.open("proceed", ns_tls).close();
    send(w.take());
    restart();
    at = stage::tls;
    out.emplace_back(todo::start_tls{});
  }

  void refuse_starttls() {
    writer w;
    w.open("failure", ns_tls).close();
    send(w.take() + std::string{closing_tag});
    close(std::nullopt, "STARTTLS was not on offer");
  }

  // --- SASL (section 6)

  void login_failed(const sasl::outcome::failure& f) {
    mechanism.reset();
    at = stage::login;
    send(to_xml(f.why));
    out.emplace_back(todo::login_failed{f.local, f.why, f.cause});
    if (++failures >= host->max_login_attempts)
      fail(stream_errc::policy_violation, "too many failed logins");
  }

  void on_auth(const element& e) {
    if (mechanism)
      return login_failed({sasl_errc::malformed_request, "a second <auth/> in the middle of the first"});
    auto kind = sasl::parse_mechanism(e.attr_or("mechanism", {}));
    if (!may_login())
      return login_failed({sasl_errc::encryption_required, "login before TLS"});
    if (kind == sasl::mechanism_kind::plain && !may_use(*kind) && !tls && host->has_tls)
      return login_failed({sasl_errc::encryption_required, "PLAIN without TLS"});
    if (!kind || !may_use(*kind))
      return login_failed({sasl_errc::invalid_mechanism, "a mechanism that is not on offer"});
    sasl::mechanism_settings s;
    s.host = host->domain;
    if (tls)
      s.bindings = tls->bindings;
    s.offered_plus = offers_plus();
    s.server_nonce = cfg.random->hex(nonce_bytes);
    s.fake_secret = host->fake_secret;
    s.fake_iterations = host->fake_iterations;
    mechanism = sasl::make_mechanism(*kind, std::move(s));
    mechanism_name = sasl::name_of(*kind);
    auto text = e.text();
    if (text.empty()) { // no initial response: the client speaks first in all that we offer
      writer w;
      w.open("challenge", ns_sasl).close();
      return send(w.take());
    }
    on_message(text);
  }

  void on_response(const element& e) {
    if (!mechanism)
      return login_failed({sasl_errc::malformed_request, "<response/> without <auth/>"});
    on_message(e.text());
  }

  /// "=" stands for a message of no bytes (section 6.4.2).
  void on_message(const std::string& text) {
    if (text.empty() || text == "=")
      return carry_out(mechanism->step({}));
    auto bytes = base::from_base64(text);
    if (!bytes)
      return login_failed({sasl_errc::incorrect_encoding, "not base64"});
    carry_out(mechanism->step(*bytes));
  }

  void carry_out(sasl::outcomes o) {
    std::visit([this](auto& x) { carry(x); }, o);
  }
  void carry(sasl::outcome::challenge& c) {
    at = stage::login;
    writer w;
    w.open("challenge", ns_sasl).text(base::to_base64(c.data)).close();
    send(w.take());
  }
  void carry(sasl::outcome::need_keys& n) {
    at = stage::keys;
    out.emplace_back(todo::find_keys{std::move(n.local), n.h});
  }
  void carry(sasl::outcome::need_password_check& n) {
    at = stage::password;
    out.emplace_back(todo::check_password{std::move(n.local), std::move(n.password)});
  }
  void carry(sasl::outcome::failure& f) { login_failed(f); }
  void carry(sasl::outcome::success& s) {
    mechanism.reset();
    account = std::move(s.account);
    writer w;
    w.open("success", ns_sasl);
    if (s.data)
      w.text(s.data->empty() ? "=" : base::to_base64(*s.data));
    send(w.close().take());
    out.emplace_back(todo::authenticated{account, mechanism_name});
    restart();
  }

  void handle(on::keys& e) {
    if (at != stage::keys)
      return;
    carry_out(mechanism->on_keys(e.answer));
    go_on();
  }
  void handle(on::password_checked& e) {
    if (at != stage::password)
      return;
    carry_out(mechanism->on_password(e.answer));
    go_on();
  }

  // --- resource binding (section 7)

  void before_bind(const xmpp::stanza& s) {
    auto e = parse(s);
    if (s.kind() == stanza_kind::other) {
      if (e.is("starttls", ns_tls))
        return refuse_starttls();
      if (e.ns() == ns_sasl)
        return fail(stream_errc::policy_violation, "logged in already");
      if (e.ns() == ns_management && host->stream_management)
        return on_management(e);
      if (e.is("compress", ns_compress))
        return on_compress(e);
      return fail(stream_errc::unsupported_stanza_type);
    }
    auto payload = e.first_child();
    if (s.kind() != stanza_kind::iq || s.type() != stanza_type::set || !payload.is("bind", ns_bind))
      return fail(stream_errc::not_authorized, "bind a resource first"); // section 7.1
    if (++binds > max_bind_attempts)
      return fail(stream_errc::policy_violation, "too many attempts to bind");
    bind_id = e.attr_or("id", {});
    auto resource = payload.child("resource", ns_bind).text();
    if (resource.empty())
      resource = cfg.random->hex(resource_bytes);
    auto full = with_resource(*account, resource);
    if (!full) // section 7.7.2.1
      return send(iq_answer(bind_id, "error", to_xml(stanza_error{stanza_errc::bad_request, error_type::modify,
                                                                 "not a valid resource"})));
    at = stage::binding;
    out.emplace_back(todo::bind{std::move(*full)});
  }

  void handle(on::bound& e) {
    if (at != stage::binding)
      return;
    writer w;
    w.open("bind", ns_bind).leaf("jid", e.full->full()).close();
    send(iq_answer(bind_id, "result", w.take()));
    at = stage::bound;
    go_on();
  }
  void handle(on::bind_refused& e) {
    if (at != stage::binding)
      return;
    send(iq_answer(bind_id, "error", to_xml(e.why)));
    at = stage::bindable;
    go_on();
  }

  // --- compression (XEP-0138): between login and bind, so that no password is in what is compressed

  void on_compress(const element& e) {
    auto failed = [this](std::string_view why) {
      if (++binds > max_bind_attempts)
        return fail(stream_errc::policy_violation, "too many attempts to compress");
      writer w;
      w.open("failure", ns_compress).open(why).close().close();
      send(w.take());
    };
    if (!host->compression || is_compressed)
      return failed("setup-failed");
    if (e.child("method", ns_compress).text() != "zlib")
      return failed("unsupported-method");
    if (!cfg.prepare_compression || !cfg.prepare_compression())
      return failed("setup-failed");
    is_compressed = true;
    writer w;
    w.open("compressed", ns_compress).close();
    send(w.take());
    restart();
    out.emplace_back(todo::start_compression{});
  }

  // --- stream management before a resource is bound (XEP-0198 sections 3 and 5)

  static std::string failed_xml(stanza_errc why, std::optional<std::uint32_t> h = {}) {
    writer w;
    w.open("failed", ns_management);
    if (h)
      w.attr("h", std::to_string(*h));
    return w.open(name_of(why), ns_stanzas).close().close().take();
  }

  void on_management(const element& e) {
    if (e.name() != "resume") // <enable/> needs a resource, <r/> and <a/> need <enable/>
      return send(failed_xml(stanza_errc::unexpected_request));
    if (++binds > max_bind_attempts)
      return fail(stream_errc::policy_violation, "too many attempts to resume");
    auto h = base::to_number<std::uint32_t>(e.attr_or("h", {}));
    previd = e.attr_or("previd", {});
    if (!h || previd.empty())
      return send(failed_xml(stanza_errc::bad_request));
    at = stage::resuming;
    out.emplace_back(todo::resume{previd, *h, account});
  }

  void handle(on::resumed& e) {
    if (at != stage::resuming)
      return;
    writer w;
    w.open("resumed", ns_management).attr("previd", previd).attr("h", std::to_string(e.h)).close();
    send(w.take());
    at = stage::bound;
    go_on();
  }
  void handle(on::resume_refused& e) {
    if (at != stage::resuming)
      return;
    send(failed_xml(e.why, e.h));
    at = stage::bindable;
    go_on();
  }

  void when_bound(stanza_ref s) {
    if (s->kind() == stanza_kind::other)
      return fail(stream_errc::unsupported_stanza_type);
    if (s->raw_to().empty())
      if (auto answer = answer_when_bound(*s))
        return send(to_string(answer));
    out.emplace_back(todo::stanza{std::move(s)});
  }
};

negotiation::negotiation(settings s) : impl_(std::make_unique<impl>(std::move(s))) {}
negotiation::~negotiation() = default;
negotiation::negotiation(negotiation&&) noexcept = default;
negotiation& negotiation::operator=(negotiation&&) noexcept = default;

commands negotiation::step(event what) {
  if (impl_->at == impl::stage::over)
    return {};
  std::visit([this](auto& e) { impl_->handle(e); }, what);
  return std::exchange(impl_->out, {});
}

bool negotiation::is_bound() const { return impl_->at == impl::stage::bound; }
bool negotiation::is_authenticated() const { return impl_->account != nullptr; }
bool negotiation::is_encrypted() const { return impl_->tls.has_value(); }
const host_settings* negotiation::host() const { return impl_->host; }
const jid_ref& negotiation::account() const { return impl_->account; }

} // namespace xmpp::stream
