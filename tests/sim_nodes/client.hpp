// One device of a user: a real XMPP stream with stream management, which loses its connection, resumes at any node, comes
// anew where that fails, and sends again what was not acknowledged.
#pragma once
#include "tests/sim_nodes/pipe.hpp"
#include <deque>
#include <optional>
#include <set>

namespace sim_nodes {

/// 0: it does not begin with one.
[[nodiscard]] std::uint32_t number_in(std::string_view text);

/// What a client needs of the run.
class client_world {
public:
  virtual ~client_world() = default;
  /// To a node that may take it; null: none is there. The connection is up after a moment, or gone.
  virtual pipe_ref connect(std::size_t client, stream_id stream, pipe_user& user) = 0;
  /// Bytes, and what happens when the server has read them.
  virtual void send(const pipe_ref& p, std::string bytes, std::function<void(std::size_t node)> when_read) = 0;
  /// `is_silent`: the other end hears nothing of it.
  virtual void hang_up(const pipe_ref& p, bool is_silent) = 0;
  virtual void moved(std::size_t account) = 0;
};

class client final : private pipe_user {
public:
  struct identity {
    std::size_t number = 0, account = 0;
    std::string resource;
    bool wants_copies = false, has_origin_ids = true;
    duration ack_delay{}; // how long it takes to answer <r/>
    std::size_t slow = 0; // bytes it reads at a time
  };
  client(world& w, history& seen, client_world& around, sim::chance& luck, identity who);

  void come();
  /// The connection breaks. It comes again, unless told otherwise.
  void lose(bool is_silent);
  /// The application ends and starts: nothing is resumed, what is not acknowledged is kept.
  void restart();
  /// Closes its stream, and stays away.
  void leave();
  void say(const std::string& to, std::size_t account);
  void announce();
  /// Stops answering <r/> for a while.
  void be_deaf(duration how_long);

  [[nodiscard]] bool is_online() const { return phase_ == phase::online; }
  [[nodiscard]] bool is_away() const { return !wants_; }
  [[nodiscard]] const identity& who() const { return who_; }
  [[nodiscard]] std::string bare() const;
  [[nodiscard]] std::string full() const { return bare() + '/' + who_.resource; }
  [[nodiscard]] const std::set<std::string>& sees() const { return sees_; }
  [[nodiscard]] stream_id stream() const { return pipe_ ? pipe_->stream : 0; }
  [[nodiscard]] std::size_t node() const { return pipe_ ? pipe_->node : 0; }
  [[nodiscard]] std::vector<std::uint64_t> unacknowledged() const;

private:
  enum class phase : std::uint8_t { off, header, auth, header_again, resume, bind, enable, online };
  struct unacked { std::uint32_t number; std::uint64_t message, announcement; std::string xml; };

  void on_bytes(stream_id stream, const std::string& bytes) override;
  void on_gone(stream_id stream) override;
  void on_element(std::string_view e);
  void on_stanza(std::string_view e);
  void on_message(std::string_view e);
  void on_handled(std::uint32_t h);
  void on_heard(std::uint32_t until, login_id login, std::size_t node);
  void begin_session();
  void end_stay();
  void send(std::string xml);
  void send_stanza(std::string xml, std::uint64_t message = 0, std::uint64_t announcement = 0);
  void send_ack();
  void send_again();
  void gone();
  void come_later(duration shortest, duration longest);
  void watch(stream_id stream);
  [[nodiscard]] std::string name() const { return "client" + std::to_string(who_.number); }

  world& world_;
  history& seen_;
  client_world& around_;
  sim::chance& luck_;
  const identity who_;
  phase phase_ = phase::off;
  std::size_t unmanaged_ = 0; // which of the history's
  std::optional<std::size_t> stay_; // the same
  bool is_leaving_ = false;   // has said </stream:stream>
  pipe_ref pipe_;
  std::string buffer_;
  bool wants_ = true;                    // to be there
  std::string previd_;                   // of a session that may be resumed
  login_id login_ = 0;
  std::uint32_t in_ = 0, out_ = 0, acked_ = 0;
  std::deque<unacked> unacked_;          // what it has sent in this session, in order
  std::deque<unacked> again_;            // of an earlier one
  std::set<std::string> sees_;           // full JIDs of others that are available
  std::map<std::uint32_t, std::pair<std::uint64_t, std::size_t>> got_; // inbound number: message and copy, until the server has the ack
  time_point deaf_until_{}, heard_{};
  std::uint32_t last_iq_ = 0;
  bool is_ack_due_ = false;
};

} // namespace sim_nodes
