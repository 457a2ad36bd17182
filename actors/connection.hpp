// The socket of one client and everything below XML: TLS, framing, the bounded output queue.
#pragma once
#include "actors/home.hpp"
#include "net/address_counter.hpp"
#include "net/client_socket.hpp"
#include "net/deflate.hpp"
#include "net/shaper.hpp"
#include "xmpp/framer.hpp"

namespace actors {

class stream;

/// What a listener says about the connections that it accepts.
struct entrance {
  bool is_direct_tls = false;    // XEP-0368: TLS from the first byte
  bool may_start_tls = true;
  bool requires_tls = true;
  bool is_shaped = false;        // read at most at the listener's rates
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
  /// `<a h=''/>` and `<r/>` of stream management, behind the stanzas of this turn. The last count said wins.
  void tell_handled(std::uint32_t h) {
    handled_ = h;
    tells_ = true;
    mark_dirty();
  }
  void ask_for_ack() {
    asks_ = true;
    mark_dirty();
  }
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
  /// It has sent something to a node for which too much waits: it is not read until that has room again, or is gone.
  void wait_for_link(cluster::peer_number to);
  void on_link_room();
  [[nodiscard]] bool waits_for_link() const { return waits_for_ != cluster::self; }
  [[nodiscard]] bool is_paused() const { return is_paused_; }
  /// After login: other sizes, counted among the address's clients. Too many: the stream ends.
  void raise_limits();
  /// From now on it is read at most at these rates, too. Null: no rate counts any more.
  void set_rates(const net::rates* r);
  /// Memory for <compressed/>: false where there is none, or too many have it.
  [[nodiscard]] bool prepare_compression();
  /// After <compressed/>: both directions. Bytes already read behind <compress/> are fatal.
  void start_compression();
  /// What is appended from now on was charged to `limit`; stanzas may rely on what `open` says.
  void bind(base::ref<cluster::session_limit> limit, const xmpp::stream_open* open);
  /// From now on elements go to this session, through the lane.
  void set_receiver(light_id session);
  /// What was never written, oldest first: the session's again. Of the bytes that wait only what
  /// has been begun is still sent.
  [[nodiscard]] std::vector<xmpp::delivery> take_unwritten();

  [[nodiscard]] bool is_tls() const { return socket_.is_tls(); }
  [[nodiscard]] const entrance& how() const { return how_; }
  [[nodiscard]] net::client_socket& socket() { return socket_; }
  [[nodiscard]] light_id stream_id() const { return stream_id_; }

  void on_crash(std::string_view why) override;
  [[nodiscard]] std::uint64_t log_id() const override;
  /// Called by the reactor's watch when it may have been silent for too long.
  void on_watch();
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

  /// Rates that this connection is held to, and whether it is held just now.
  struct shaping {
    net::shaper rules;
    net::timer again;
    bool holds = false;
  };

  [[nodiscard]] bool is_held() const { return waits_for_link() || (shaping_ && shaping_->holds); }
  void shape();
  void charge(std::uint64_t bytes, std::uint64_t stanzas);
  void go_on();
  void begin_watch();
  void give_up_on_peer();
  void inflate_failed(const net::error_code& why);
  void change_below(std::function<void()> change);
  void read_more();
  void on_readable(const net::error_code& ec);
  void on_handshake(const net::error_code& ec);
  void take_bytes(std::string_view in);
  std::size_t frame(xmpp::framer& f, std::string_view in);
  void keep(xmpp::framer& f, std::string_view rest);
  void lost();
  void linger();
  void mark_dirty();
  void render_queue();
  struct released { std::uint32_t bytes = 0, messages = 0; };
  void written(xmpp::delivery& what, released& total);
  char* put_control(char* out);
  void write_queue(released& total, net::error_code& ec);
  void keep_unsent(std::string_view bytes, std::size_t n, std::size_t first, std::size_t last, released& total);
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
  std::unique_ptr<shaping> shaping_; // null where no rate is set
  std::uint32_t queued_bytes_ = 0, handled_ = 0, heard_ = 0; // heard: the watch's second of the last read
  cluster::peer_number waits_for_ = cluster::self; // another node, for whose link it is held
  entrance how_;
  net::address_counter::place place_;
  bool in_stream_ = false, is_dirty_ = false, is_paused_ = false, is_logged_in_ = false;
  bool is_finishing_ = false, is_closed_ = false, waits_write_ = false, waits_read_ = false;
  bool changes_below_ = false, restarted_ = false; // changes: to TLS or to compression, from the next byte on
  bool is_over_ = false, tells_ = false, asks_ = false;
  bool is_compressed_ = false, is_asked_ = false;  // asked: a ping has no answer as yet
  std::unique_ptr<net::timer> goodbye_;
};

} // namespace actors
