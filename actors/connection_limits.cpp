// How many connections an address may have, how fast, how silent and how dense each may be.
#include "actors/connection.hpp"
#include "actors/node.hpp"
#include "actors/session.hpp"
#include "actors/stream.hpp"

namespace actors {

namespace {
base::metrics::counter& refused_for_clients() {
  static auto& all = base::metrics::make_counter("covey_connections_refused_total", "Connections that were closed because of where they come from.", {{"reason", "clients"}});
  return all;
}
base::metrics::counter& reads_delayed() {
  static auto& all = base::metrics::make_counter("covey_reads_delayed_total", "Times that a connection was over its rate and not read for a while.");
  return all;
}
base::metrics::counter& reads_for_links() {
  static auto& all = base::metrics::make_counter("covey_reads_waiting_total", "Times that a connection was not read for a while because too much waited for the node that it sends to.");
  return all;
}
base::metrics::counter& peers_silent() {
  static auto& all = base::metrics::make_counter("covey_connections_silent_total", "Connections closed because a ping had no answer.");
  return all;
}
} // namespace

// --- limits and rates

void connection::raise_limits() {
  is_logged_in_ = true;
  auto& node = home_.around();
  if (node.settings().clients_per_address == 0)
    return place_.give_up();
  if (place_.move_to(node.clients()))
    return;
  refused_for_clients().add();
  base::log::warning("connection.too_many", "its address has too many clients: the stream is closed", {{"stream", std::to_string(log_id())}, {"peer", socket_.peer()}});
  home_.post<stream>(home_.index(), stream_id_, [](stream& s) { s.close(xmpp::stream_errc::policy_violation, "too many connections from this address"); });
}

void connection::shape() {
  auto& node = home_.around();
  auto peer = socket_.peer_endpoint();
  auto by_address = peer ? node.rates().of(net::key_of(*peer), home_.now()) : nullptr;
  auto& limits = node.settings();
  auto by_listener = how_.is_shaped ? limits.listener_rates : net::rates{};
  shaping_ = std::make_unique<shaping>(shaping{{by_listener, std::move(by_address), limits.address_rates}, {}});
}

void connection::set_rates(const net::rates* r) {
  if (!r) {
    bool was_held = is_held();
    shaping_ = nullptr;
    if (was_held)
      go_on();
  } else if (*r) {
    if (!shaping_)
      shape();
    shaping_->rules.set_account(*r);
  }
}

void connection::charge(std::uint64_t bytes, std::uint64_t stanzas) {
  auto& s = *shaping_;
  auto wait = s.rules.take(bytes, stanzas, home_.now());
  if (wait <= base::duration::zero())
    return;
  if (!std::exchange(s.holds, true))
    reads_delayed().add();
  home_.loop().arm(s.again, wait, [this] {
    shaping_->holds = false;
    go_on();
  });
}

// --- links to other nodes

/// What has been read goes on: it is in the lane already.
void connection::wait_for_link(cluster::peer_number to) {
  if (waits_for_link() || is_closed_ || is_finishing_ || !home_.around().is_link_crowded(to))
    return;
  waits_for_ = to;
  reads_for_links().add();
  home_.wait_for_link(id(), to);
}

void connection::on_link_room() {
  waits_for_ = cluster::self;
  go_on();
}

// --- silence

void connection::begin_watch() {
  auto* s = home_.find<session>(session_);
  if (!s)
    return;
  auto& k = s->at_host()->keepalive;
  using enum keepalive::means;
  if (k.by == tcp || k.by == whitespace)
    socket_.watch_peer(k.by == tcp ? k.interval : std::chrono::seconds{0}, k.timeout);
  if (k.by == whitespace || k.by == ping) {
    heard_ = home_.watch.now();
    home_.watch.put(id(), k.interval);
  }
}

void connection::on_watch() {
  auto* s = is_closed_ || is_finishing_ ? nullptr : home_.find<session>(session_);
  if (!s)
    return;
  auto& k = s->at_host()->keepalive;
  if (is_held()) // it may speak, we do not listen
    heard_ = home_.watch.now();
  std::chrono::seconds silent{home_.watch.now() - heard_};
  if (is_asked_ && silent > k.timeout)
    return give_up_on_peer();
  is_asked_ = false;
  if (silent < k.interval)
    return home_.watch.put(id(), k.interval - silent);
  if (k.by == keepalive::means::whitespace) {
    send(" ");
    heard_ = home_.watch.now(); // the kernel says if it does not arrive
    return home_.watch.put(id(), k.interval);
  }
  is_asked_ = true;
  s->ping_client();
  home_.watch.put(id(), k.timeout);
}

/// RFC 6120 section 4.9.3.4, for whoever may read it still. To the session this is a lost connection.
void connection::give_up_on_peer() {
  peers_silent().add();
  base::log::info("connection.silent", "a ping had no answer: the connection is taken for dead", {{"stream", std::to_string(log_id())}, {"peer", socket_.peer()}});
  send(xmpp::to_xml(xmpp::stream_errc::connection_timeout) + std::string{xmpp::stream::closing_tag});
  flush();
  if (is_closed_)
    return;
  socket_.shutdown();
  lost();
}

// --- compression

bool connection::prepare_compression() {
  auto& node = home_.around();
  if (is_compressed_)
    return false;
  is_compressed_ = node.compressed_streams.fetch_add(1) < node.settings().compressed && socket_.prepare_compression(node.settings().inflate_ratio);
  if (!is_compressed_)
    --node.compressed_streams;
  return is_compressed_;
}

void connection::start_compression() {
  change_below([this] {
    if (backlog_) // the client does not even read <compressed/>
      return lost();
    socket_.start_compression();
    changes_below_ = false;
    read_more();
  });
}

/// XEP-0138 section 3 for what is broken; a bomb breaks our own rules.
void connection::inflate_failed(const net::error_code& why) {
  if (is_finishing_)
    return lost();
  base::log::warning("connection.inflate_failed", "compressed data was refused", {{"stream", std::to_string(log_id())}, {"peer", socket_.peer()}, {"error", why.message()}});
  if (why == net::make_error_code(net::deflate_errc::too_dense))
    return stream_->close(xmpp::stream_errc::policy_violation, why.message());
  stream_->close(xmpp::stream_errc::undefined_condition, why.message());
}

} // namespace actors
