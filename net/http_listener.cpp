// HTTP/1.1 on Boost.Beast: the only file that includes it.
#include "net/http_listener.hpp"
#include "base/log.hpp"
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <exception>
#include <unordered_set>

namespace net {
namespace http = boost::beast::http;

struct http_listener::state {
  loop& on;
  find_reply find;
  http_limits limits;
  std::unordered_set<session*> open; // each is kept alive by the operation it waits for
  bool is_closed = false;
};

/// One connection. Every operation holds a reference; there is always one, or it is gone.
class http_listener::session : public std::enable_shared_from_this<session> {
public:
  session(std::shared_ptr<state> s, tcp_socket socket) : state_(std::move(s)), socket_(std::move(socket)) {
    error_code ignored;
    socket_.set_option(asio::ip::tcp::no_delay{true}, ignored);
    state_->open.insert(this);
  }
  ~session() { state_->open.erase(this); }

  void read() {
    parser_.emplace();
    parser_->header_limit(state_->limits.header_bytes);
    parser_->body_limit(0);
    state_->on.arm(deadline_, state_->limits.time, [this] { close(); });
    http::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](error_code ec, std::size_t) {
      self->on_read(ec);
    });
  }
  void close() {
    deadline_.cancel();
    error_code ignored;
    socket_.close(ignored);
  }

private:
  void on_read(error_code ec) {
    if (state_->is_closed || !socket_.is_open())
      return close();
    if (!ec)
      return answer(parser_->get());
    if (ec == http::error::header_limit)
      return refuse(http::status::request_header_fields_too_large);
    if (ec == http::error::body_limit || ec == http::error::unexpected_body)
      return refuse(http::status::payload_too_large);
    if (ec.category() == make_error_code(http::error::bad_method).category() && ec != http::error::end_of_stream
        && ec != http::error::partial_message)
      return refuse(http::status::bad_request);
    close();
  }

  void answer(const http::request<http::empty_body>& r) {
    bool is_head = r.method() == http::verb::head, may_stay = r.keep_alive() && ++served_ < state_->limits.requests;
    if (r.method() != http::verb::get && !is_head)
      return write({405, "only GET and HEAD\n"}, false, may_stay);
    std::optional<http_reply> reply;
    try {
      reply = state_->find(path_of({r.target().data(), r.target().size()}));
    } catch (const std::exception& e) {
      base::log::error("http.reply_failed", "a request could not be answered", {{"error", e.what()}});
      reply = http_reply{500, "internal error\n"};
    }
    write(reply ? std::move(*reply) : http_reply{404, "there is nothing here\n"}, is_head, may_stay);
  }

  /// The target in any of its forms (RFC 9112 section 3.2), without query.
  static std::string_view path_of(std::string_view target) {
    if (target.starts_with("http://"))
      target = target.find('/', 7) == target.npos ? "/" : target.substr(target.find('/', 7));
    return target.substr(0, target.find('?'));
  }

  void refuse(http::status why) {
    write({static_cast<unsigned>(why), std::string{http::obsolete_reason(why)} + '\n'}, false, false);
  }

  void write(http_reply r, bool is_head, bool may_stay) {
    auto& out = response_.emplace();
    out.version(11);
    out.result(r.status);
    out.set(http::field::server, "covey");
    out.set(http::field::content_type, r.type);
    out.set(http::field::cache_control, "no-store");
    if (r.status == 405)
      out.set(http::field::allow, "GET, HEAD");
    out.keep_alive(may_stay);
    out.content_length(r.body.size());
    if (!is_head)
      out.body() = std::move(r.body);
    http::async_write(socket_, out, [self = shared_from_this(), may_stay](error_code ec, std::size_t) {
      self->on_written(ec, may_stay);
    });
  }

  void on_written(error_code ec, bool may_stay) {
    if (ec || state_->is_closed || !socket_.is_open())
      return close();
    response_.reset();
    if (may_stay)
      return read();
    socket_.shutdown(tcp_socket::shutdown_send, ec);
    drain(); // unread input would turn the last answer into a reset
  }

  void drain() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(4'096), [self = shared_from_this()](error_code ec, std::size_t) {
      if (ec || self->state_->is_closed) // the deadline ends it, too
        return self->close();
      self->drain();
    });
  }

  std::shared_ptr<state> state_;
  tcp_socket socket_;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::empty_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
  std::uint32_t served_ = 0;
  timer deadline_; // last: it may not outlive what it closes
};

http_listener::http_listener(std::shared_ptr<state> s) : state_(std::move(s)) {}

base::result<std::unique_ptr<http_listener>, listen_problem>
http_listener::open(loop& l, const std::string& address, std::uint16_t port, find_reply f, const http_limits& limits) {
  std::unique_ptr<http_listener> made{new http_listener{std::make_shared<state>(l, std::move(f), limits)}};
  auto opened = listener::open(l, address, port, [s = made->state_](int fd, bool is_v6) {
    auto socket = adopt(s->on, fd, is_v6);
    if (s->open.size() < s->limits.connections)
      std::make_shared<session>(s, std::move(socket))->read();
  });
  if (!opened)
    return base::fail(std::move(opened.error()));
  made->listener_ = std::move(*opened);
  return made;
}

http_listener::~http_listener() {
  state_->is_closed = true;
  listener_ = nullptr;
  auto open = state_->open; // close() only cancels; the operations end on the loop
  for (auto* s : open)
    s->close();
}

std::uint16_t http_listener::port() const { return listener_->port(); }

} // namespace net
