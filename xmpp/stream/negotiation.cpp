// The rules of a client's stream until it is bound (negotiation.hpp): headers, TLS, what may come when, ends. Section
// numbers are RFC 6120's.
#include "base/bytes.hpp"
#include "xmpp/stream/negotiation_impl.hpp"
#include <algorithm>

namespace xmpp::stream {
namespace {

constexpr std::size_t max_waiting = 32; // elements kept while an answer is awaited

/// Section 4.7.5: two decimal numbers with a dot; leading zeros count for nothing. True from 1.0 on:
/// to a later version we answer with our own, which is the lower one.
bool is_good_version(std::string_view v) {
  auto dot = v.find('.');
  if (dot == std::string_view::npos)
    return false;
  auto major = base::to_number<std::uint32_t>(v.substr(0, dot)), minor = base::to_number<std::uint32_t>(v.substr(dot + 1));
  return major && minor && *major >= 1;
}

} // namespace

element parse(const xmpp::stanza& s) {
  thread_local document d;
  return d.parse(s.bytes());
}

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

// --- ends

void negotiation::impl::close(std::optional<stream_errc> why, std::string text) {
  at = stage::over;
  mechanism.reset();
  login.reset();
  waiting.clear();
  out.emplace_back(todo::close{why, std::move(text)});
}

/// Section 4.9.1.2: an error before our header gets the header first.
void negotiation::impl::fail_with(stream_errc why, std::string_view error_xml, std::string_view text) {
  std::string xml;
  if (!header_sent)
    xml = header_xml(host ? host->domain : cfg.default_domain, peer, cfg.random->hex(id_bytes));
  xml += error_xml;
  xml += closing_tag;
  header_sent = true;
  send(std::move(xml));
  close(why, std::string{text});
}

// --- headers

void negotiation::impl::restart() {
  at = stage::header;
  header_sent = false;
  out.emplace_back(todo::restart_framer{});
}

void negotiation::impl::handle(on::opened& e) {
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
  if (*from && (*from)->domain() != host->domain) // XEP-0388 section 2.1
    return fail(stream_errc::invalid_from, "'from' is not of this host");
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
  send(std::move(head) + (account ? features_after_login() : features_before_login()));
}

void negotiation::impl::handle(on::ended&) {
  send((header_sent ? std::string{} : header_xml(host ? host->domain : cfg.default_domain, peer, cfg.random->hex(id_bytes)))
       + std::string{closing_tag});
  close(std::nullopt);
}
/// Section 5.4.3.3, CVE-2011-0411. The client waits for TLS: nothing in clear makes sense to it.
void negotiation::impl::handle(on::injected_bytes&) { close(stream_errc::policy_violation, "bytes behind <starttls/>"); }

void negotiation::impl::handle(on::tls_established& e) {
  if (tls || account || (at != stage::tls && (at != stage::header || host)))
    return fail(stream_errc::internal_server_error);
  tls = std::move(e.facts);
  at = stage::header;
}

// --- elements

void negotiation::impl::handle(on::element& e) {
  if (awaits_answer()) {
    if (waiting.size() >= max_waiting)
      return fail(stream_errc::policy_violation, "too much before an answer");
    waiting.push_back(std::move(e.what));
    return;
  }
  on_element(std::move(e.what));
}

void negotiation::impl::go_on() {
  while (!waiting.empty() && !awaits_answer()) {
    auto next = std::move(waiting.front());
    waiting.pop_front();
    on_element(std::move(next));
  }
}

void negotiation::impl::on_element(stanza_ref s) {
  switch (at) {
  case stage::login: return before_login(std::move(s));
  case stage::bindable: return before_bind(*s);
  case stage::bound: return when_bound(std::move(s));
  case stage::header: return fail(stream_errc::policy_violation, "an element before the stream was opened again");
  case stage::tls: return close(stream_errc::policy_violation, "bytes behind <starttls/>");
  case stage::task: return on_task(parse(*s));
  case stage::credentials: case stage::binding: case stage::resuming: case stage::over: return;
  }
}

void negotiation::impl::before_login(stanza_ref s) {
  auto is_busy = login != nullptr; // XEP-0388 section 2.4: nothing else inside its exchange
  if (s->kind() != stanza_kind::other && !is_busy)
    return stanza_before_login(std::move(s));
  auto e = parse(*s);
  if (e.ns() == ns_sasl2 && !(is_busy && e.name() == "authenticate"))
    return on_sasl2(e);
  if (is_busy)
    return fail(stream_errc::policy_violation, "something else in the middle of a login");
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

void negotiation::impl::stanza_before_login(stanza_ref s) {
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
void negotiation::impl::on_starttls() {
  if (tls || !host->has_tls || mechanism)
    return refuse_starttls();
  writer w;
  w.open("proceed", ns_tls).close();
  send(w.take());
  restart();
  at = stage::tls;
  out.emplace_back(todo::start_tls{});
}

void negotiation::impl::refuse_starttls() {
  writer w;
  w.open("failure", ns_tls).close();
  send(w.take() + std::string{closing_tag});
  close(std::nullopt, "STARTTLS was not on offer");
}

void negotiation::impl::when_bound(stanza_ref s) {
  if (s->raw_to().empty())
    if (auto answer = answer_when_bound(*s))
      return send(to_string(answer));
  out.emplace_back(todo::stanza{std::move(s)});
}

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
