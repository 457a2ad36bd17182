// Logging in by XEP-0388: the exchange, tasks (XEP-0480), tokens (XEP-0484), then inline resumption (XEP-0198) or binding
// (XEP-0386), all answered by one <success/>.
#include "base/bytes.hpp"
#include "xmpp/sasl/scram_keys.hpp"
#include "xmpp/stream/negotiation_impl.hpp"
#include <algorithm>

namespace xmpp::stream {

void negotiation::impl::on_sasl2(const element& e) {
  if (mechanism && !login)
    return login_failed({sasl_errc::malformed_request, "the other profile in the middle of a login"});
  if (e.name() == "authenticate")
    return on_authenticate(e);
  if (e.name() != "response" && e.name() != "abort")
    return fail(stream_errc::unsupported_stanza_type);
  if (!login)
    login = std::make_unique<login2>(); // the failure is told in this profile
  if (e.name() == "abort")
    return login_failed({sasl_errc::aborted, "the client gave up"});
  if (!mechanism)
    return login_failed({sasl_errc::malformed_request, "<response/> without <authenticate/>"});
  on_message(e.text());
}

void negotiation::impl::on_authenticate(const element& e) {
  login = std::make_unique<login2>();
  auto wanted = parse_authenticate(e, *host);
  if (!wanted)
    return login_failed({wanted.error(), "bad <authenticate/>"});
  // XEP-0509 section 2.2: nothing was tried, so nothing is counted against the account
  if (wanted->config_version && *wanted->config_version != config_version) {
    writer w;
    w.open("config-version-mismatch", ns_config_version).close();
    send_failure(sasl_errc::aborted, w.take());
    login.reset();
    if (++requests > host->max_requests_before_login)
      fail(stream_errc::policy_violation, "too many requests before login");
    return;
  }
  login->wanted = std::move(*wanted);
  auto kind = sasl::parse_mechanism(login->wanted.mechanism);
  if (!check_offer(offers_sasl2() ? kind : std::nullopt, true))
    return;
  if (sasl::is_token(*kind) && (!login->wanted.uses_token || login->wanted.client.empty())) // XEP-0484 section 4.1
    return login_failed({sasl_errc::malformed_request, "a token without <fast/> or <user-agent/>"});
  begin(*kind);
  if (!login->wanted.initial_response)
    return ask_for_message();
  auto text = std::move(*login->wanted.initial_response);
  on_message(text);
}

/// The mechanism is content. XEP-0388 section 2.3: who somebody is must be who the header said.
void negotiation::impl::verified(sasl::outcome::success s) {
  auto from = peer.empty() ? base::result<jid_ref, jid_errc>{jid_ref{}} : parse_jid(peer);
  if (from && *from && !same_bare(**from, *s.account))
    return login_failed({sasl_errc::invalid_authzid, "'from' is not who logged in", std::string{s.account->local()}});
  login->verified = std::move(s);
  next_upgrade();
}

/// Only who knows the password may add keys: with a stolen token somebody could make a password of his own. For PLAIN
/// there is no need, the server has seen the password.
void negotiation::impl::next_upgrade() {
  auto& wanted = login->wanted.upgrades;
  auto& v = login->verified;
  while (!wanted.empty()) {
    auto h = wanted.front();
    bool is_ours = std::find(host->upgrades.begin(), host->upgrades.end(), h) != host->upgrades.end();
    if (sasl::is_scram(mechanism_kind) && is_ours && !v.facts.has(h))
      break;
    wanted.erase(wanted.begin());
  }
  if (wanted.empty())
    return change_tokens();
  at = stage::task;
  login->salt.clear();
  writer w;
  w.open("continue", ns_sasl2);
  if (auto data = std::exchange(v.data, std::nullopt))
    w.leaf("additional-data", base::to_base64(*data));
  w.open("tasks").leaf("task", "UPGR-" + std::string{sasl::scram_name(wanted.front())}).close();
  send(w.close().take());
}

/// What a client may say at a task (XEP-0388 section 2.6.3, XEP-0480 section 3).
void negotiation::impl::on_task(const element& e) {
  auto failed = [this](std::string_view cause) {
    login_failed({sasl_errc::malformed_request, cause, std::string{login->verified.account->local()}});
  };
  auto h = login->wanted.upgrades.front();
  if (e.is("abort", ns_sasl2))
    return login_failed({sasl_errc::aborted, "the client gave up"});
  if (e.is("task-data", ns_sasl2) && !login->salt.empty())
    return on_salted(e);
  if (!e.is("next", ns_sasl2) || !login->salt.empty())
    return fail(stream_errc::policy_violation, "not what the task needs");
  if (e.attr_or("task", {}) != "UPGR-" + std::string{sasl::scram_name(h)})
    return failed("a task that was not offered");
  login->salt.resize(sasl::salt_size);
  cfg.random->fill({reinterpret_cast<std::uint8_t*>(login->salt.data()), login->salt.size()});
  writer w;
  w.open("task-data", ns_sasl2).open("salt", ns_scram_upgrade).attr("iterations", std::to_string(host->fake_iterations));
  send(w.text(base::to_base64(login->salt)).close().close().take());
}

void negotiation::impl::on_salted(const element& e) {
  auto h = login->wanted.upgrades.front();
  auto salted = base::from_base64(e.child("hash", ns_scram_upgrade).text());
  if (!salted || salted->size() != base::crypto::size_of(h))
    return login_failed({sasl_errc::malformed_request, "not a salted password", std::string{login->verified.account->local()}});
  wait_for(awaited::keys_added);
  out.emplace_back(todo::add_keys{std::string{login->verified.account->local()}, login->verified.facts.version, h,
                                  sasl::keys_of_salted(h, *salted, login->salt, host->fake_iterations)});
  base::crypto::wipe(*salted);
}

void negotiation::impl::handle(on::keys_added& e) {
  if (!take(awaited::keys_added))
    return;
  if (e.answer) {
    login->verified.facts = *e.answer;
    login->wanted.upgrades.erase(login->wanted.upgrades.begin());
    next_upgrade();
  } else {
    login_failed(sasl::refusal_of(e.answer.error(), login->verified.account->local()));
  }
  go_on();
}

/// A token that was used for the first time, counted, given back or asked for: a row changes, before <success/>.
void negotiation::impl::change_tokens() {
  auto& w = login->wanted;
  auto& v = login->verified;
  sasl::token_change c;
  if (w.wants_token && !w.client.empty() && sasl::is_token(*w.wants_token) && may_use(*w.wants_token)
      && mechanism_kind != sasl::mechanism_kind::anonymous)
    c.issue = w.wants_token;
  if (v.used) {
    c.used = v.used->secret;
    c.count = w.count;
    c.invalidate = w.invalidates_token;
    if (!c.issue && !c.invalidate && v.used->is_due) // XEP-0484 section 4.5
      c.issue = mechanism_kind;
  }
  if (!c.issue && !c.count && !c.invalidate && !(v.used && v.used->supersedes))
    return admit();
  c.local = v.account->local();
  c.client = w.client;
  c.account_version = v.facts.version;
  wait_for(awaited::tokens_changed);
  out.emplace_back(todo::change_tokens{std::move(c)});
}

void negotiation::impl::handle(on::tokens_changed& e) {
  if (!take(awaited::tokens_changed))
    return;
  if (!e.answer && login->verified.used) // it may be gone, or be replayed at this moment
    login_failed(sasl::refusal_of(e.answer.error(), login->verified.account->local()));
  else {
    if (e.answer)
      login->issued = std::move(*e.answer);
    admit(); // a password is good without a token, too
  }
  go_on();
}

void negotiation::impl::admit() {
  account = login->verified.account;
  out.emplace_back(todo::authenticated{account, sasl::name_of(mechanism_kind)});
  auto& w = login->wanted;
  if (w.resume) {
    at = stage::resuming;
    previd = w.resume->previd;
    out.emplace_back(todo::resume{previd, w.resume->h, account});
    return;
  }
  if (w.wants_resume)
    login->failed_resume = failed_xml(ns_management, stanza_errc::bad_request);
  bind_inline();
}

void negotiation::impl::bind_inline() {
  auto& wanted = login->wanted.bind;
  if (!wanted) {
    at = stage::bindable;
    return succeed(*account, {}, features_after_login());
  }
  auto full = choose_resource(*account, wanted->tag, login->wanted.client, host->fake_secret, *cfg.random);
  at = stage::binding;
  out.emplace_back(todo::bind{std::move(*full), wanted->extras});
}

/// `inner`: the answers to what was asked for inline, but for a resumption that failed.
void negotiation::impl::succeed(const jid& who, std::string_view inner, std::string_view features) {
  writer w;
  w.open("success", ns_sasl2);
  if (auto& data = login->verified.data)
    w.leaf("additional-data", base::to_base64(*data));
  w.leaf("authorization-identifier", who.full()).raw(login->failed_resume).raw(inner);
  if (auto& t = login->issued)
    w.open("token", ns_fast).attr("expiry", t->expires).attr("token", t->secret).close();
  send(w.close().take().append(features));
  login.reset();
}

} // namespace xmpp::stream
