// Carries out what the negotiation machine says; after bind it only passes outward.
#include "actors/stream.hpp"
#include "actors/connection.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include "actors/resumption.hpp"
#include "actors/session.hpp"
#include <algorithm>
#include <array>

namespace actors {

namespace {
xmpp::stream::tls_facts facts_of(const net::client_socket& s, std::uint64_t log_id) {
  auto f = s.facts();
  if (!f.client_problem.empty())
    base::log::warning("auth.certificate_refused", "a client's certificate was not taken; it may log in by other means",
                       {{"stream", std::to_string(log_id)}, {"peer", s.peer()}, {"error", f.client_problem}});
  return {f.protocol, {f.exporter, f.end_point_hash}, f.client_addresses};
}

void count_login(std::string_view mechanism) {
  static const auto counters = [] {
    std::array<base::metrics::counter*, std::size(xmpp::sasl::all_mechanisms) + std::size(xmpp::sasl::token_mechanisms)> all{};
    for (std::size_t i = 0; i < all.size(); ++i)
      all[i] = &base::metrics::make_counter("covey_logins_total", "Logins that succeeded.",
                                            {{"mechanism", std::string{xmpp::sasl::name_of(static_cast<xmpp::sasl::mechanism_kind>(i))}}});
    return all;
  }();
  if (auto k = xmpp::sasl::parse_mechanism(mechanism))
    counters[static_cast<std::size_t>(*k)]->add();
}

void count(const char* metric, const char* help, const char* label, std::string_view value) {
  base::metrics::make_counter(metric, help, {{label, std::string{value}}}).add();
}
} // namespace

stream::stream(home& h, connection& below) : home_(h), connection_(below), log_id_(h.around().next_log_id()) {}

stream::~stream() = default;

void stream::start() {
  xmpp::stream::settings s;
  s.find_host = [this](std::string_view domain) -> const xmpp::stream::host_settings* {
    negotiating_->host = home_.around().find_host(domain);
    if (negotiating_->host)
      return &negotiating_->host->stream;
    negotiating_->elsewhere = home_.around().find_elsewhere(domain);
    bool is_told = negotiating_->elsewhere && !negotiating_->elsewhere->stream.see_other_host.empty();
    return is_told ? &negotiating_->elsewhere->stream : nullptr;
  };
  auto hosts = home_.around().hosts();
  if (!hosts.empty())
    s.default_domain = hosts.front()->view.domain->domain();
  s.random = &home_.around().random();
  s.prepare_compression = [this] { return connection_.prepare_compression(); };
  negotiating_ = std::make_unique<negotiating>(xmpp::stream::negotiation{std::move(s)});
  negotiating_->deadline = home_.loop().after(home_.around().settings().login_timeout, [this] {
    home_.guard(id(), [this] {
      if (!has_header_)
        return connection_.abort(); // nobody there who would understand a stream error
      close(xmpp::stream_errc::connection_timeout, "login took too long");
    });
  });
}

void stream::step(xmpp::stream::event ev) {
  if (!negotiating_)
    return;
  auto todo = negotiating_->rules.step(std::move(ev));
  for (auto& c : todo)
    std::visit([this](auto& x) { carry(x); }, c);
}

// --- from the connection

void stream::on_header(xmpp::stream_open open) {
  has_header_ = true;
  if (!negotiating_)
    return close(xmpp::stream_errc::bad_format);
  negotiating_->open = open;
  step(xmpp::stream::on::opened{std::move(open)});
}

void stream::on_element(xmpp::stanza_ref what) {
  step(xmpp::stream::on::element{std::move(what)});
}

void stream::on_end() {
  if (negotiating_)
    return step(xmpp::stream::on::ended{});
  home_.post<stream>(home_.index(), id(), [](stream& self) { self.close(); }); // behind what came before: it is on the lane
}

void stream::on_framing_error(xmpp::framer_errc why) {
  if (negotiating_)
    return step(xmpp::stream::on::unreadable{why});
  connection_.pause(); // nothing behind it counts
  home_.post<stream>(home_.index(), id(), [why](stream& self) { self.close(xmpp::stream_error_of(why)); }); // but what came before does
}

void stream::on_injected_bytes() { step(xmpp::stream::on::injected_bytes{}); }

void stream::on_tls() {
  if (negotiating_)
    step(xmpp::stream::on::tls_established{facts_of(connection_.socket(), log_id_)});
}

void stream::on_lost() {
  is_closed_ = true;
  negotiating_ = nullptr;
  if (auto* s = home_.find<actors::session>(std::exchange(session_, 0)))
    s->on_stream_lost(connection_.take_unwritten());
  end();
}

// --- what the machine wants

void stream::carry(xmpp::stream::todo::send& c) { connection_.send(c.xml); }
void stream::carry(xmpp::stream::todo::start_tls&) { connection_.start_tls(); }
void stream::carry(xmpp::stream::todo::start_compression&) { connection_.start_compression(); }
void stream::carry(xmpp::stream::todo::restart_framer&) { connection_.restart_framer(); }

/// The answer of a pool comes back through the lane. Until then nothing more is framed.
template <class Event, class Answer>
std::function<void(Answer)> stream::answer_as() {
  connection_.pause();
  return [&h = home_, me = id()](Answer a) {
    h.post_from_anywhere<stream>(me, [a = std::move(a)](stream& self) mutable {
      self.step(Event{std::move(a)});
      self.connection_.resume();
    });
  };
}

void stream::carry(xmpp::stream::todo::find_keys& c) {
  auto then = answer_as<xmpp::stream::on::keys, xmpp::sasl::keys_answer>();
  if (!may_try(c.local))
    return then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  negotiating_->host->credentials->find_keys(c.local, c.h, std::move(then));
}

void stream::carry(xmpp::stream::todo::check_password& c) {
  auto then = answer_as<xmpp::stream::on::password_checked, xmpp::sasl::account_answer>();
  if (!may_try(c.local))
    return then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  negotiating_->host->credentials->check_password(c.local, std::move(c.password), std::move(then));
}

void stream::carry(xmpp::stream::todo::find_account& c) {
  negotiating_->host->credentials->find_account(std::move(c.local), answer_as<xmpp::stream::on::password_checked, xmpp::sasl::account_answer>());
}

void stream::carry(xmpp::stream::todo::add_keys& c) {
  negotiating_->host->credentials->add_keys(std::move(c.local), c.version, c.h, std::move(c.keys),
                                            answer_as<xmpp::stream::on::keys_added, xmpp::sasl::account_answer>());
}

void stream::carry(xmpp::stream::todo::find_tokens& c) {
  auto then = answer_as<xmpp::stream::on::tokens, xmpp::sasl::tokens_answer>();
  if (!may_try(c.local))
    return then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  negotiating_->host->credentials->find_tokens(std::move(c.local), std::move(c.client), std::move(then));
}

void stream::carry(xmpp::stream::todo::change_tokens& c) {
  negotiating_->host->credentials->change_tokens(std::move(c.what), answer_as<xmpp::stream::on::tokens_changed, xmpp::sasl::token_change_answer>());
}

bool stream::may_try(const std::string& local) {
  auto& limits = home_.around().logins();
  auto name = local + '@' + std::string{negotiating_->host->view.domain->domain()};
  bool may = limits.may_try(name, home_.now()) && limits.may_try(connection_.socket().peer_address(), home_.now());
  negotiating_->is_limited = !may;
  return may;
}

void stream::carry(xmpp::stream::todo::authenticated& c) {
  count_login(c.mechanism);
  negotiating_->account = c.account;
  who_ = c.account;
  connection_.raise_limits();
  auto& host = *negotiating_->host;
  bool is_admin = std::ranges::find(host.view.admins, c.account->bare()) != host.view.admins.end();
  connection_.set_rates(is_admin ? nullptr : &host.account_rates);
  home_.around().logins().on_success(std::string{c.account->bare()});
  base::log::info("auth.ok", "logged in",
                  {{"stream", std::to_string(log_id_)}, {"jid", c.account->bare()}, {"peer", connection_.socket().peer()}, {"mechanism", c.mechanism},
                   {"tls", connection_.is_tls() ? "yes" : "no"}});
}

void stream::carry(xmpp::stream::todo::login_failed& c) {
  count("covey_login_failures_total", "Logins that were refused, by what the client was told.", "error", xmpp::name_of(c.why));
  if (c.local.empty()) { // the mechanism failed before a name was tried: a client that probes what works
    base::log::info("auth.mechanism_failed", "a login attempt ended before a password was tried",
                    {{"stream", std::to_string(log_id_)}, {"peer", connection_.socket().peer()}, {"error", xmpp::name_of(c.why)}, {"cause", c.cause}});
    return;
  }
  auto name = c.local + '@' + std::string{negotiating_->host->view.domain->domain()};
  if (c.why == xmpp::sasl_errc::not_authorized || c.why == xmpp::sasl_errc::invalid_authzid) { // a guess: the rest tells nothing
    auto& limits = home_.around().logins();
    limits.on_failure(name, home_.now());
    limits.on_failure(connection_.socket().peer_address(), home_.now());
  }
  auto cause = std::exchange(negotiating_->is_limited, false) ? std::string_view{"too many failed logins"} : c.cause;
  base::log::warning("auth.failed", "a login was refused",
                     {{"stream", std::to_string(log_id_)}, {"jid", name}, {"peer", connection_.socket().peer()}, {"error", xmpp::name_of(c.why)}, {"cause", cause}});
}

void stream::carry(xmpp::stream::todo::bind& c) {
  auto& node = home_.around();
  if (node.is_draining())
    return close(xmpp::stream_errc::system_shutdown);
  base::ref<cluster::session_limit> limit{new cluster::session_limit{node.settings().session_limits}};
  auto& s = home_.make<actors::session>(negotiating_->host, *this, node.next_session_id(), limit);
  session_ = s.id();
  connection_.bind(std::move(limit), &negotiating_->open); // charged already, not yet addressed
  s.attach(c.wanted, c.extras);
}

void stream::carry(xmpp::stream::todo::resume& c) {
  auto earlier = parse_resumption(c.previd, home_.around().resumption_key());
  if (!earlier || home_.around().is_draining())
    return on_resume_refused();
  auto& s = home_.make<actors::session>(negotiating_->host, *this);
  session_ = s.id();
  s.take_over(*earlier, c.h, c.account);
}

void stream::on_resumed(const xmpp::jid_ref& full, std::uint32_t h, base::ref<cluster::session_limit> limit) {
  if (!negotiating_)
    return;
  connection_.bind(std::move(limit), &negotiating_->open);
  step(xmpp::stream::on::resumed{full, h});
  if (is_closed_)
    return;
  who_ = full;
  base::log::info("session.resumed", "a session goes on",
                  {{"stream", std::to_string(log_id_)}, {"jid", full->full()}, {"peer", connection_.socket().peer()}});
  connection_.set_receiver(session_);
  negotiating_ = nullptr;
}

void stream::on_resume_refused(std::optional<std::uint32_t> h) {
  session_ = 0;
  step(xmpp::stream::on::resume_refused{xmpp::stanza_errc::item_not_found, h});
}

void stream::on_bound(const xmpp::jid_ref& full, const std::string& inline_xml) {
  step(xmpp::stream::on::bound{full, inline_xml});
  if (is_closed_)
    return;
  who_ = full;
  base::log::info("session.bound", "a session began", {{"stream", std::to_string(log_id_)}, {"jid", full->full()}});
  connection_.set_receiver(session_);
  negotiating_ = nullptr;
}

void stream::on_bind_refused(const xmpp::stanza_error& why) {
  session_ = 0;
  step(xmpp::stream::on::bind_refused{why});
}

void stream::carry(xmpp::stream::todo::request_before_login& c) {
  auto& host = negotiating_->host;
  auto i = host->view.stranger_iqs.find(c.ns);
  if (i == host->view.stranger_iqs.end()) {
    if (auto e = xmpp::make_error(*c.what, xmpp::stanza_errc::service_unavailable))
      connection_.send(xmpp::to_string(e));
    return;
  }
  thread_local xmpp::document parser;
  auto payload = parser.parse(c.what->bytes()).first_child();
  connection_.pause();
  auto once = std::make_shared<std::atomic<bool>>(false);
  if (!negotiating_->memory)
    negotiating_->memory = std::make_shared<std::any>();
  i->second(c.what, payload, host->view, {connection_.socket().peer_address(), negotiating_->memory},
            [&h = home_, me = id(), what = c.what, once](base::result<std::string, xmpp::stanza_error> r) {
              if (once->exchange(true))
                return;
              auto reply = r ? xmpp::make_result(*what, *r) : xmpp::make_error(*what, r.error());
              h.post_from_anywhere<stream>(me, [reply](stream& self) {
                if (reply)
                  self.connection_.send(xmpp::to_string(reply));
                self.connection_.resume();
              });
            });
}

void stream::carry(xmpp::stream::todo::stanza& c) {
  if (session_)
    home_.pass<&actors::session::on_stanza>(session_, {std::move(c.what), {}});
}

void stream::carry(xmpp::stream::todo::close& c) {
  is_closed_ = true;
  cause_ = c.why ? xmpp::name_of(*c.why) : "closed";
  if (c.why)
    log_error(*c.why, c.text);
  connection_.finish();
  if (auto* s = home_.find<actors::session>(std::exchange(session_, 0)))
    s->on_stream_closed({});
}

// --- outward

void stream::send(xmpp::delivery&& what) { connection_.append(std::move(what)); }

void stream::close(xmpp::stream_errc why, std::string_view text) {
  if (is_closed_)
    return;
  if (negotiating_)
    return step(xmpp::stream::on::refused{why, std::string{text}});
  is_closed_ = true;
  cause_ = xmpp::name_of(why);
  log_error(why, text);
  drop_session(why == xmpp::stream_errc::system_shutdown);
  connection_.send(xmpp::to_xml(why, text) + std::string{xmpp::stream::closing_tag});
  connection_.finish();
}

void stream::close_with(std::string_view error_xml, xmpp::stream_errc why) {
  if (std::exchange(is_closed_, true))
    return;
  cause_ = xmpp::name_of(why);
  log_error(why, "the client acknowledged more than it was sent");
  drop_session();
  connection_.send(std::string{error_xml} + std::string{xmpp::stream::closing_tag});
  connection_.finish();
}

void stream::close() {
  if (std::exchange(is_closed_, true))
    return;
  cause_ = "closed";
  drop_session();
  connection_.send(xmpp::stream::closing_tag);
  connection_.finish();
}

void stream::log_error(xmpp::stream_errc why, std::string_view text) const {
  if (why == xmpp::stream_errc::system_shutdown) // every stream ends then
    return;
  base::log::info("stream.closed", "a stream was ended by an error",
                  {{"stream", std::to_string(log_id_)}, {"jid", who_ ? who_->full() : std::string_view{}}, {"peer", connection_.socket().peer()},
                   {"condition", xmpp::name_of(why)}, {"cause", text}});
}

/// What the socket takes at once is written; the rest is the session's again, which ends, unless it may go on at another node.
void stream::drop_session(bool may_go_on) {
  auto* s = home_.find<actors::session>(std::exchange(session_, 0));
  if (!s)
    return;
  connection_.flush(); // may find the connection lost: then on_lost() comes, with session_ 0
  if (may_go_on)
    return s->on_stream_lost(connection_.take_unwritten());
  s->on_stream_closed(connection_.take_unwritten());
}

void stream::end() {
  count("covey_streams_ended_total", "Streams that ended, by cause: closed, lost, or a stream error.", "cause", cause_);
  auto number = std::to_string(log_id_);
  if (who_)
    base::log::info("stream.ended", "a stream ended", {{"stream", number}, {"jid", who_->full()}, {"cause", cause_}});
  else // a scanner, or a probe
    base::log::debug("stream.ended", "a stream ended", {{"stream", number}, {"cause", cause_}});
  if (client_)
    caf::anon_send(std::exchange(client_, nullptr), client_over{});
  home_.end(*this);
}

void stream::on_crash(std::string_view) {
  negotiating_ = nullptr;
  close(xmpp::stream_errc::internal_server_error);
}

} // namespace actors
