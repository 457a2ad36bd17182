// One client's XML stream between its connection and its session: header, STARTTLS, SASL, bind, errors.
// The rules are in xmpp/stream.
#pragma once
#include "actors/client.hpp"
#include "actors/home.hpp"
#include "actors/host.hpp"
#include <any>

namespace actors {

class connection;
class session;

class stream final : public light {
public:
  stream(home& h, connection& below);
  ~stream() override;

  /// One deadline runs from here to a bound session.
  void start();
  void set_client(client_ref c) { client_ = std::move(c); }

  // --- from the connection: calls, as negotiation answers by calls that only append
  void on_header(xmpp::stream_open open);
  void on_element(xmpp::stanza_ref what);
  void on_end();
  void on_framing_error(xmpp::framer_errc why);
  void on_tls();
  void on_lost();
  /// Bytes came behind <starttls/> before TLS began (RFC 6120 section 5.4.3.3).
  void on_injected_bytes();

  // --- from the session, outward: calls
  void send(xmpp::delivery&& what);
  void close(xmpp::stream_errc why, std::string_view text = {});
  /// The normal end: closing tag, no error.
  void close();
  /// With an error of an extension, ready-made.
  void close_with(std::string_view error_xml, xmpp::stream_errc why);
  void on_bound(const xmpp::jid_ref& full, const std::string& inline_xml);
  /// This stream is an earlier session's now; `limit` is what is sent to it charged to.
  void on_resumed(const xmpp::jid_ref& full, std::uint32_t h, base::ref<cluster::session_limit> limit);
  /// `h`: what an earlier session that has ended had handled, where that is known.
  void on_resume_refused(std::optional<std::uint32_t> h = {});
  /// The session goes on elsewhere: it hears nothing more of this stream.
  void let_go() { session_ = 0; }
  void on_bind_refused(const xmpp::stanza_error& why);

  [[nodiscard]] connection& below() const { return connection_; }
  [[nodiscard]] light_id session() const { return session_; }
  /// What the header named, until a session is bound: then it is the session's.
  [[nodiscard]] host_ref host() const { return negotiating_ ? negotiating_->host : nullptr; }
  void on_crash(std::string_view why) override;
  [[nodiscard]] std::uint64_t log_id() const override { return log_id_; }

private:
  /// Only until a session is bound.
  struct negotiating {
    xmpp::stream::negotiation rules;
    net::timer deadline;
    host_ref host;
    host_elsewhere_ref elsewhere; // instead of it
    xmpp::jid_ref account;
    xmpp::stream_open open;
    bool is_limited = false; // this attempt was refused because too many failed before
    std::shared_ptr<std::any> memory; // of modules, with the first request
    explicit negotiating(xmpp::stream::negotiation r) : rules(std::move(r)) {}
  };
  void step(xmpp::stream::event ev);
  void carry(xmpp::stream::todo::send& c);
  void carry(xmpp::stream::todo::start_tls& c);
  void carry(xmpp::stream::todo::start_compression& c);
  void carry(xmpp::stream::todo::find_keys& c);
  void carry(xmpp::stream::todo::check_password& c);
  void carry(xmpp::stream::todo::find_account& c);
  void carry(xmpp::stream::todo::add_keys& c);
  void carry(xmpp::stream::todo::find_tokens& c);
  void carry(xmpp::stream::todo::change_tokens& c);
  void carry(xmpp::stream::todo::restart_framer& c);
  void carry(xmpp::stream::todo::authenticated& c);
  void carry(xmpp::stream::todo::login_failed& c);
  void carry(xmpp::stream::todo::bind& c);
  void carry(xmpp::stream::todo::resume& c);
  void carry(xmpp::stream::todo::request_before_login& c);
  void carry(xmpp::stream::todo::stanza& c);
  void carry(xmpp::stream::todo::close& c);
  template <class Event, class Answer>
  std::function<void(Answer)> answer_as();
  bool may_try(const std::string& local);
  void log_error(xmpp::stream_errc why, std::string_view text) const;
  void drop_session(bool may_go_on = false);
  void end();

  home& home_;
  connection& connection_;
  std::unique_ptr<negotiating> negotiating_;
  light_id session_ = 0;
  client_ref client_;
  const std::uint64_t log_id_;
  xmpp::jid_ref who_;                      // once it has logged in
  std::string_view cause_ = "lost";        // of its end: "closed", or a stream error
  bool is_closed_ = false, has_header_ = false;
};

} // namespace actors
