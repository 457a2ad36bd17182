// Carries out what the negotiation machine says; after bind it only passes outward.
#include "actors/stream.hpp"
#include "actors/connection.hpp"
#include "actors/node.hpp"
#include "actors/router.hpp"
#include "actors/session.hpp"

namespace actors {

namespace {
xmpp::stream::tls_facts facts_of(const net::client_socket& s) {
  auto f = s.facts();
  return {f.protocol, {f.exporter, f.end_point_hash}};
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
    return negotiating_->host ? &negotiating_->host->stream : nullptr;
  };
  auto hosts = home_.around().hosts();
  if (!hosts.empty())
    s.default_domain = hosts.front()->view.domain->domain();
  s.random = &home_.around().random();
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
  close();
}

void stream::on_framing_error(xmpp::framer_errc why) {
  if (negotiating_)
    return step(xmpp::stream::on::unreadable{why});
  close(xmpp::stream_error_of(why));
}

void stream::on_injected_bytes() { step(xmpp::stream::on::injected_bytes{}); }

void stream::on_tls() {
  if (negotiating_)
    step(xmpp::stream::on::tls_established{facts_of(connection_.socket())});
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
  auto then = answer_as<xmpp::stream::on::password_checked, xmpp::sasl::password_answer>();
  if (!may_try(c.local))
    return then(base::fail(xmpp::sasl::credentials_errc::unavailable));
  negotiating_->host->credentials->check_password(c.local, std::move(c.password), std::move(then));
}

bool stream::may_try(const std::string& local) {
  auto& limits = home_.around().logins();
  auto name = local + '@' + std::string{negotiating_->host->view.domain->domain()};
  return limits.may_try(name, home_.now()) && limits.may_try(connection_.socket().peer_address(), home_.now());
}

void stream::carry(xmpp::stream::todo::authenticated& c) {
  negotiating_->account = c.account;
  who_ = c.account;
  connection_.raise_limits();
  home_.around().logins().on_success(std::string{c.account->bare()});
  count("covey_logins_total", "Logins that succeeded.", "mechanism", c.mechanism);
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
  auto& limits = home_.around().logins();
  limits.on_failure(name, home_.now());
  limits.on_failure(connection_.socket().peer_address(), home_.now());
  base::log::warning("auth.failed", "a login was refused",
                     {{"stream", std::to_string(log_id_)}, {"jid", name}, {"peer", connection_.socket().peer()}, {"error", xmpp::name_of(c.why)}, {"cause", c.cause}});
}

void stream::carry(xmpp::stream::todo::bind& c) {
  auto& node = home_.around();
  if (node.is_draining())
    return close(xmpp::stream_errc::system_shutdown);
  base::ref<cluster::session_limit> limit{new cluster::session_limit{node.settings().session_limits}};
  auto& s = home_.make<actors::session>(negotiating_->host, *this, node.next_session_id(), limit);
  session_ = s.id();
  connection_.bind(std::move(limit), &negotiating_->open); // charged already, not yet addressed
  s.attach(c.wanted);
}

void stream::carry(xmpp::stream::todo::resume&) {
  step(xmpp::stream::on::resume_refused{xmpp::stanza_errc::item_not_found, {}});
}

void stream::on_bound(const xmpp::jid_ref& full) {
  step(xmpp::stream::on::bound{full, {}});
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
  i->second(c.what, payload, host->view, connection_.socket().peer_address(),
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
  connection_.finish();
  if (auto* s = home_.find<actors::session>(std::exchange(session_, 0)))
    s->on_stream_lost({});
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
  drop_session();
  connection_.send(xmpp::to_xml(why, text) + std::string{xmpp::stream::closing_tag});
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

/// What the socket takes at once is written; the rest is the session's again, which ends.
void stream::drop_session() {
  auto* s = home_.find<actors::session>(std::exchange(session_, 0));
  if (!s)
    return;
  connection_.flush(); // may find the connection lost: then on_lost() comes, with session_ 0
  s->on_stream_lost(connection_.take_unwritten());
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
