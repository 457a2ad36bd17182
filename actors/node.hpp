// What all reactors of this process share. Everything here is read-mostly or concurrent by itself.
#pragma once
#include "actors/arriving_sessions.hpp"
#include "actors/ended_sessions.hpp"
#include "actors/host.hpp"
#include "actors/login_limits.hpp"
#include "base/budget.hpp"
#include "base/clock.hpp"
#include "base/random.hpp"
#include "cluster/registry.hpp"
#include "cluster/table.hpp"
#include "net/address_counter.hpp"
#include "net/shaper.hpp"
#include "net/tls_identity.hpp"
#include "xmpp/framer.hpp"
#include <array>
#include <atomic>
#include <map>
#include <shared_mutex>
#include <vector>

namespace actors {

class home;
class peers;

/// Limits and waits that are the same for all hosts (docs/configuration.md).
struct node_settings {
  xmpp::framer_limits before_login = xmpp::framer_limits::before_login();
  xmpp::framer_limits after_login;
  base::budget_limits entity_limits{16'384, 16u << 20, 65'536, 64u << 20};
  base::budget_limits session_limits{4'096, 1u << 20, 16'384, 4u << 20};
  std::uint32_t max_output = 8u << 20; // bytes rendered or queued for one connection
  login_limits::settings logins;
  net::address_counter::limits strangers; // connections that have not logged in
  std::uint32_t clients_per_address = 0;  // connections that have; 0: any number
  net::rates address_rates, listener_rates; // nothing: any rate
  std::uint32_t inflate_ratio = 100;      // of compressed streams
  std::uint32_t compressed = 10'000;      // streams at once
  base::duration login_timeout = std::chrono::seconds{30};
  base::duration entity_idle = std::chrono::seconds{30};
  base::duration drain_timeout = std::chrono::seconds{30};
  base::duration spool_after = std::chrono::milliseconds{500}; // unacknowledged messages are stored then
  base::duration ack_timeout = std::chrono::seconds{60};       // then the connection counts as lost
  base::duration storage_timeout = std::chrono::seconds{5}; // of one read or commit of an entity
  std::uint32_t max_directed_presence = 1'000; // per session
  std::uint32_t idle_entities = 50'000;        // addresses without a session in memory, per reactor
  std::uint32_t keepalive_bytes = 1'024;       // white space between two stanzas
  friend bool operator==(const node_settings&, const node_settings&) = default;
};

class node {
public:
  node(node_settings s, const base::clock& clock, base::random& random)
    : clock_(clock), random_(random), registry_(s.entity_limits, s.idle_entities), logins_(s.logins), strangers_(s.strangers),
      clients_(clients_of(s)), rates_(s.address_rates), session_ids_(since_1970<std::chrono::microseconds>(clock)),
      log_ids_(since_1970<std::chrono::milliseconds>(clock)) {
    change(std::move(s));
  }

  /// Any thread. What it refers to stays as it is as long as the node: take it anew for each decision.
  [[nodiscard]] const node_settings& settings() const { return *settings_.load(std::memory_order_acquire); }
  /// Other limits from now on, for sessions too: but those of what waits for a session are taken when it is
  /// bound, rates when a connection begins. One thread at a time.
  void change(node_settings s) {
    if (!all_settings_.empty() && *all_settings_.back() == s)
      return;
    logins_.change(s.logins);
    strangers_.change(s.strangers);
    clients_.change(clients_of(s));
    rates_.change(s.address_rates);
    registry_.set_most_idle(s.idle_entities);
    all_settings_.push_back(std::make_unique<const node_settings>(std::move(s)));
    settings_.store(all_settings_.back().get(), std::memory_order_release);
  }
  [[nodiscard]] const base::clock& clock() const { return clock_; }
  [[nodiscard]] base::random& random() const { return random_; }
  [[nodiscard]] cluster::registry& registry() { return registry_; }
  [[nodiscard]] cluster::absent_names& absent() { return absent_; }
  [[nodiscard]] ended_sessions& ended() { return ended_; }
  [[nodiscard]] arriving_sessions& arriving() { return arriving_; }
  [[nodiscard]] login_limits& logins() { return logins_; }
  [[nodiscard]] net::address_counter& strangers() { return strangers_; }
  [[nodiscard]] net::address_counter& clients() { return clients_; }
  [[nodiscard]] net::address_rates& rates() { return rates_; }
  [[nodiscard]] net::tls_identity_source& certificates() { return certificates_; }

  /// The other nodes of the cluster. Null: there are none. Set before the first reactor runs.
  [[nodiscard]] actors::peers* peers() const { return peers_; }
  void set_peers(actors::peers* p, std::uint64_t own_bits) {
    peers_ = p;
    session_ids_ = session_ids_ << node_bits | own_bits >> (64 - node_bits);
    session_step_ = 1u << node_bits;
  }

  /// Set up before the first reactor runs.
  void admit(home& h) { homes_.push_back(&h); }
  [[nodiscard]] const std::vector<home*>& homes() const { return homes_; }
  /// Where an address without a session lives.
  [[nodiscard]] std::uint16_t reactor_of(const xmpp::jid& bare) const {
    return static_cast<std::uint16_t>((bare.hash() >> 20) % homes_.size());
  }

  /// Null: not ours. Any thread.
  [[nodiscard]] host_ref find_host(std::string_view domain) const {
    std::shared_lock guard{hosts_mutex_};
    auto i = hosts_.find(domain);
    return i == hosts_.end() ? nullptr : i->second;
  }
  /// Null: no other node serves it alone, as far as this one's configuration says. Any thread.
  [[nodiscard]] host_elsewhere_ref find_elsewhere(std::string_view domain) const {
    std::shared_lock guard{hosts_mutex_};
    auto i = elsewhere_.find(domain);
    return i == elsewhere_.end() ? nullptr : i->second;
  }
  void put_host(host_ref h) {
    std::lock_guard guard{hosts_mutex_};
    hosts_[std::string{h->view.domain->domain()}] = std::move(h);
  }
  /// All at once, instead of those that are there.
  void set_hosts(const std::vector<host_ref>& all, const std::vector<host_elsewhere_ref>& elsewhere = {}) {
    std::map<std::string, host_ref, std::less<>> fresh;
    for (auto& h : all)
      fresh[std::string{h->view.domain->domain()}] = h;
    std::map<std::string, host_elsewhere_ref, std::less<>> others;
    for (auto& h : elsewhere)
      others[h->domain] = h;
    std::lock_guard guard{hosts_mutex_};
    hosts_.swap(fresh); // the old ones are freed behind the lock
    elsewhere_.swap(others);
  }
  [[nodiscard]] std::vector<host_ref> hosts() const {
    std::shared_lock guard{hosts_mutex_};
    std::vector<host_ref> all;
    for (auto& [name, h] : hosts_)
      all.push_back(h);
    return all;
  }

  /// The order of binding, and never given again, not by a later process either: it counts up from the time of start
  /// in microseconds.
  [[nodiscard]] std::uint64_t next_session_id() { return session_ids_.fetch_add(session_step_, std::memory_order_relaxed); }
  /// Of a session that is bound now: close to wall time, in the upper 48 bits milliseconds, never behind what this node
  /// has given out or seen (cluster/hybrid_clock.hpp). Any thread.
  [[nodiscard]] std::uint64_t next_bind_clock() {
    auto wall = since_1970<std::chrono::milliseconds>(clock_) << 16;
    auto last = bind_clock_.load(std::memory_order_relaxed);
    while (!bind_clock_.compare_exchange_weak(last, std::max(last + 1, wall), std::memory_order_relaxed)) {}
    return std::max(last + 1, wall);
  }
  void see_bind_clock(std::uint64_t other) {
    auto last = bind_clock_.load(std::memory_order_relaxed);
    while (last < other && !bind_clock_.compare_exchange_weak(last, other, std::memory_order_relaxed)) {}
  }
  /// For <delay/> (XEP-0203): when, in µs since 1970, a message was sent that its receiver gets only now; 0 where that makes no
  /// difference.
  [[nodiscard]] std::int64_t delayed_since(const xmpp::stanza& what, base::duration wait, base::duration least) const {
    bool is_late = what.kind() == xmpp::stanza_kind::message && wait >= least;
    return is_late ? std::chrono::duration_cast<std::chrono::microseconds>((clock_.wall() - wait).time_since_epoch()).count() : 0;
  }
  /// Says so in a delivery that has waited for so long; not where an earlier wait is known, or its row knows.
  void stamp(xmpp::delivery& d, base::duration wait, base::duration least = std::chrono::seconds{2}) const {
    if (!d.is_stored && !d.delayed_us)
      d.delayed_us = delayed_since(*d.what, wait, least);
  }
  /// For the log: other numbers after a restart, too.
  [[nodiscard]] std::uint64_t next_log_id() { return log_ids_.fetch_add(1, std::memory_order_relaxed); }
  /// Of the ids of sessions that can be resumed.
  [[nodiscard]] const base::siphash_key& resumption_key() const { return resumption_key_; }
  void set_resumption_key(const base::siphash_key& k) { resumption_key_ = k; } // before the first reactor runs
  /// Until then other nodes were away, or this one was: what they have and had to keep, they may send again. Any thread.
  [[nodiscard]] base::time_point together_since() const { return base::time_point{base::duration{together_since_.load(std::memory_order_relaxed)}}; }
  void set_together_since(base::time_point t) { together_since_.store(t.time_since_epoch().count(), std::memory_order_relaxed); }
  /// More waits for some other node than its link should hold (docs/cluster-internals.md). Any thread, as the next two.
  [[nodiscard]] bool has_crowded_links() const { return crowded_links_.load(std::memory_order_relaxed) != 0; }
  /// For that node: clients that send there are not read while this holds.
  [[nodiscard]] bool is_link_crowded(cluster::peer_number n) const {
    return has_crowded_links() && is_crowded_[n].load(std::memory_order_relaxed);
  }
  /// More than all links together should hold: no client is read while this holds.
  [[nodiscard]] bool are_links_full() const { return links_full_.load(std::memory_order_relaxed); }
  /// One thread. What is posted to a home behind this finds it so.
  void set_link_crowded(cluster::peer_number n, bool is) {
    if (is_crowded_[n].exchange(is, std::memory_order_relaxed) != is)
      crowded_links_.fetch_add(is ? 1u : ~0u, std::memory_order_relaxed);
  }
  void set_links_full(bool is) { links_full_.store(is, std::memory_order_relaxed); }
  /// The sessions of an account that are on this node, wherever the account is. Any thread.
  [[nodiscard]] std::vector<cluster::session_row> sessions_here(const xmpp::jid& bare) const;
  [[nodiscard]] std::size_t session_count() const;
  /// Storage operations that entities wait for.
  std::atomic<std::int64_t> operations{0};
  /// Addresses for which something from other nodes waits (actors/moves.hpp).
  std::atomic<std::int64_t> held_from_peers{0};
  std::atomic<std::uint32_t> compressed_streams{0};
  [[nodiscard]] bool is_draining() const { return draining_.load(std::memory_order_relaxed); }
  void drain() { draining_.store(true, std::memory_order_relaxed); }

private:
  static net::address_counter::limits clients_of(const node_settings& s) { return {s.clients_per_address, UINT32_MAX}; }
  template <class Unit>
  static std::uint64_t since_1970(const base::clock& c) {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<Unit>(c.wall().time_since_epoch()).count());
  }

  std::vector<std::unique_ptr<const node_settings>> all_settings_; // all that were ever in force: budgets refer to them
  std::atomic<const node_settings*> settings_{nullptr};
  const base::clock& clock_;
  base::random& random_;
  cluster::registry registry_;
  cluster::absent_names absent_;
  ended_sessions ended_;
  arriving_sessions arriving_;
  login_limits logins_;
  net::address_counter strangers_, clients_;
  net::address_rates rates_;
  net::tls_identity_source certificates_;
  std::vector<home*> homes_;
  mutable std::shared_mutex hosts_mutex_;
  std::map<std::string, host_ref, std::less<>> hosts_;
  std::map<std::string, host_elsewhere_ref, std::less<>> elsewhere_;
  static constexpr unsigned node_bits = 12; // of session ids in a cluster: counters of two nodes must not meet
  std::atomic<std::uint64_t> session_ids_;
  std::uint64_t session_step_ = 1;
  std::atomic<std::uint64_t> bind_clock_{0};
  actors::peers* peers_ = nullptr;
  std::atomic<std::uint64_t> log_ids_;
  base::siphash_key resumption_key_{random_.number(), random_.number()}; // where several nodes are, all have one
  std::atomic<bool> draining_{false}, links_full_{false};
  std::atomic<std::uint32_t> crowded_links_{0};
  std::array<std::atomic<bool>, cluster::most_peers> is_crowded_{}; // by number
  std::atomic<base::duration::rep> together_since_{0};
};

} // namespace actors
