// SASL on a stream (RFC 6120 section 6): one exchange at a time, in its profile or in that of XEP-0388.
#include "base/bytes.hpp"
#include "xmpp/sasl/anonymous.hpp"
#include "xmpp/stream/negotiation_impl.hpp"

namespace xmpp::stream {
namespace {
constexpr std::size_t nonce_bytes = 18;
constexpr std::size_t anonymous_bytes = 16;
} // namespace

void negotiation::impl::send_failure(sasl_errc why, std::string_view extra) {
  if (!login)
    return send(to_xml(why));
  writer w;
  w.open("failure", ns_sasl2).open(name_of(why), ns_sasl).close().raw(extra).close();
  send(w.take());
}

void negotiation::impl::login_failed(const sasl::outcome::failure& f) {
  send_failure(f.why);
  mechanism.reset();
  login.reset();
  at = stage::login;
  out.emplace_back(todo::login_failed{f.local, f.why, f.cause});
  if (++failures >= host->max_login_attempts)
    fail(stream_errc::policy_violation, "too many failed logins");
}

void negotiation::impl::on_auth(const element& e) {
  if (mechanism)
    return login_failed({sasl_errc::malformed_request, "a second <auth/> in the middle of the first"});
  auto kind = sasl::parse_mechanism(e.attr_or("mechanism", {}));
  if (!check_offer(kind, false))
    return;
  begin(*kind);
  auto text = e.text();
  if (text.empty())
    return ask_for_message();
  on_message(text);
}

bool negotiation::impl::check_offer(std::optional<sasl::mechanism_kind> kind, bool may_be_token) {
  if (!may_login() || (kind == sasl::mechanism_kind::plain && !may_use(*kind) && !tls && host->has_tls))
    login_failed({sasl_errc::encryption_required, may_login() ? "PLAIN without TLS" : "login before TLS"});
  else if (!kind || !may_use(*kind) || (sasl::is_token(*kind) && !may_be_token))
    login_failed({sasl_errc::invalid_mechanism, "a mechanism that is not on offer"});
  else
    return true;
  return false;
}

void negotiation::impl::begin(sasl::mechanism_kind kind) {
  sasl::mechanism_settings s;
  s.host = host->domain;
  if (tls) {
    s.bindings = tls->bindings;
    s.certified = tls->client_addresses;
  }
  s.offered_plus = offers_plus();
  if (sasl::is_scram(kind))
    s.offer = downgrade_text();
  s.server_nonce = cfg.random->hex(nonce_bytes);
  s.fake_secret = host->fake_secret;
  s.fake_iterations = host->fake_iterations;
  if (kind == sasl::mechanism_kind::anonymous)
    s.fresh_name = std::string{sasl::anonymous_prefix} + cfg.random->hex(anonymous_bytes);
  if (login) {
    s.client = login->wanted.client;
    s.count = login->wanted.count;
  }
  mechanism = sasl::make_mechanism(kind, std::move(s));
  mechanism_kind = kind;
}

/// No initial response: the client speaks first in all that we offer.
void negotiation::impl::ask_for_message() {
  writer w;
  w.open("challenge", login ? ns_sasl2 : ns_sasl).close();
  send(w.take());
}

void negotiation::impl::on_response(const element& e) {
  if (!mechanism)
    return login_failed({sasl_errc::malformed_request, "<response/> without <auth/>"});
  on_message(e.text());
}

/// "=" stands for a message of no bytes (section 6.4.2); XEP-0388 has no need of it.
void negotiation::impl::on_message(const std::string& text) {
  if (text.empty() || (text == "=" && !login))
    return carry_out(mechanism->step({}));
  auto bytes = base::from_base64(text);
  if (!bytes)
    return login_failed({sasl_errc::incorrect_encoding, "not base64"});
  carry_out(mechanism->step(*bytes));
}

void negotiation::impl::carry_out(sasl::outcomes o) {
  std::visit([this](auto& x) { carry(x); }, o);
}
void negotiation::impl::carry(sasl::outcome::challenge& c) {
  at = stage::login;
  writer w;
  w.open("challenge", login ? ns_sasl2 : ns_sasl).text(base::to_base64(c.data)).close();
  send(w.take());
}
void negotiation::impl::carry(sasl::outcome::need_keys& n) {
  wait_for(awaited::keys);
  out.emplace_back(todo::find_keys{std::move(n.local), n.h});
}
void negotiation::impl::carry(sasl::outcome::need_password_check& n) {
  wait_for(awaited::account);
  out.emplace_back(todo::check_password{std::move(n.local), std::move(n.password)});
}
void negotiation::impl::carry(sasl::outcome::need_account& n) {
  wait_for(awaited::account);
  out.emplace_back(todo::find_account{std::move(n.local)});
}
void negotiation::impl::carry(sasl::outcome::need_tokens& n) {
  wait_for(awaited::tokens);
  out.emplace_back(todo::find_tokens{std::move(n.local), std::move(n.client)});
}

void negotiation::impl::carry(sasl::outcome::success& s) {
  mechanism.reset();
  if (login)
    return verified(std::move(s));
  account = std::move(s.account);
  writer w;
  w.open("success", ns_sasl);
  if (s.data)
    w.text(s.data->empty() ? "=" : base::to_base64(*s.data));
  send(w.close().take());
  out.emplace_back(todo::authenticated{account, sasl::name_of(mechanism_kind)});
  restart();
}

bool negotiation::impl::take(awaited what) {
  if (at != stage::credentials || due != what)
    return false;
  due = awaited::nothing;
  return true;
}

void negotiation::impl::handle(on::keys& e) {
  if (!take(awaited::keys))
    return;
  carry_out(mechanism->on_keys(e.answer));
  go_on();
}
void negotiation::impl::handle(on::password_checked& e) {
  if (!take(awaited::account))
    return;
  carry_out(mechanism->on_account(e.answer));
  go_on();
}
void negotiation::impl::handle(on::tokens& e) {
  if (!take(awaited::tokens))
    return;
  carry_out(mechanism->on_tokens(e.answer));
  go_on();
}

} // namespace xmpp::stream
