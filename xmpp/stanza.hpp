// A stanza in flight: one exact-size allocation of header and bytes, immutable once it is shared.
#pragma once
#include "base/bytes.hpp"
#include "base/ref.hpp"
#include "xmpp/framer.hpp"
#include "xmpp/jid.hpp"

namespace xmpp {

enum class stanza_type : std::uint8_t {
  none,
  // message (an unknown or absent type is normal: RFC 6121 section 5.2.2)
  normal, chat, groupchat, headline,
  // presence (absent: available; an unknown one is `invalid`)
  available, unavailable, subscribe, subscribed, unsubscribe, unsubscribed, probe,
  // iq (absent or unknown: invalid)
  get, set, result,
  error, invalid,
};

/// The sender's session and the number it gave this stanza: comes back once, with an outcome
/// (docs/delivery.md). No origin: nobody waits.
struct completion_id {
  std::uint64_t session = 0; // slot and generation
  std::uint32_t number = 0;
  std::uint16_t reactor = 0;
  std::uint16_t node = 0;
  explicit operator bool() const { return session != 0; }
  friend bool operator==(const completion_id&, const completion_id&) = default;
};

class stanza;
/// As long as is_unique() its holder may fill in from, to, id and completion; then it is const.
using stanza_ref = base::ref<stanza>;

class stanza : public base::counted<stanza> {
public:
  /// Copies the element. `stream`: language and prefixes of the sender's stream header, written
  /// into the start tag where the element relies on them; null for what the server made.
  /// Throws std::bad_alloc.
  static stanza_ref make(const head& h, std::string_view bytes, const stream_open* stream = nullptr);
  /// Frames `xml`, which this server wrote, of any size. An invalid one is a broken invariant:
  /// std::logic_error, which ends the actor that wrote it and no other.
  static stanza_ref from_xml(std::string_view xml);

  jid_ref from, to;
  completion_id completion;
  base::u128 stanza_id;     // XEP-0359; zero: none
  jid_ref stanza_id_by;     // whose archive or account gave it; null with no id

  [[nodiscard]] const head& tag() const { return head_; }
  [[nodiscard]] stanza_kind kind() const { return head_.kind; }
  [[nodiscard]] stanza_type type() const { return type_; }
  [[nodiscard]] std::string_view bytes() const { return {bytes_, head_.size}; }
  [[nodiscard]] std::string_view at(span s) const { return {bytes_ + s.at, s.size}; } // not decoded
  [[nodiscard]] std::string_view id() const { return at_or_empty(head_.id); }
  [[nodiscard]] std::string_view raw_to() const { return at_or_empty(head_.to); }
  [[nodiscard]] std::string_view raw_from() const { return at_or_empty(head_.from); }
  /// What queues and bounds charge: all of the allocation.
  [[nodiscard]] std::uint32_t cost() const;
  /// is a get or set
  [[nodiscard]] bool is_request() const { return type_ == stanza_type::get || type_ == stanza_type::set; }
  static void destroy(stanza* s);

private:
  stanza() = default;
  [[nodiscard]] std::string_view at_or_empty(span s) const { return s ? at(s) : std::string_view{}; }
  head head_;
  stanza_type type_ = stanza_type::none;
  char bytes_[1];
};

/// One message that several sessions of an account have been given.
struct delivery_share : base::counted<delivery_share> {
  std::atomic<std::uint32_t> holders{0};
  std::atomic<bool> is_settled{false}; // one of them has acknowledged it
  bool is_elsewhere = false;           // this is one of them, the account is on another node
};

/// One stanza on its way to one receiver. `to` replaces the start tag's (broadcasts); mostly null.
struct delivery {
  stanza_ref what;
  jid_ref to = {};
  base::ref<delivery_share> shared = {}; // null: this receiver alone has it
  bool is_copy = false;    // of what another session was sent (XEP-0280): when it is lost, nothing is
  bool is_managed = false; // its session keeps it until its client's ack (XEP-0198)
  bool is_stored = false;  // a row keeps it until it is acknowledged
  bool is_again = false;   // routed again: its receiver may have it
  std::int64_t delayed_us = 0; // when it was sent, if that is long ago: <delay/> says so (XEP-0203)
  std::uint8_t hops = 0;       // nodes that have passed it on because it was not theirs

  /// The receiver has it.
  void settle() const {
    if (shared)
      shared->is_settled.store(true, std::memory_order_relaxed);
  }
  /// The receiver will never have it; once. True: nobody else has it either, so that it must be routed again.
  [[nodiscard]] bool lose() const {
    if (is_copy)
      return false;
    return !shared || (shared->holders.fetch_sub(1, std::memory_order_acq_rel) == 1 && !shared->is_settled.load(std::memory_order_relaxed));
  }
};

/// At least as many bytes as render() writes.
[[nodiscard]] std::size_t render_bound(const delivery& d);
/// Writes the stanza as its receiver gets it: `from` (and `to`) set, namespace declarations and all
/// other attributes kept, payload copied untouched, <stanza-id/> added before the closing tag and
/// forged ones with the same `by` left out, <delay/> where it is late. Returns the end.
char* render(char* out, const delivery& d);
[[nodiscard]] std::string to_string(const delivery& d);
[[nodiscard]] inline std::string to_string(const stanza_ref& s) { return to_string(delivery{s, {}}); }

} // namespace xmpp
