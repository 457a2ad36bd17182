// The socket of one client and everything below XML: TLS, framing, the bounded output queue.
#pragma once
#include "actors/home.hpp"
#include "net/address_counter.hpp"
#include "net/client_socket.hpp"
#include "xmpp/framer.hpp"

namespace actors {

class stream;

/// What a listener says about the connections that it accepts.
struct entrance {
  bool is_direct_tls = false;    // XEP-0368: TLS from the first byte
  bool may_start_tls = true;
  bool requires_tls = true;
};

class connection final : public light {
public:
  /// `place`: counted among its address's connections until it has logged in.
  connection(home& h, net::tcp_socket socket, entrance how, net::address_counter::place place);
  ~connection() override;

  /// Begins to read (after the handshake, with direct TLS). Once.
  void start(stream& above);

  // --- from the stream and the session: plain calls that only append; flushed at the end of the turn
  void send(std::string_view xml);
  void append(xmpp::delivery&& what);
  /// Flushes, says goodbye at the transport, reads on for a moment so that the peer can read what was
  /// sent, then is gone. Nothing is framed any more.
  void finish();
  /// At once, without a word.
  void abort();

  /// The next bytes begin a new stream (after SASL; RFC 6120 section 6.4.6).
  void restart_framer();
  /// After <proceed/>. Bytes already read behind the request are fatal (docs/security.md).
  void start_tls();
  /// Stops framing until resume(): the stream waits for an answer of a pool.
  void pause() { is_paused_ = true; }
  void resume();
  void raise_limits() {
    is_logged_in_ = true;
    place_.give_up();
  }
  /// What is appended from now on was charged to `limit`; stanzas may rely on what `open` says.
  void bind(base::ref<cluster::session_limit> limit, const xmpp::stream_open* open);
  /// From now on elements go to this session, through the lane.
  void set_receiver(light_id session) { session_ = session; }
  /// What was never written, oldest first: the session's again. Of the bytes that wait only what
  /// has been begun is still sent.
  [[nodiscard]] std::vector<xmpp::delivery> take_unwritten();

  [[nodiscard]] bool is_tls() const { return socket_.is_tls(); }
  [[nodiscard]] const entrance& how() const { return how_; }
  [[nodiscard]] net::client_socket& socket() { return socket_; }
  [[nodiscard]] light_id stream_id() const { return stream_id_; }

  void on_crash(std::string_view why) override;
  [[nodiscard]] std::uint64_t log_id() const override;
  /// Called by the home at the end of the turn.
  void flush();

private:
  /// Half an element, with the framer that knows how far it got.
  struct partial {
    xmpp::framer framer;
    std::string bytes;
  };
  /// What the socket did not take: rendered bytes, and whose they are.
  struct backlog {
    std::string bytes;
    std::size_t sent = 0;
    struct mark { std::size_t end; xmpp::delivery what; };
    std::vector<mark> marks;
  };

  void read_more();
  void on_readable(const net::error_code& ec);
  void on_writable();
  void on_handshake(const net::error_code& ec);
  void take_bytes(std::string_view in);
  std::size_t frame(xmpp::framer& f, std::string_view in);
  void keep(xmpp::framer& f, std::string_view rest);
  void lost();
  void linger();
  void mark_dirty();
  void render_queue();
  void written(xmpp::delivery& what);
  void check_output();

  home& home_;
  net::client_socket socket_;
  light_id stream_id_ = 0;
  stream* stream_ = nullptr; // lives as long as this: both end together
  light_id session_ = 0;
  base::ref<cluster::session_limit> limit_;
  std::unique_ptr<partial> partial_;
  std::unique_ptr<xmpp::stream_open> open_; // only where stanzas rely on the header's language or prefixes
  std::vector<xmpp::delivery> queue_;
  std::unique_ptr<backlog> backlog_;
  std::uint32_t queued_bytes_ = 0, idle_bytes_ = 0;
  entrance how_;
  net::address_counter::place place_;
  bool in_stream_ = false, is_dirty_ = false, is_paused_ = false, is_logged_in_ = false;
  bool is_finishing_ = false, is_closed_ = false, waits_write_ = false, waits_read_ = false;
  bool starts_tls_ = false, restarted_ = false;
  std::unique_ptr<net::timer> goodbye_;
};

} // namespace actors
