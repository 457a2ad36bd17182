// XEP-0198 Stream Management 1.6.1, the server's side: what was sent and is not yet acknowledged, the counts, and
// what clients and server say about them. Pure.
#pragma once
#include "base/clock.hpp"
#include "xmpp/element.hpp"
#include "xmpp/errors.hpp"
#include <optional>
#include <span>
#include <vector>

namespace xmpp::stream::management {

inline constexpr std::string_view ns = "urn:xmpp:sm:3";

/// Everything that a session has sent to its client since <enabled/>, until the client's <a/>.
class unacknowledged {
public:
  struct entry {
    delivery what;
    base::time_point since;
    bool is_spooled = false; // stored, or being stored, by the account
    bool may_be_stored = false; // an attempt failed, or nobody knows how it went
  };

  void push(delivery what, base::time_point now) { list_.push_back({std::move(what), now}); }
  /// The client handled `h` of our stanzas, counted modulo 2^32 (section 4). Calls `each(entry&)` for those that are
  /// acknowledged by it, oldest first. False, and nothing happens: it claims more than was sent, or less than before.
  template <class F>
  [[nodiscard]] bool acknowledge(std::uint32_t h, F&& each) {
    std::size_t n = h - acked_;
    if (n > size())
      return false;
    for (; n > 0; --n) {
      each(list_[head_++]);
      ++acked_;
    }
    tidy();
    return true;
  }
  /// As if `h` had been sent and acknowledged: of a session that was elsewhere.
  void begin_at(std::uint32_t h) { acked_ = h; }
  [[nodiscard]] std::uint32_t acknowledged() const { return acked_; }
  /// Whether the client can have handled `h` of them.
  [[nodiscard]] bool covers(std::uint32_t h) const { return h - acked_ <= size(); }
  [[nodiscard]] std::span<entry> entries() { return std::span{list_}.subspan(head_); }
  [[nodiscard]] std::size_t size() const { return list_.size() - head_; }
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// What the next <r/> asks about; for `send-count` of an error.
  [[nodiscard]] std::uint32_t sent() const { return acked_ + static_cast<std::uint32_t>(size()); }

private:
  void tidy() {
    constexpr std::size_t kept_when_idle = 16;
    if (head_ == list_.size()) {
      list_.clear();
      head_ = 0;
      if (list_.capacity() > kept_when_idle)
        std::vector<entry>{}.swap(list_);
    } else if (head_ > list_.size() / 2) {
      list_.erase(list_.begin(), list_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
  }
  std::vector<entry> list_; // from head_ on
  std::size_t head_ = 0;
  std::uint32_t acked_ = 0;
};

/// `<enable/>` (section 3): does the client want to be able to resume, and for how long at most.
struct enable {
  bool resume = false;
  std::optional<std::uint32_t> max_s;
};
/// Malformed values count as absent.
[[nodiscard]] enable parse_enable(const element& e);
/// `<a h=''/>`. Null: not a decimal number below 2^32.
[[nodiscard]] std::optional<std::uint32_t> parse_ack(const element& e);

/// `<enabled/>`; an empty id: without resumption.
[[nodiscard]] std::string enabled_xml(std::string_view id, std::uint32_t max_s);
[[nodiscard]] std::string failed_xml(stanza_errc why, std::optional<std::uint32_t> h = {});
/// The stream error for an ack of what was never sent (section 4), without the closing tag.
[[nodiscard]] std::string handled_too_high_xml(std::uint32_t h, std::uint32_t sent);

} // namespace xmpp::stream::management
