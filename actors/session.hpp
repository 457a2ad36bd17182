// One bound resource. The place where a client's stanzas enter: here they get their true `from`.
#pragma once
#include "actors/home.hpp"
#include "actors/host.hpp"
#include "actors/session_info.hpp"
#include <boost/container/small_vector.hpp>

namespace actors {

class stream;

class session final : public light {
public:
  session(home& h, host_ref host, stream& below, std::uint64_t session_id, base::ref<cluster::session_limit> limit);
  ~session() override;

  /// Asks the account to be let in under `wanted`; on_accepted or on_refused answers.
  void attach(const xmpp::jid_ref& wanted);
  void on_accepted(const xmpp::jid_ref& full);
  void on_refused(const xmpp::stanza_error& why);
  void set_snapshot(modules::snapshot_ref of_account) { snapshot_ = std::move(of_account); }

  /// From the client, through the lane.
  void on_stanza(xmpp::delivery&& what);
  /// From the account; charged to this session.
  void on_deliver(xmpp::delivery&& what);
  /// From a service, to all sessions of the host; not charged yet.
  void on_broadcast(xmpp::delivery&& what);
  void on_completed(std::uint32_t number, modules::outcome how) override;

  /// Ends the stream with this error, then itself.
  void close(xmpp::stream_errc why, const std::string& text);
  /// The stream is gone, with or without goodbye. `unwritten`: what its client never got.
  void on_stream_lost(std::vector<xmpp::delivery> unwritten);

  [[nodiscard]] bool is_bound() const { return own_ != nullptr; }
  [[nodiscard]] const xmpp::jid_ref& full() const { return full_; }
  [[nodiscard]] std::uint64_t session_id() const { return session_id_; }
  [[nodiscard]] const host_ref& at_host() const { return host_; }
  [[nodiscard]] const base::ref<cluster::session_limit>& limit() const { return limit_; }
  [[nodiscard]] base::wall_time since() const { return since_; }
  [[nodiscard]] stream* below() const { return stream_; }

  [[nodiscard]] session_info describe() const;

  /// Turns completions on (stream management does): from now on `h` is what completed_mark() says.
  void track_completions() { tracks_ = true; }
  /// All stanzas up to this number have ended (modulo 2^32).
  [[nodiscard]] std::uint32_t completed_mark() const { return base_ - 1; }

  void on_crash(std::string_view why) override;
  [[nodiscard]] std::uint64_t log_id() const override { return log_id_; }

private:
  enum class entry : std::uint8_t { goes_on, is_answered };
  entry admit(xmpp::stanza& s);
  entry check_iq(const xmpp::stanza& s);
  void refuse(const xmpp::stanza& s, const xmpp::stanza_error& why);
  void on_presence(xmpp::delivery&& what);
  void on_iq(xmpp::delivery&& what);
  void to_own_account(xmpp::delivery&& what);
  void reply(xmpp::stanza_ref what);
  void open_completion(const xmpp::stanza_ref& s);
  void leave_directed();
  /// The one path: registry row, presence, unacknowledged stanzas, directed presence. Idempotent.
  void end();

  home& home_;
  host_ref host_;
  stream* stream_; // null once it is gone
  xmpp::jid_ref full_, bare_;
  cluster::address* own_ = nullptr; // of the account: its row stays while this session is published
  base::ref<cluster::session_limit> limit_;
  modules::snapshot_ref snapshot_;
  const std::uint64_t session_id_;
  base::wall_time since_;
  const std::uint64_t log_id_; // of the stream that bound it
  std::vector<xmpp::jid_ref> directed_; // who got directed presence (RFC 6121 section 4.6.3)
  std::vector<xmpp::stanza_ref> open_;  // ring of stanzas whose completion is open
  std::uint32_t base_ = 1, next_ = 1;
  bool tracks_ = false, is_ended_ = false;
};

} // namespace actors
