// Resource binding (RFC 6120 section 7), compression before it (XEP-0138), resumption in its place (XEP-0198 section 5),
// and how those that came with a login are answered (XEP-0386, XEP-0388).
#include "xmpp/stream/negotiation_impl.hpp"

namespace xmpp::stream {
namespace {

std::string iq_answer(std::string_view id, std::string_view type, std::string_view payload) {
  writer w;
  w.open("iq").attr("type", type).attr("id", id).raw(payload).close();
  return w.take();
}

} // namespace

void negotiation::impl::before_bind(const xmpp::stanza& s) {
  auto e = parse(s);
  if (s.kind() == stanza_kind::other) {
    if (e.is("starttls", ns_tls))
      return refuse_starttls();
    if (e.ns() == ns_sasl || e.ns() == ns_sasl2)
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

void negotiation::impl::handle(on::bound& e) {
  if (at != stage::binding)
    return;
  at = stage::bound;
  writer w;
  if (login) {
    w.open("bound", ns_bind2).raw(e.inline_xml).close();
    succeed(*e.full, w.take(), features_after_login(true, login->wanted.bind->extras.enable_management.has_value()));
  } else {
    w.open("bind", ns_bind).leaf("jid", e.full->full()).close();
    send(iq_answer(bind_id, "result", w.take()));
  }
  go_on();
}

/// XEP-0386 knows no answer for this: who logged in is told why, and may bind as RFC 6120 has it.
void negotiation::impl::handle(on::bind_refused& e) {
  if (at != stage::binding)
    return;
  at = stage::bindable;
  if (login)
    succeed(*account, failed_xml(ns_bind2, e.why.condition), features_after_login());
  else
    send(iq_answer(bind_id, "error", to_xml(e.why)));
  go_on();
}

/// Between login and bind, so that no password is in what is compressed.
void negotiation::impl::on_compress(const element& e) {
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

std::string negotiation::impl::failed_xml(std::string_view ns, stanza_errc why, std::optional<std::uint32_t> h) {
  writer w;
  w.open("failed", ns);
  if (h)
    w.attr("h", std::to_string(*h));
  return w.open(name_of(why), ns_stanzas).close().close().take();
}

void negotiation::impl::on_management(const element& e) {
  if (e.name() != "resume") // <enable/> needs a resource, <r/> and <a/> need <enable/>
    return send(failed_xml(ns_management, stanza_errc::unexpected_request));
  if (++binds > max_bind_attempts)
    return fail(stream_errc::policy_violation, "too many attempts to resume");
  auto wanted = parse_resume(e);
  if (!wanted)
    return send(failed_xml(ns_management, stanza_errc::bad_request));
  at = stage::resuming;
  previd = std::move(wanted->previd);
  out.emplace_back(todo::resume{previd, wanted->h, account});
}

void negotiation::impl::handle(on::resumed& e) {
  if (at != stage::resuming)
    return;
  at = stage::bound;
  writer w;
  w.open("resumed", ns_management).attr("previd", previd).attr("h", std::to_string(e.h)).close();
  if (login) // no features: the stream is the earlier one again (XEP-0198 section 6.2)
    succeed(*e.full, w.take(), {});
  else
    send(w.take());
  go_on();
}

void negotiation::impl::handle(on::resume_refused& e) {
  if (at != stage::resuming)
    return;
  auto failed = failed_xml(ns_management, e.why, e.h);
  if (login) {
    login->failed_resume = std::move(failed);
    bind_inline(); // XEP-0386 section 3.2: a new session instead, if one was asked for
  } else {
    at = stage::bindable;
    send(std::move(failed));
  }
  go_on();
}

} // namespace xmpp::stream
