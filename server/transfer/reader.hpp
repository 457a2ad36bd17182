// XEP-0227 Portable Import/Export Format 1.1: the outline of a file, read piece by piece.
#pragma once
#include "base/result.hpp"
#include "xmpp/element.hpp"
#include "xmpp/framer.hpp"
#include <cstdint>
#include <string>
#include <vector>

namespace server::transfer {

inline constexpr std::string_view pie_ns = "urn:xmpp:pie:0";

struct mistake {
  std::uint64_t line = 0; // 0: of no line
  std::string text;
};

/// Feeds a target with hosts, users and what stands below a user, one element at a time. Keeps at most one
/// element (16 MB) in memory. Comments are passed over; DTDs and processing instructions behind the start are
/// refused.
class reader {
public:
  class target {
  public:
    virtual ~target() = default;
    virtual void on_host(const xmpp::element& start, std::uint64_t line) = 0;
    virtual void on_user(const xmpp::element& start, std::uint64_t line) = 0;
    /// A child of the user, or of its <offline-messages/>. `xml`: its bytes.
    virtual void on_child(const xmpp::element& child, std::string_view xml, std::uint64_t line) = 0;
    virtual void on_user_end() = 0;
    /// An element that stands where this format has none.
    virtual void on_unknown(const xmpp::element& what, std::uint64_t line) = 0;
  };
  explicit reader(target& t);

  /// Errors: the file cannot be read on from there.
  [[nodiscard]] base::result<void, mistake> feed(std::string_view bytes);
  /// The file ends here.
  [[nodiscard]] base::result<void, mistake> end();

private:
  enum class step : std::uint8_t { done, needs_more };
  using outcome = base::result<step, mistake>;
  outcome run();
  outcome skip(std::string_view from, std::string_view to);
  outcome close_tag();
  outcome start_tag();
  outcome open_container(std::size_t tag_end);
  outcome leaf();
  [[nodiscard]] std::string_view rest() const { return std::string_view{buffer_}.substr(at_); }
  /// The container that `name` opens here, or nothing.
  [[nodiscard]] bool is_container(std::string_view name) const;
  void consume(std::size_t n);
  mistake at_line(std::string text) const { return {line_, std::move(text)}; }

  target& target_;
  xmpp::framer framer_;
  xmpp::document document_;
  std::string buffer_;
  std::size_t at_ = 0;
  std::uint64_t line_ = 1;
  std::vector<std::string> open_; // server-data, host, user, offline-messages
  bool in_leaf_ = false, is_begun_ = false, is_over_ = false;
};

} // namespace server::transfer
