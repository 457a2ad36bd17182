// Bytes in, stanzas up; stanzas down, one write a turn.
#include "actors/connection.hpp"
#include "actors/node.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"
#include <algorithm>
#include <charconv>

namespace actors {

namespace {
/// What of a stream header its stanzas may rely on; null for the usual client.
std::unique_ptr<xmpp::stream_open> relied_on(const xmpp::stream_open* open) {
  bool is_usual = open && open->root == "stream:stream" && open->content_ns == "jabber:client";
  if (!open || (is_usual && open->prefixes.empty() && open->lang.empty()))
    return nullptr;
  auto kept = std::make_unique<xmpp::stream_open>();
  kept->lang = open->lang;
  kept->content_ns = open->content_ns;
  kept->root = open->root;
  kept->prefixes = open->prefixes;
  return kept;
}
} // namespace

connection::connection(home& h, net::tcp_socket socket, entrance how, net::address_counter::place place)
  : home_(h), socket_(std::move(socket)), how_(how), place_(std::move(place)) {}

connection::~connection() {
  if (is_compressed_)
    --home_.around().compressed_streams;
}

void connection::start(stream& above) {
  stream_ = &above;
  stream_id_ = above.id();
  if (how_.is_shaped || home_.around().settings().address_rates) [[unlikely]]
    shape();
  if (how_.is_direct_tls)
    socket_.start_tls(home_.around().certificates(), [this, &h = home_, me = id()](const net::error_code& ec) {
      h.guard(me, [&] { on_handshake(ec); });
    });
  else
    read_more();
}

// --- reading

void connection::read_more() {
  if (is_closed_ || waits_read_ || changes_below_ || ((is_paused_ || is_held()) && !is_finishing_))
    return;
  waits_read_ = true;
  socket_.wait_readable([this, &h = home_, me = id()](const net::error_code& ec) {
    h.guard(me, [&] {
      waits_read_ = false;
      on_readable(ec);
    });
  });
}

void connection::on_readable(const net::error_code& ec) {
  if (is_closed_)
    return;
  if (ec)
    return lost();
  if (waits_for_link() && !is_finishing_) // on_link_room() goes on
    return;
  if (home_.is_congested() && !is_finishing_) // the lane is behind: leave it to the kernel's buffer
    return home_.when_clear(id(), [](light& self) { static_cast<connection&>(self).read_more(); });
  constexpr std::size_t few = 4'096; // where it may be for a link that is full, and many may do the same
  net::error_code error;
  auto& buffer = home_.read_buffer;
  auto most = home_.around().has_crowded_links() ? few : buffer.size();
  auto n = socket_.read_some(buffer.data(), shaping_ ? shaping_->rules.most_bytes(most) : most, error);
  if (error == net::asio::error::would_block)
    return read_more();
  if (error)
    return net::is_deflate_error(error) ? inflate_failed(error) : lost();
  heard_ = home_.watch.now();
  if (is_finishing_) // only until the peer has closed, too
    return read_more();
  home_.count().bytes_in->add(n);
  if (shaping_) [[unlikely]]
    charge(n, 0);
  take_bytes({buffer.data(), n});
  read_more(); // also the rest of a TLS record: in the next turn, others first
}

void connection::take_bytes(std::string_view in) {
  if (changes_below_)
    return stream_->on_injected_bytes();
  if (partial_) {
    partial_->bytes.append(in);
    auto p = std::move(partial_); // frame() may keep it again, or drop it
    auto used = frame(p->framer, p->bytes);
    if (is_closed_ || is_finishing_)
      return;
    if (used == p->bytes.size() && p->framer.is_idle() && in_stream_)
      return; // nothing half read: the buffer goes
    p->bytes.erase(0, used);
    partial_ = std::move(p);
    return;
  }
  if (!in_stream_) { // the header has state of its own: not in the shared framer
    partial_ = std::make_unique<partial>();
    partial_->framer.set_limits(home_.around().settings().before_login);
    return take_bytes(in);
  }
  auto& f = home_.framer;
  f.set_limits(is_logged_in_ ? home_.around().settings().after_login : home_.around().settings().before_login);
  f.enter_stream(open_.get());
  auto used = frame(f, in);
  if (is_closed_ || is_finishing_ || partial_)
    return;
  if (used < in.size() || !f.is_idle())
    keep(f, in.substr(used));
}

void connection::keep(xmpp::framer& f, std::string_view rest) {
  partial_ = std::make_unique<partial>(partial{f, std::string{rest}});
}

/// Returns how many bytes of `in` are done with.
std::size_t connection::frame(xmpp::framer& f, std::string_view in) {
  std::size_t done = 0;
  for (;;) {
    if (f.is_idle()) // white space between stanzas keeps a connection alive (RFC 6120 section 4.6.1)
      done += xmpp::leading_space(in.substr(done));
    auto rest = in.substr(done);
    switch (f.run(rest)) {
      case xmpp::framer_event::more:
        return done;
      case xmpp::framer_event::header: {
        auto open = f.header(rest);
        in_stream_ = true;
        open_ = relied_on(&open);
        done += f.position();
        f.enter_stream(open_.get());
        stream_->on_header(std::move(open));
        break;
      }
      case xmpp::framer_event::element: {
        if (shaping_) [[unlikely]]
          charge(0, 1);
        auto what = xmpp::stanza::make(f.result(), rest, open_.get());
        done += f.position();
        f.next();
        if (session_) [[likely]]
          home_.pass<&session::on_stanza>(session_, {std::move(what), {}});
        else
          stream_->on_element(std::move(what));
        break;
      }
      case xmpp::framer_event::end:
        stream_->on_end();
        return in.size();
      case xmpp::framer_event::error:
        stream_->on_framing_error(f.error());
        return in.size();
    }
    if (is_closed_ || is_finishing_)
      return in.size();
    if (changes_below_) {
      if (done < in.size())
        stream_->on_injected_bytes();
      return in.size();
    }
    if (std::exchange(restarted_, false))
      f.restart();
    if (is_paused_ || is_held()) {
      if (&f == &home_.framer && done < in.size())
        keep(f, in.substr(done));
      return done;
    }
  }
}

void connection::resume() {
  if (!is_paused_ || is_closed_)
    return;
  is_paused_ = false;
  go_on();
}

/// What was kept, then what comes.
void connection::go_on() {
  home_.loop().post([this, &h = home_, me = id()] { // not from inside the stream's own call
    h.guard(me, [&] {
      if (is_closed_ || is_finishing_ || is_paused_ || is_held() || changes_below_)
        return;
      if (partial_ && std::exchange(restarted_, false))
        partial_->framer.restart();
      take_bytes({});
      if (!is_closed_)
        read_more();
    });
  });
}

void connection::restart_framer() {
  in_stream_ = false;
  restarted_ = true;
}

void connection::change_below(std::function<void()> change) {
  changes_below_ = true;
  flush(); // <proceed/> or <compressed/> goes out as what was before
  home_.loop().post([this, &h = home_, me = id(), change = std::move(change)] { // behind the bytes that are being framed now
    h.guard(me, [&] {
      if (is_closed_ || is_finishing_)
        return;
      partial_ = nullptr; // what was read in the clear is gone, not reused
      in_stream_ = restarted_ = false;
      change();
    });
  });
}

void connection::start_tls() {
  change_below([this] {
    socket_.start_tls(home_.around().certificates(), [this, &h = home_, me = id()](const net::error_code& ec) {
      h.guard(me, [&] { on_handshake(ec); });
    });
  });
}

void connection::on_handshake(const net::error_code& ec) {
  if (is_closed_)
    return;
  if (ec) {
    base::log::info("tls.failed", "a TLS handshake failed", {{"stream", std::to_string(log_id())}, {"peer", socket_.peer()}, {"cause", ec.message()}});
    return lost();
  }
  changes_below_ = false;
  stream_->on_tls();
  read_more();
}

void connection::bind(base::ref<cluster::session_limit> limit, const xmpp::stream_open* open) {
  limit_ = std::move(limit);
  open_ = relied_on(open);
}

void connection::set_receiver(light_id session) {
  session_ = session;
  begin_watch();
}

// --- writing

void connection::mark_dirty() {
  if (!is_dirty_ && !is_closed_) {
    is_dirty_ = true;
    home_.mark_dirty(id());
  }
}

void connection::send(std::string_view xml) {
  if (is_closed_)
    return;
  if (!backlog_)
    backlog_ = std::make_unique<backlog>();
  render_queue(); // order: what was appended before goes out before
  backlog_->bytes.append(xml);
  mark_dirty();
  check_output();
}

void connection::append(xmpp::delivery&& what) {
  if (queue_.capacity() == 0 && !home_.spare_queues.empty()) {
    queue_ = std::move(home_.spare_queues.back());
    home_.spare_queues.pop_back();
  }
  queued_bytes_ += what.what->cost();
  queue_.push_back(std::move(what));
  mark_dirty();
  if (queued_bytes_ > home_.around().settings().max_output) [[unlikely]]
    check_output();
}

void connection::check_output() {
  auto waiting = queued_bytes_ + (backlog_ ? backlog_->bytes.size() - backlog_->sent : 0);
  if (waiting <= home_.around().settings().max_output || is_closed_ || is_finishing_ || std::exchange(is_over_, true))
    return;
  base::log::warning("connection.output_full", "the client does not read; its stream is closed", {{"stream", std::to_string(log_id())}, {"peer", socket_.peer()}});
  lost();
}

std::uint64_t connection::log_id() const { return stream_ ? stream_->log_id() : 0; }

/// Into the backlog, where what the socket did not take waits.
void connection::render_queue() {
  if (queue_.empty())
    return;
  auto& b = *backlog_;
  for (auto& d : queue_) {
    auto at = b.bytes.size();
    b.bytes.resize(at + xmpp::render_bound(d));
    auto* end = xmpp::render(b.bytes.data() + at, d);
    b.bytes.resize(static_cast<std::size_t>(end - b.bytes.data()));
    b.marks.push_back({b.bytes.size(), std::move(d)});
  }
  queue_.clear();
  queued_bytes_ = 0;
}

void connection::written(xmpp::delivery& what, released& total) {
  if (what.is_managed)
    return; // its session waits for the ack
  what.settle();
  if (what.what->completion) // without stream management the socket is all the proof there is
    home_.complete(what.what->completion, modules::outcome::acknowledged);
  total.bytes += what.what->cost();
  ++total.messages;
}

/// What stream management says after the stanzas of a turn. At most `control_bound` bytes.
constexpr std::size_t control_bound = 96;
char* connection::put_control(char* out) {
  auto put = [&](std::string_view text) { out = std::copy(text.begin(), text.end(), out); };
  if (std::exchange(tells_, false)) {
    put("<a xmlns='urn:xmpp:sm:3' h='");
    out = std::to_chars(out, out + 10, handled_).ptr;
    put("'/>");
  }
  if (std::exchange(asks_, false))
    put("<r xmlns='urn:xmpp:sm:3'/>");
  return out;
}

void connection::flush() {
  is_dirty_ = false;
  if (is_closed_)
    return;
  net::error_code ec;
  released total;
  if (backlog_) {
    render_queue();
    auto& b = *backlog_;
    char control[control_bound];
    b.bytes.append(control, put_control(control));
    while (b.sent < b.bytes.size() && !ec) {
      auto n = socket_.write_some(b.bytes.data() + b.sent, b.bytes.size() - b.sent, ec);
      b.sent += n;
      home_.count().bytes_out->add(n);
    }
    std::size_t k = 0;
    for (; k < b.marks.size() && b.marks[k].end <= b.sent; ++k)
      written(b.marks[k].what, total);
    b.marks.erase(b.marks.begin(), b.marks.begin() + static_cast<std::ptrdiff_t>(k));
    if (b.sent == b.bytes.size()) {
      backlog_ = nullptr;
    } else if (b.sent > 65'536) {
      b.bytes.erase(0, b.sent);
      for (auto& m : b.marks)
        m.end -= b.sent;
      b.sent = 0;
    }
  } else {
    write_queue(total, ec);
  }
  if (limit_ && total.messages)
    limit_->used.release(total.bytes, total.messages);
  if (ec && ec != net::asio::error::would_block)
    return lost();
  if (backlog_ && !waits_write_) {
    waits_write_ = true;
    socket_.wait_writable([this, &h = home_, me = id()](const net::error_code&) {
      h.guard(me, [&] {
        waits_write_ = false;
        mark_dirty();
      });
    });
  }
  if (is_finishing_ && !backlog_)
    linger();
}

/// A full shared buffer at a time, mostly one.
void connection::write_queue(released& total, net::error_code& ec) {
  auto& buffer = home_.write_buffer;
  std::size_t k = 0;
  while ((k < queue_.size() || tells_ || asks_) && !backlog_) {
    if (k < queue_.size() && xmpp::render_bound(queue_[k]) > buffer.size())
      buffer.resize(xmpp::render_bound(queue_[k])); // one stanza larger than the shared buffer: it grows once, for all
    char* const begin = buffer.data();
    char* out = begin;
    auto left = [&] { return static_cast<std::size_t>(begin + buffer.size() - out); };
    auto first = k;
    for (; k < queue_.size() && xmpp::render_bound(queue_[k]) <= left(); ++k)
      out = xmpp::render(out, queue_[k]);
    if (k == queue_.size() && left() >= control_bound)
      out = put_control(out);
    auto size = static_cast<std::size_t>(out - begin);
    auto n = socket_.write_some(begin, size, ec);
    home_.count().bytes_out->add(n);
    if (ec && ec != net::asio::error::would_block) {
      k = first; // never written: take_unwritten() has them
      break;
    }
    if (n < size)
      keep_unsent({begin, size}, n, first, k, total);
    else
      for (auto j = first; j < k; ++j)
        written(queue_[j], total);
  }
  home_.count().stanzas_out->add(k);
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(k));
  if (backlog_)
    render_queue();
  if (queue_.empty()) {
    queued_bytes_ = 0;
    if (queue_.capacity() > 0)
      home_.spare(std::move(queue_));
    queue_ = {};
  }
}

/// The socket took `n` of `bytes`, which are queue_[first, last): keeps the bytes, and whose they are.
void connection::keep_unsent(std::string_view bytes, std::size_t n, std::size_t first, std::size_t last, released& total) {
  backlog_ = std::make_unique<backlog>();
  backlog_->bytes = bytes;
  backlog_->sent = n;
  std::size_t end = 0;
  for (auto j = first; j < last; ++j) { // where each one ends: rendered again, this is rare
    std::string one(xmpp::render_bound(queue_[j]), '\0');
    end += static_cast<std::size_t>(xmpp::render(one.data(), queue_[j]) - one.data());
    if (end <= n)
      written(queue_[j], total);
    else
      backlog_->marks.push_back({end, std::move(queue_[j])});
  }
}

std::vector<xmpp::delivery> connection::take_unwritten() {
  std::vector<xmpp::delivery> all;
  std::uint32_t bytes = 0;
  auto take = [&](xmpp::delivery& d) {
    if (d.is_managed) // its session has it
      return;
    bytes += d.what->cost();
    all.push_back(std::move(d));
  };
  if (backlog_ && !backlog_->marks.empty()) {
    auto& b = *backlog_;
    auto last = b.marks.back().end;
    // of what is begun its receiver may see all: twice is better than never
    auto committed = b.sent + socket_.must_repeat();
    auto part = std::ranges::find_if(b.marks, [&](auto& m) { return m.end >= committed; });
    auto begun = committed == 0 ? 0 : part == b.marks.end() ? last : part->end;
    b.bytes.erase(begun, last - begun);
    for (auto& m : b.marks)
      take(m.what);
  }
  for (auto& d : queue_)
    take(d);
  if (backlog_)
    backlog_->marks.clear();
  queue_.clear();
  queued_bytes_ = 0;
  if (limit_ && !all.empty())
    limit_->used.release(bytes, static_cast<std::uint32_t>(all.size()));
  return all;
}

// --- the end

void connection::finish() {
  if (is_closed_ || is_finishing_)
    return;
  is_finishing_ = true;
  partial_ = nullptr;
  mark_dirty();
  goodbye_ = std::make_unique<net::timer>(home_.loop().after(std::chrono::seconds{5}, [this] { abort(); }));
}

/// All is written: say so to the transport, then wait for the peer's end, so that unread input does
/// not turn our last words into a reset.
void connection::linger() {
  socket_.shutdown();
  home_.loop().arm(*goodbye_, std::chrono::seconds{2}, [this] { abort(); });
  read_more();
}

/// Behind what was read before, which is on the lane: an ack, or a last message.
void connection::lost() {
  if (!is_closed_)
    home_.post<connection>(home_.index(), id(), [](connection& self) { self.abort(); });
}

void connection::abort() {
  if (std::exchange(is_closed_, true))
    return;
  socket_.close();
  partial_ = nullptr;
  if (stream_)
    stream_->on_lost(); // ends both
  home_.end(*this);
}

void connection::on_crash(std::string_view) {
  if (stream_)
    stream_->close(xmpp::stream_errc::internal_server_error);
  else
    abort();
}

} // namespace actors
